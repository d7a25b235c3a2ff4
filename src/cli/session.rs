//! `menshen session`: lists and ends sessions. The commands of `menshen person` have an older
//! spelling here.

use std::path::Path;

use bytes::Bytes;
use clap::{ArgGroup, Args, Subcommand};
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::CommandOutcome;
use super::control::{ANSWER_TIMEOUT, ask};
use super::person::PersonChange;
use super::table::{format_list, unreadable_answer};

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List the sessions of a person: menshen session list --app shop --openid o6_bmj…
    List(ListArgs),
    /// End sessions: at once on this node, within a second on every other node
    Revoke(RevokeArgs),
    #[command(flatten)]
    Person(PersonChange),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("person").args(["app", "unionid", "user"]).required(true))]
pub(super) struct ListArgs {
    /// The app's name in the configuration
    #[arg(long, value_name = "NAME", requires = "openid")]
    app: Option<String>,
    /// The person's id within the app
    #[arg(long, value_name = "OPENID", requires = "app")]
    openid: Option<String>,
    /// The person's id across apps
    #[arg(long, value_name = "UNIONID")]
    unionid: Option<String>,
    /// The id of your user: every person who is bound to it
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("scope").args(["session", "app", "unionid", "user", "opened_before"]).required(true))]
#[command(group = ArgGroup::new("who").args(["openid", "all"]))]
pub(super) struct RevokeArgs {
    /// The session's id, from `menshen session list`
    #[arg(value_name = "SESSION")]
    session: Option<String>,
    /// The app's name in the configuration; with `--openid` or `--all`
    #[arg(long, value_name = "NAME", requires = "who")]
    app: Option<String>,
    /// The person's id within the app
    #[arg(long, value_name = "OPENID", requires = "app")]
    openid: Option<String>,
    /// All users of the app
    #[arg(long, requires = "app")]
    all: bool,
    /// The person's id across apps
    #[arg(long, value_name = "UNIONID")]
    unionid: Option<String>,
    /// The id of your user: every person who is bound to it
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// All sessions that were opened before this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "INSTANT")]
    opened_before: Option<String>,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
}

impl SessionCommand {
    pub(super) fn run(&self, config: &Path) -> CommandOutcome {
        let (request, json) = match self {
            Self::List(list) => (list.request(), list.json),
            Self::Revoke(revoke) => (revoke.request(), revoke.json),
            Self::Person(change) => return change.run(config),
        };
        let answer = match ask(config, request, ANSWER_TIMEOUT) {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        match self {
            _ if json => CommandOutcome::answer(String::from_utf8_lossy(&answer)),
            Self::Revoke(_) => format_revocation(&answer),
            _ => format_sessions(&answer),
        }
    }
}

impl ListArgs {
    fn request(&self) -> http::Result<Request<Bytes>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let names =
            [("app", &self.app), ("openid", &self.openid), ("unionid", &self.unionid), ("user", &self.user)];
        for (name, value) in names {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        Request::get(format!("/sessions?{}", query.finish())).body(Bytes::new())
    }
}

impl RevokeArgs {
    fn request(&self) -> http::Result<Request<Bytes>> {
        let mut scope = Map::new();
        for (name, value) in [
            ("session", &self.session),
            ("app", &self.app),
            ("openid", &self.openid),
            ("unionid", &self.unionid),
            ("user", &self.user),
            ("opened_before", &self.opened_before),
        ] {
            if let Some(value) = value {
                scope.insert(name.into(), value.as_str().into());
            }
        }
        if self.all {
            scope.insert("all".into(), true.into());
        }
        let body = Value::Object(scope).to_string();
        Request::post("/sessions/revoke").header(CONTENT_TYPE, "application/json").body(body.into())
    }
}

fn format_revocation(answer: &[u8]) -> CommandOutcome {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return unreadable_answer() };
    match answer.get("ended") {
        Some(Value::Null) => CommandOutcome::answer("ended"),
        Some(Value::Number(count)) if count.as_u64() == Some(1) => CommandOutcome::answer("ended 1 session"),
        Some(Value::Number(count)) => CommandOutcome::answer(format!("ended {count} sessions")),
        _ => unreadable_answer(),
    }
}

fn format_sessions(answer: &[u8]) -> CommandOutcome {
    const COLUMNS: &[(&str, &str)] = &[
        ("SESSION", "id"),
        ("APP", "app"),
        ("OPENED", "created_at"),
        ("LAST SEEN", "last_seen_at"),
        ("ENDS", "expires_at"),
        ("DEVICE", "device"),
    ];
    format_list(answer, "sessions", COLUMNS, "no sessions")
}

#[cfg(test)]
mod tests {
    use super::super::FAILED;
    use super::*;

    #[test]
    fn table_lines_up_and_prints_no_control_characters() {
        let answer = r#"{"sessions":[
            {"id":"s1","app":"shop","created_at":"2026-11-21T10:00:00Z","last_seen_at":"2026-11-21T10:00:00Z","expires_at":"2026-12-21T10:00:00Z","device":"iPhone"},
            {"id":"session-2","created_at":"2026-11-21T10:00:00.5Z","last_seen_at":"x","expires_at":"y","device":"a\u001b[2Jb"}
        ]}"#;

        let outcome = format_sessions(answer.as_bytes());

        assert_eq!(
            outcome.answer,
            "SESSION    APP   OPENED                  LAST SEEN             ENDS                  DEVICE\n\
             s1         shop  2026-11-21T10:00:00Z    2026-11-21T10:00:00Z  2026-12-21T10:00:00Z  iPhone\n\
             session-2  -     2026-11-21T10:00:00.5Z  x                     y                     a\u{fffd}[2Jb"
        );
    }

    #[test]
    fn unreadable_answer_is_a_failure() {
        for answer in ["", "{}", "[]", "null", "<html>", r#"{"ended":"all"}"#, r#"{"sessions":{}}"#] {
            assert_eq!(format_revocation(answer.as_bytes()).code, FAILED, "{answer}");
            assert_eq!(format_sessions(answer.as_bytes()).code, FAILED, "{answer}");
        }
    }

    #[test]
    fn empty_list_is_not_a_failure() {
        let outcome = format_sessions(br#"{"sessions":[]}"#);

        assert_eq!(
            (outcome.answer.as_str(), outcome.messages.as_str(), outcome.code),
            ("", "no sessions", 0)
        );
    }
}
