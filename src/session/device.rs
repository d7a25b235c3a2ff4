//! What a client calls itself, in a few words for a list of sessions: `WeChat 8.0.50 on iPhone`.

/// Longest label, in characters, all of them ASCII.
const LONGEST: usize = 64;
/// Nobody needs more of a header than this to know what it says.
const MOST_READ: usize = 512;

/// Names of clients and the tokens that tell them, the most telling first: Chrome says it is Safari, and all others say
/// they are Chrome.
const CLIENTS: [(&str, &str); 9] = [
    ("MicroMessenger/", "WeChat"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
    ("curl/", "curl"),
];
/// Android says it is Linux, iPhones and iPads say they are like a Mac.
const SYSTEMS: [(&str, &str); 8] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("OpenHarmony", "HarmonyOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// A label for a User-Agent; nothing where it says nothing printable.
pub(super) fn label(user_agent: &str) -> Option<String> {
    // ASCII alone: a label is shown in terminals and consoles, where others can turn the line around.
    let printable = |character: &char| matches!(character, ' '..='~');
    let text: String = user_agent.chars().take(MOST_READ).filter(printable).collect();
    let client = CLIENTS.iter().find_map(|(token, name)| {
        let (_, version) = text.split_once(token)?;
        // The version matters in WeChat, whose features come with it; a browser's says nothing in a list.
        Some(if *name == "WeChat" { named(name, version) } else { (*name).to_owned() })
    });
    let system = SYSTEMS.iter().find(|(token, _)| text.contains(token)).map(|(_, name)| *name);
    let first = || text.split(' ').find(|word| !word.is_empty()).map(str::to_owned);
    let label = match (client.or_else(first)?, system) {
        (client, Some(system)) => format!("{client} on {system}"),
        (client, None) => client,
    };
    Some(label.chars().take(LONGEST).collect())
}

/// A client's name with the first three numbers of its version.
fn named(name: &str, version: &str) -> String {
    let end = version.find(|character: char| !character.is_ascii_digit() && character != '.');
    let version = version.get(..end.unwrap_or(version.len())).unwrap_or_default();
    let numbers: Vec<&str> = version.split('.').filter(|number| !number.is_empty()).take(3).collect();
    if numbers.is_empty() { name.to_owned() } else { format!("{name} {}", numbers.join(".")) }
}
