//! Slips of the keyboard that YAML reads as something else, or not at all; and the sections of a
//! file that can still be read if one cannot.
//!
//! Only a file that is wrong is looked at here: what YAML accepts is never changed.

use super::characters::is_invisible;
use super::report::Position;
use super::schema;
use super::syntax::SyntaxError;
use super::tree::{self, YamlNode};

/// Most sections that are left out because of errors of syntax.
const MAX_SECTIONS: usize = 10;
/// Blanks that are tried in the place of a tab.
const TAB_WIDTHS: [usize; 4] = [2, 4, 8, 1];

/// A file that is not YAML, as far as it could be read.
pub(super) struct Rescued {
    /// What is wrong, at least one error.
    pub(super) errors: Vec<SyntaxError>,
    /// The rest; `None` if nothing can be read.
    pub(super) root: Option<YamlNode>,
    /// Top-level keys whose sections were left out.
    pub(super) left_out: Vec<String>,
}

/// Reads a text that has `error`.
pub(super) fn rescue(text: &str, error: SyntaxError) -> Rescued {
    for width in TAB_WIDTHS {
        let (mended, slips) = mend(text, width, true);
        if !slips.is_empty()
            && let Ok(root) = tree::parse(&mended)
        {
            return Rescued { errors: slips, root, left_out: Vec::new() };
        }
    }
    let (mended, mut slips) = mend(text, 2, true);
    if slips.is_empty() {
        return leave_out(text, error);
    }
    // The first error can come from a slip before it.
    let first = match tree::parse(&mended) {
        Err(other) => other,
        Ok(_) => error,
    };
    let rest = leave_out(&mended, first);
    let (root, left_out) = (rest.root, rest.left_out);
    if root.is_some() {
        slips.extend(rest.errors);
    }
    Rescued { errors: slips, root, left_out }
}

/// As [`rescue`], for a text that YAML accepts and the schema does not: only what a key cannot
/// mean.
pub(super) fn rescue_keys(text: &str) -> Option<Rescued> {
    let (mended, errors) = mend(text, 2, false);
    let root = tree::parse(&mended).ok().flatten().filter(|_| !errors.is_empty())?;
    Some(Rescued { errors, root: Some(root), left_out: Vec::new() })
}

/// Leaves sections with errors out, as long as that helps.
fn leave_out(text: &str, error: SyntaxError) -> Rescued {
    let (mut rest, mut errors, mut left_out) = (text.to_owned(), vec![error], Vec::new());
    while let Some(error) = errors.last().filter(|_| errors.len() <= MAX_SECTIONS) {
        let Some((shorter, keys, next)) = without_section_of(&rest, error.at.line) else { break };
        left_out.extend(keys);
        match next {
            Ok(root) => return Rescued { errors, root, left_out },
            Err(next) => errors.push(next),
        }
        rest = shorter;
    }
    errors.truncate(1);
    Rescued { errors, root: None, left_out: Vec::new() }
}

type Parsed = Result<Option<YamlNode>, SyntaxError>;

/// Blanks the section of a line, or the one before it, which the error may come from. It must make
/// the text valid up to the next section at least.
fn without_section_of(text: &str, line: usize) -> Option<(String, Vec<String>, Parsed)> {
    let starts: Vec<(usize, &str)> =
        text.lines().enumerate().filter_map(|(index, line)| Some((index, top_level_key(line)?))).collect();
    let own = starts.iter().rposition(|(index, _)| *index < line)?;
    let end_of = |section: usize| starts.get(section + 1).map_or(usize::MAX, |(index, _)| *index);
    let mut best: Option<(String, Vec<String>, Parsed)> = None;
    for section in [Some(own), own.checked_sub(1)].into_iter().flatten() {
        let (start, _) = starts.get(section)?;
        let lines = text.lines().enumerate().filter(|(index, _)| (*start..end_of(section)).contains(index));
        let lines: Vec<&str> = lines.map(|(_, line)| line).collect();
        // What repeats an anchor of this section would be wrong without it, and a second document
        // is no section.
        if lines.iter().any(|line| line.contains('&') || line.starts_with("---")) {
            continue;
        }
        // A key that slipped to the right is one of a section too.
        let keys = lines.iter().filter_map(|line| top_level_key(line.strip_prefix(' ').unwrap_or(line)));
        let keys = keys.map(str::to_owned).collect();
        let blank = |(index, line): (usize, &'_ str)| {
            if (*start..end_of(section)).contains(&index) { "\n".to_owned() } else { line.to_owned() }
        };
        let shorter: String = text.split_inclusive('\n').enumerate().map(blank).collect();
        let parsed = tree::parse(&shorter);
        let first_wrong = |parsed: &Parsed| match parsed {
            Ok(_) => usize::MAX,
            Err(error) if error.spreads || error.at.line <= end_of(own) => 0,
            Err(error) => error.at.line,
        };
        let reaches = first_wrong(&parsed);
        if reaches > best.as_ref().map_or(0, |(_, _, before)| first_wrong(before)) {
            best = Some((shorter, keys, parsed));
        }
    }
    best
}

/// The key of a line that begins a section.
fn top_level_key(line: &str) -> Option<&str> {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
    let (key, rest) = line.split_at_checked(end)?;
    (!key.is_empty() && rest.trim_start().starts_with([':', '：'])).then_some(key)
}

/// Finds the slips of a text, and writes what was meant. `has_syntax_error` is whether YAML refuses
/// the text.
fn mend(text: &str, tab_width: usize, has_syntax_error: bool) -> (String, Vec<SyntaxError>) {
    let (mut mended, mut slips) = (String::with_capacity(text.len()), Vec::new());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let line = line.strip_prefix('\u{feff}').filter(|_| index == 0).unwrap_or(line);
        let end = line.find(|c| !is_blank(c)).unwrap_or(line.len());
        let (indent, rest) = line.split_at_checked(end).unwrap_or_default();
        if rest.trim().is_empty() || rest.starts_with('#') {
            mended.push_str(line);
            continue;
        }
        let is_slip = |c: char| c != ' ' && (has_syntax_error || c != '\t');
        if let Some(column) = indent.chars().position(is_slip) {
            slips.extend(slip_of_indent(indent, index + 1, column + 1, &slips));
        }
        indent
            .chars()
            .for_each(|c| mended.push_str(&" ".repeat(if c == '\t' { tab_width } else { width(c) })));
        let rest = mend_key(rest, indent.chars().count(), index + 1, has_syntax_error, &mut slips);
        mended.push_str(&rest);
    }
    (mended, slips)
}

/// Reports the first line of each kind of indentation that is wrong.
fn slip_of_indent(indent: &str, line: usize, column: usize, before: &[SyntaxError]) -> Option<SyntaxError> {
    let (reason, hint) = if indent.contains('\t') {
        ("there is a tab in the indentation", "indent with spaces")
    } else {
        (
            "there is a blank in the indentation that is not a space of YAML",
            "indent with the space of the keyboard; input methods and web pages write others",
        )
    };
    let is_new = before.iter().all(|slip| slip.reason != reason);
    is_new.then(|| SyntaxError::new(Position { line, column }, reason, hint))
}

/// Mends the colon after a key.
fn mend_key(
    text: &str,
    before: usize,
    line: usize,
    has_syntax_error: bool,
    slips: &mut Vec<SyntaxError>,
) -> String {
    let mut start = 0;
    while text.get(start..).is_some_and(|rest| rest.starts_with("- ")) {
        start += 2;
    }
    let (dashes, entry) = text.split_at_checked(start).unwrap_or_default();
    let end = entry.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(entry.len());
    let (key, rest) = entry.split_at_checked(end).unwrap_or_default();
    let at = Position { line, column: before + start + end + 1 };
    if key.is_empty() {
        return text.to_owned();
    }
    if let Some(value) = rest.strip_prefix('：') {
        slips.push(SyntaxError::new(
            at,
            "`：` is not the colon of YAML",
            "switch the input method to English, and write `:` and a space",
        ));
        return format!("{dashes}{key}: {value}");
    }
    let value = rest.strip_prefix(':').filter(|value| !value.starts_with([' ', '\t', '\r', '\n', ':']));
    match value.filter(|value| !value.is_empty() && has_syntax_error && is_key(key)) {
        Some(value) => {
            slips.push(SyntaxError::new(at, "there is no space after this `:`", "write a space after it"));
            format!("{dashes}{key}: {value}")
        }
        None => text.to_owned(),
    }
}

/// Whether any section has a key of this name.
fn is_key(name: &str) -> bool {
    schema::keys().iter().any(|key| key.name == name)
}

/// A blank, of YAML or not.
fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t' || c == '\u{3000}' || is_invisible(c)
}

const fn width(blank: char) -> usize {
    match blank {
        '\u{3000}' => 2,
        '\u{200b}'..='\u{200f}' | '\u{feff}' => 0,
        _ => 1,
    }
}
