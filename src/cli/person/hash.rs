//! `menshen person hash`: asks the gateway, which writes the question to the audit log. If none
//! runs, the command hashes with the same key, for a search in the logs of a gateway that is gone.

use std::path::Path;

use serde_json::{Value, json};

use super::CommandOutcome;
use super::block::PeopleArgs;
use crate::cli::control::{ANSWER_TIMEOUT, AskError, try_ask};
use crate::cli::table::{unreadable_answer, without_control_characters};
use crate::cli::{FAILED, MISUSED};
use crate::config::Document;
use crate::server::{self, PersonHashError, Sources};

pub(super) fn run(people: &PeopleArgs, config: &Path) -> CommandOutcome {
    match try_ask(config, people.look("/people/hash"), ANSWER_TIMEOUT) {
        Ok(answer) if people.json => CommandOutcome::answer(String::from_utf8_lossy(&answer)),
        Ok(answer) => format_hashes(&answer),
        Err(AskError::NoGateway(_)) if people.user().is_none() => hash_here(people, config),
        Err(error) => error.into_outcome(),
    }
}

/// Hashes with the key of the configuration or of the data directory.
fn hash_here(people: &PeopleArgs, config: &Path) -> CommandOutcome {
    let document = match Document::load(config) {
        Ok(document) => document,
        Err(report) => return CommandOutcome::failure(MISUSED, report.to_string()),
    };
    let hashes = match server::hash_person(&document, people.name(), &Sources::default()) {
        Ok(hashes) => hashes,
        Err(error @ PersonHashError::Keys(_)) => {
            return CommandOutcome::failure(FAILED, error.to_string());
        }
        Err(error) => return CommandOutcome::failure(MISUSED, format!("menshen: {error}")),
    };
    let hash = hashes.first().map(String::as_str).unwrap_or_default();
    if people.json {
        let scope = if people.name().unionid.is_some() { "unionid" } else { "subject" };
        let answer = json!({ "scope": scope, "hash": hash, "hashes": hashes });
        return CommandOutcome::answer(answer.to_string());
    }
    CommandOutcome::answer(hash)
}

/// The hash of a person on a line, or those of all who are bound to a user.
fn format_hashes(answer: &[u8]) -> CommandOutcome {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |key: &str| answer.get(key).and_then(Value::as_str).map(without_control_characters);
    if let Some(hash) = text("hash") {
        return CommandOutcome::answer(hash);
    }
    let hashes = answer.get("hashes").and_then(Value::as_array);
    let (Some(hashes), Some(of_user)) = (hashes, text("bound_user_hash")) else { return unreadable_answer() };
    let hashes: Vec<String> =
        hashes.iter().filter_map(Value::as_str).map(without_control_characters).collect();
    let none = if hashes.is_empty() { "no person is bound to this user; " } else { "" };
    CommandOutcome {
        messages: format!("{none}the user itself is `{of_user}` in `bound_user.hash`"),
        ..CommandOutcome::answer(hashes.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_the_people_of_a_user_are_printed_one_a_line() {
        let one = br#"{"scope":"subject","hash":"k:01","hashes":["k:01","old:02"]}"#;
        let two = br#"{"scope":"user","hashes":["k:01","k:02"],"bound_user_hash":"k:03"}"#;
        let none = br#"{"scope":"user","hashes":[],"bound_user_hash":"k:03"}"#;

        assert_eq!(format_hashes(one).answer, "k:01");
        assert_eq!(format_hashes(two).answer, "k:01\nk:02");
        assert!(format_hashes(two).messages.contains("`k:03` in `bound_user.hash`"));
        assert!(format_hashes(none).messages.starts_with("no person is bound to this user"));
        for answer in ["", "{}", r#"{"hashes":[]}"#, r#"{"bound_user_hash":"k:03"}"#] {
            assert_eq!(format_hashes(answer.as_bytes()).code, FAILED, "{answer}");
        }
    }
}
