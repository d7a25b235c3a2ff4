//! A short label for a client in a list of sessions: `WeChat 8.0.50 on iPhone`.

/// Longest label, in characters, all of them ASCII.
const LONGEST: usize = 64;
/// Most characters of the header that are read: more of them say nothing new.
const MOST_READ: usize = 512;

/// The token of each client in a `User-Agent`, and its name. The order matters: Chrome also names
/// Safari, and all others also name Chrome.
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
/// The token of each system, and its name. The order matters: Android also names Linux, and iPhones
/// and iPads also name a Mac.
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

/// The label for a `User-Agent`; `None` if it has no printable character.
pub(super) fn label(user_agent: &str) -> Option<String> {
    // ASCII only: a label is shown in terminals and consoles, where other characters can reverse
    // the line.
    let printable = |character: &char| matches!(character, ' '..='~');
    let text: String = user_agent.chars().take(MOST_READ).filter(printable).collect();
    let client = CLIENTS.iter().find_map(|(token, name)| {
        let (_, version) = text.split_once(token)?;
        // WeChat's features depend on its version; a browser's version does not help in a list.
        Some(if *name == "WeChat" { name_with_version(name, version) } else { (*name).to_owned() })
    });
    let system = SYSTEMS.iter().find(|(token, _)| text.contains(token)).map(|(_, name)| *name);
    let first = || text.split(' ').find(|word| !word.is_empty()).map(str::to_owned);
    let label = match (client.or_else(first)?, system) {
        (client, Some(system)) => format!("{client} on {system}"),
        (client, None) => client,
    };
    Some(label.chars().take(LONGEST).collect())
}

/// The client's name with the first three numbers of its version.
fn name_with_version(name: &str, version: &str) -> String {
    let end = version.find(|character: char| !character.is_ascii_digit() && character != '.');
    let version = version.get(..end.unwrap_or(version.len())).unwrap_or_default();
    let numbers: Vec<&str> = version.split('.').filter(|number| !number.is_empty()).take(3).collect();
    if numbers.is_empty() { name.to_owned() } else { format!("{name} {}", numbers.join(".")) }
}
