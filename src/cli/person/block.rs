//! `menshen person block`, `unblock` and `blocked`.

use bytes::Bytes;
use clap::{ArgGroup, Args};
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::CommandOutcome;
use crate::cli::table::{self, unreadable_answer, without_control_characters};
use crate::server::NamedPerson;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("person").args(["app", "unionid"]).required(true))]
pub(in crate::cli) struct PersonArgs {
    /// The app's name in the configuration
    #[arg(long, value_name = "NAME", requires = "openid")]
    app: Option<String>,
    /// The person's id within the app
    #[arg(long, value_name = "OPENID", requires = "app")]
    openid: Option<String>,
    /// The person's id across apps
    #[arg(long, value_name = "UNIONID")]
    unionid: Option<String>,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// One person, or every person who is bound to a user.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("person").args(["app", "unionid", "user"]).required(true))]
pub(in crate::cli) struct PeopleArgs {
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
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BlockedArgs {
    /// Print the gateway's answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl PeopleArgs {
    /// The user whose people are meant.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The one person, if no user is given.
    pub(super) fn name(&self) -> NamedPerson<'_> {
        let Self { app, openid, unionid, .. } = self;
        NamedPerson { app: app.as_deref(), openid: openid.as_deref(), unionid: unionid.as_deref() }
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names =
            [("app", &self.app), ("openid", &self.openid), ("unionid", &self.unionid), ("user", &self.user)];
        names.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    pub(super) fn request(&self, path: &str) -> http::Result<Request<Bytes>> {
        let names: Map<String, Value> =
            self.names().map(|(name, value)| (name.into(), value.into())).collect();
        let body = Value::Object(names).to_string();
        Request::post(path).header(CONTENT_TYPE, "application/json").body(body.into())
    }

    pub(super) fn look(&self, path: &str) -> http::Result<Request<Bytes>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.names());
        Request::get(format!("{path}?{}", query.finish())).body(Bytes::new())
    }
}

impl PersonArgs {
    pub(super) fn names(&self) -> Map<String, Value> {
        let names = [("app", &self.app), ("openid", &self.openid), ("unionid", &self.unionid)];
        let given = names.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// A request that names the person in its query.
    pub(super) fn query(&self, path: &str) -> http::Result<Request<Bytes>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.names() {
            query.append_pair(name, value.as_str().unwrap_or_default());
        }
        Request::get(format!("{path}?{}", query.finish())).body(Bytes::new())
    }

    #[cfg(test)]
    pub(super) fn for_test(unionid: &str) -> Self {
        Self { app: None, openid: None, unionid: Some(unionid.into()), json: false }
    }
}

pub(super) fn list_request() -> http::Result<Request<Bytes>> {
    Request::get("/people/blocked").body(Bytes::new())
}

pub(super) fn format_change(answer: &[u8], done: &str, already: &str) -> CommandOutcome {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let outcome = match answer.get("changed").and_then(Value::as_bool) {
        Some(true) => CommandOutcome::answer(done),
        Some(false) => CommandOutcome { messages: already.into(), ..CommandOutcome::default() },
        None => return unreadable_answer(),
    };
    match unreached_apps(&answer) {
        Some(unreached) => CommandOutcome { answer: join_lines(&outcome.answer, &unreached), ..outcome },
        None => outcome,
    }
}

/// What a block does not reach: its operator must not believe that the person is out.
fn unreached_apps(answer: &Value) -> Option<String> {
    let names: Vec<String> = answer
        .get("unreached_apps")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .map(without_control_characters)
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "not reached: {}. WeChat gives no unionid of their users, and the person is not known there: \
             block the person there by openid, or write `unknown_unionid: refuse` for these apps",
            names.join(", ")
        )
    })
}

fn join_lines(one: &str, other: &str) -> String {
    if one.is_empty() { other.to_owned() } else { format!("{one}\n{other}") }
}

pub(super) fn format_list(answer: &[u8]) -> CommandOutcome {
    const COLUMNS: &[(&str, &str)] = &[
        ("SINCE", "since"),
        ("UNIONID", "unionid"),
        ("APP", "app"),
        ("APPID", "appid"),
        ("OPENID", "openid"),
        ("ERASED", "erased"),
    ];
    table::format_list(answer, "people", COLUMNS, "no blocked people")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FAILED;

    #[test]
    fn blocked_people_are_printed_in_columns() {
        let answer = r#"{"people":[
            {"unionid":"u1","since":"2026-11-21T10:00:00Z"},
            {"app":"shop","appid":"wx1","openid":"o\u001b1","since":"2026-11-20T10:00:00.5Z"},
            {"erased":"00ff","since":"2026-11-19T10:00:00Z"}
        ]}"#;

        assert_eq!(
            format_list(answer.as_bytes()).answer,
            "SINCE                   UNIONID  APP   APPID  OPENID  ERASED\n\
             2026-11-21T10:00:00Z    u1       -     -      -       -\n\
             2026-11-20T10:00:00.5Z  -        shop  wx1    o\u{fffd}1     -\n\
             2026-11-19T10:00:00Z    -        -     -      -       00ff"
        );
        assert_eq!(format_list(br#"{"people":[]}"#).messages, "no blocked people");
    }

    #[test]
    fn unreadable_answer_is_a_failure() {
        for answer in ["", "{}", "[]", r#"{"changed":1}"#, r#"{"people":{}}"#] {
            assert_eq!(format_change(answer.as_bytes(), "", "").code, FAILED, "{answer}");
            assert_eq!(format_list(answer.as_bytes()).code, FAILED, "{answer}");
        }
        assert_eq!(format_change(br#"{"changed":true}"#, "blocked", "").answer, "blocked");
        let unreached = br#"{"changed":true,"unreached_apps":["account","office"]}"#;
        let outcome = format_change(unreached, "blocked", "");
        assert!(outcome.answer.starts_with("blocked\nnot reached: account, office."), "{}", outcome.answer);
        assert_eq!(
            format_change(br#"{"changed":false}"#, "", "was already blocked").messages,
            "was already blocked"
        );
    }
}
