//! Just enough of Rust's grammar to see which paths a file names.

use std::collections::BTreeSet;

/// The first names of all paths that begin at the crate, whether by `crate` or by enough of
/// `super`.
pub(super) fn imports(tokens: &[&str], file_depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (position, token) in tokens.iter().enumerate() {
        let begins_path = position == 0 || tokens[position - 1] != "::";
        let mut path = tokens[position..].split(|token| *token == "::");
        let supers = path.by_ref().take_while(|step| *step == ["super"]).count();
        let is_at_crate = match *token {
            "crate" => tokens.get(position + 1) == Some(&"::"),
            "super" => supers >= file_depth + open_modules(&tokens[..position]),
            _ => false,
        };
        if begins_path && is_at_crate {
            let steps = if *token == "crate" { 1 } else { supers };
            found.extend(first_names(&tokens[position + 2 * steps..]));
        }
    }
    // Only modules are lowercase: `crate::Error` would be a root re-export.
    found.retain(|name| name.starts_with(|first: char| first.is_lowercase() || first == '*'));
    found
}

/// How many `mod x {` are not closed yet at the end of this code.
fn open_modules(tokens: &[&str]) -> usize {
    let mut braces = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        match *token {
            "{" => braces.push(position >= 2 && tokens[position - 2] == "mod"),
            "}" => _ = braces.pop(),
            _ => {}
        }
    }
    braces.into_iter().filter(|is_module| *is_module).count()
}

/// The name a path goes on with, or all of them where it goes on with a group.
fn first_names(path: &[&str]) -> Vec<String> {
    let (mut names, mut depth, mut begins_path) = (Vec::new(), 0, true);
    for token in path {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => {}
            name if begins_path && depth <= 1 => names.push(name.to_owned()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        begins_path = depth == 1 && ["{", ","].contains(token);
    }
    names
}

/// Whether a path begins with the crate, or with one whose name continues it after an underscore.
pub(super) fn names_crate(tokens: &[&str], name: &str) -> bool {
    tokens.iter().enumerate().any(|(position, token)| {
        let is_named = token.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        let before = position.checked_sub(1).map(|before| tokens[before]);
        let is_path = tokens.get(position + 1) == Some(&"::");
        is_named && before != Some("::") && (is_path || matches!(before, Some("use" | "crate")))
    })
}

/// Words, `::` and single signs of Rust source, without comments, strings and characters.
pub(super) fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") || rest.starts_with("r##\"") => {
                raw_string_length(rest)
            }
            '\'' => character_length(rest),
            ':' if rest.starts_with("::") => {
                tokens.push("::");
                2
            }
            _ if is_word(first) => {
                let length = rest.find(|sign| !is_word(sign)).unwrap_or(rest.len());
                tokens.push(&rest[..length]);
                length
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(&rest[..first.len_utf8()]);
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (position, sign) in text.char_indices().skip(1) {
        match sign {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return position + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string_length(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|sign| *sign == '#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = 1 + hashes + 1;
    text[begin..].find(&end).map_or(text.len(), |position| begin + position + end.len())
}

/// The length of `'x'` or `'\…'`, or of the quote alone where it begins a lifetime.
fn character_length(text: &str) -> usize {
    let mut signs = text.char_indices().skip(1);
    match (signs.next(), signs.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            text[escaped + 1..].find('\'').map_or(1, |position| escaped + 1 + position + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[test]
fn imports_are_found_in_every_spelling() {
    for (depth, code, expected) in [
        (1, "use crate::config;", &["config"][..]),
        (1, "use crate::config::{Findings, value};", &["config"]),
        (1, "use crate::{config::{self, value}, token, problem::Problem};", &["config", "problem", "token"]),
        (1, "fn f(x: crate::token::Key) -> crate :: config::X {}", &["config", "token"]),
        (1, "use crate::*;", &["*"]),
        (1, "use super::token;", &["token"]),
        (1, "mod tests { use super::token; } use super::config;", &["config"]),
        (1, "mod tests { fn f() {} use super::super::token; }", &["token"]),
        (2, "use super::token; use super::super::config;", &["config"]),
        (2, "mod tests { use super::super::{token::{self, Key}, config}; }", &[]),
        (2, "use super::super::{token::{self, Key}, config};", &["config", "token"]),
        (1, "macro_rules! m { () => { $crate::token::x() } }", &["token"]),
        (1, "// crate::token\n/* crate::config */ /// crate::token", &[]),
        (1, "let s = \"crate::token \\\" crate::config\"; let c = '\"'; use crate::clock;", &["clock"]),
        (1, "let s = r#\"crate::token \" crate::config\"#; let l: &'a str; use crate::clock;", &["clock"]),
        (1, "pub(crate) use other_crate::token; use other::crate_::x;", &[]),
    ] {
        assert_eq!(Vec::from_iter(imports(&tokens(code), depth)), expected, "{code}");
    }
}

#[test]
fn crates_are_found_where_they_are_named() {
    for (code, expected) in [
        ("use pingora::apps::X;", true),
        ("let x = pingora_core::x();", true),
        ("use pingora;", true),
        ("use pingora as p;", true),
        ("extern crate pingora_http;", true),
        ("let target = \"pingora_core::x\"; // pingora::x", false),
        ("let pingora = 1; f(pingora, pingoras::x)", false),
        ("use our::pingora::x;", false),
    ] {
        assert_eq!(names_crate(&tokens(code), "pingora"), expected, "{code}");
    }
}
