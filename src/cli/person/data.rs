//! `menshen person show`, `export`, `erase` and `list`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Request;
use serde_json::{Map, Value, json};

use super::CommandOutcome;
use super::block::PeopleArgs;
use crate::cli::control::ask;
use crate::cli::table::{format_columns, unreadable_answer};

/// Longest wait for an answer for which every row is read.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub(in crate::cli) struct PersonListArgs {
    /// The id of your user; without it, every binding
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn show(people: &PeopleArgs, config: &Path) -> CommandOutcome {
    let answer = ask(config, people.look("/people/show"), TIMEOUT);
    answer.map_or_else(|outcome| outcome, |answer| formatted(people.json, &answer, format_person))
}

pub(super) fn export(people: &PeopleArgs, config: &Path) -> CommandOutcome {
    match ask(config, people.look("/people/show"), TIMEOUT) {
        Ok(answer) => CommandOutcome::answer(String::from_utf8_lossy(&answer)),
        Err(outcome) => outcome,
    }
}

pub(super) fn erase(people: &PeopleArgs, config: &Path) -> CommandOutcome {
    let answer = ask(config, people.request("/people/erase"), TIMEOUT);
    answer.map_or_else(|outcome| outcome, |answer| formatted(people.json, &answer, format_erasure))
}

pub(super) fn list(list: &PersonListArgs, config: &Path) -> CommandOutcome {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(list.user.iter().map(|user| ("user", user)));
    let query = query.finish();
    let path = if query.is_empty() { "/people/bindings".into() } else { format!("/people/bindings?{query}") };
    let answer = ask(config, Request::get(path).body(Bytes::new()), TIMEOUT);
    answer.map_or_else(|outcome| outcome, |answer| formatted(list.json, &answer, format_bindings))
}

fn formatted(json: bool, answer: &[u8], format: fn(&Value) -> Option<CommandOutcome>) -> CommandOutcome {
    if json {
        return CommandOutcome::answer(String::from_utf8_lossy(answer));
    }
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    format(&answer).unwrap_or_else(unreadable_answer)
}

fn format_person(answer: &Value) -> Option<CommandOutcome> {
    const APPS: &[(&str, &str)] = &[
        ("APP", "app"),
        ("APPID", "appid"),
        ("OPENID", "openid"),
        ("UNIONID", "unionid"),
        ("NICKNAME", "nickname"),
        ("SESSIONS", "sessions"),
    ];
    const BLOCKS: &[(&str, &str)] =
        &[("BLOCKED SINCE", "since"), ("APPID", "appid"), ("OPENID", "openid"), ("UNIONID", "unionid")];
    let list = |key: &str| answer.get(key).and_then(Value::as_array);
    let (apps, bindings, blocks) = (list("apps")?, list("bindings")?, list("blocks")?);
    let mut tables = Vec::new();
    if !apps.is_empty() {
        let rows: Vec<Value> = apps.iter().map(with_count).collect::<Option<_>>()?;
        tables.push(format_columns(APPS, &rows));
    }
    if !bindings.is_empty() {
        tables.push(bindings_table(bindings)?);
    }
    if !blocks.is_empty() {
        tables.push(format_columns(BLOCKS, blocks));
    }
    let messages = unreadable_rows(answer)?;
    if tables.is_empty() {
        return Some(CommandOutcome {
            messages: format!("nothing is known{messages}"),
            ..Default::default()
        });
    }
    let answer = tables.join("\n\n");
    Some(CommandOutcome {
        messages: messages.trim_start_matches("; ").into(),
        ..CommandOutcome::answer(answer)
    })
}

/// An app with the number of sessions in the place of the sessions.
fn with_count(app: &Value) -> Option<Value> {
    let mut app: Map<String, Value> = app.as_object()?.clone();
    let count = app.get("sessions")?.as_array()?.len();
    app.insert("sessions".into(), count.to_string().into());
    Some(Value::Object(app))
}

fn format_bindings(answer: &Value) -> Option<CommandOutcome> {
    let bindings = answer.get("bindings")?.as_array()?;
    if bindings.is_empty() {
        return Some(CommandOutcome { messages: "no person is bound".into(), ..Default::default() });
    }
    Some(CommandOutcome::answer(bindings_table(bindings)?))
}

fn bindings_table(bindings: &[Value]) -> Option<String> {
    const COLUMNS: &[(&str, &str)] = &[
        ("USER", "user"),
        ("CLAIMS", "claims"),
        ("SINCE", "since"),
        ("APPID", "appid"),
        ("OPENID", "openid"),
        ("UNIONID", "unionid"),
    ];
    let row = |binding: &Value| {
        let claims = binding.get("claims")?.as_object()?;
        let mut text = String::new();
        for (name, value) in claims {
            // Writing to a string cannot fail.
            _ = write!(text, "{name}={} ", value.as_str()?);
        }
        let claims = Some(text.trim_end()).filter(|text| !text.is_empty());
        let mut row = binding.as_object()?.clone();
        row.insert("claims".into(), json!(claims));
        Some(Value::Object(row))
    };
    let rows: Vec<Value> = bindings.iter().map(row).collect::<Option<_>>()?;
    Some(format_columns(COLUMNS, &rows))
}

fn format_erasure(answer: &Value) -> Option<CommandOutcome> {
    let count = |key: &str| answer.get(key).and_then(Value::as_u64);
    let (apps, sessions, bindings, blocks) =
        (count("apps")?, count("sessions")?, count("bindings")?, count("blocks")?);
    let mut said = format!("erased: {apps} openids, {sessions} sessions, {bindings} bindings");
    if blocks > 0 {
        _ = write!(said, "; {blocks} blocks stay, as keyed hashes");
    }
    let mut messages = unreadable_rows(answer)?;
    if !answer.get("reclaimed")?.as_bool()? {
        messages.push_str("; the old bytes are in the file until the gateway has compacted it");
    }
    Some(CommandOutcome {
        messages: messages.trim_start_matches("; ").into(),
        ..CommandOutcome::answer(said)
    })
}

fn unreadable_rows(answer: &Value) -> Option<String> {
    Some(match answer.get("unreadable_rows")?.as_u64()? {
        0 => String::new(),
        count => {
            format!("; {count} rows cannot be read and may be of this person: run `menshen store verify`")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FAILED;

    #[test]
    fn a_person_is_printed_in_tables() {
        let answer = json!({
            "apps": [{"app": "shop", "appid": "wx1", "openid": "o1", "nickname": "a\u{1b}b", "sessions": [{}, {}]}],
            "bindings": [{"unionid": "u1", "user": "42", "claims": {"role": "editor"}, "since": "s"}],
            "blocks": [],
            "unreadable_rows": 1,
        });

        let outcome = format_person(&answer).unwrap();

        assert_eq!(
            outcome.answer,
            "APP   APPID  OPENID  UNIONID  NICKNAME  SESSIONS\n\
             shop  wx1    o1      -        a\u{fffd}b       2\n\n\
             USER  CLAIMS       SINCE  APPID  OPENID  UNIONID\n\
             42    role=editor  s      -      -       u1"
        );
        assert!(outcome.messages.starts_with("1 rows cannot be read"), "{}", outcome.messages);
        let nothing = json!({"apps": [], "bindings": [], "blocks": [], "unreadable_rows": 0});
        assert_eq!(format_person(&nothing).unwrap().messages, "nothing is known");
    }

    #[test]
    fn an_erasure_says_what_is_gone_and_what_stays() {
        let answer = |reclaimed: bool| json!({"apps": 2, "sessions": 3, "bindings": 1, "blocks": 1, "reclaimed": reclaimed, "unreadable_rows": 0});

        let outcome = format_erasure(&answer(true)).unwrap();

        let said = "erased: 2 openids, 3 sessions, 1 bindings; 1 blocks stay, as keyed hashes";
        assert_eq!((outcome.answer.as_str(), outcome.messages.as_str()), (said, ""));
        assert!(format_erasure(&answer(false)).unwrap().messages.contains("old bytes"));
    }

    #[test]
    fn unreadable_answer_is_a_failure() {
        for format in [format_person, format_erasure, format_bindings] {
            for answer in ["", "{}", "[]", r#"{"apps":{}}"#, r#"{"bindings":[{}]}"#] {
                assert_eq!(formatted(false, answer.as_bytes(), format).code, FAILED, "{answer}");
            }
        }
    }
}
