//! `menshen session`: lists and ends sessions, blocks people, and binds them to users, through the
//! admin listener of the gateway on this machine.

mod binding;
mod people;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgGroup, Args, Subcommand};
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value};

use self::binding::BindArgs;
use self::people::{BlockedArgs, PersonArgs};
use super::{CommandOutcome, FAILED, MISUSED};
use crate::admin::client;
use crate::config::Document;

/// Longest wait for an answer. The store makes one read for a listing, and one write for a
/// revocation.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List the sessions of a person: menshen session list --app shop --openid o6_bmj…
    List(ListArgs),
    /// End sessions: at once on this node, within a second on every other node
    Revoke(RevokeArgs),
    /// Block a person: their sessions are not valid, and they cannot sign in
    Block(PersonArgs),
    /// Unblock a person: their sessions are valid again
    Unblock(PersonArgs),
    /// List the blocked people
    Blocked(BlockedArgs),
    /// Bind a person to a user: menshen session bind --app shop --openid o6_bmj… --user 42 --claim
    /// role=editor
    Bind(BindArgs),
    /// Unbind a person from their user
    Unbind(PersonArgs),
    /// Show the user that a person is bound to
    Bound(PersonArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("person").args(["app", "unionid"]).required(true))]
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
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("scope").args(["session", "app", "unionid", "opened_before"]).required(true))]
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
            Self::Block(person) => (person.request("/people/block"), person.json),
            Self::Unblock(person) => (person.request("/people/unblock"), person.json),
            Self::Blocked(blocked) => (people::list_request(), blocked.json),
            Self::Bind(bind) => (bind.request(), bind.person.json),
            Self::Unbind(person) => (person.request("/people/unbind"), person.json),
            Self::Bound(person) => (binding::show_request(person), person.json),
        };
        let answer = match send(config, request) {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        match self {
            _ if json => CommandOutcome::answer(String::from_utf8_lossy(&answer)),
            Self::List(_) => format_sessions(&answer),
            Self::Revoke(_) => format_revocation(&answer),
            Self::Block(_) => people::format_change(&answer, "blocked", "was already blocked"),
            Self::Unblock(_) => people::format_change(&answer, "unblocked", "was not blocked"),
            Self::Blocked(_) => people::format_list(&answer),
            Self::Bind(_) => people::format_change(&answer, "bound", "was already bound to this user"),
            Self::Unbind(_) => people::format_change(&answer, "unbound", "was not bound"),
            Self::Bound(_) => binding::format_binding(&answer),
        }
    }
}

impl ListArgs {
    fn request(&self) -> http::Result<Request<Bytes>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("app", &self.app), ("openid", &self.openid), ("unionid", &self.unionid)] {
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

/// The body of the running gateway's answer, or the failure of the command.
fn send(config: &Path, request: http::Result<Request<Bytes>>) -> Result<Bytes, CommandOutcome> {
    let document =
        Document::load(config).map_err(|report| CommandOutcome::failure(MISUSED, report.to_string()))?;
    let server = connectable_address(document.config.admin.address);
    if server.port() == 0 {
        let message = "menshen: `admin.address` has port 0, so the gateway's port is not known";
        return Err(CommandOutcome::failure(MISUSED, message));
    }
    let failed = |message: String| CommandOutcome::failure(FAILED, format!("menshen: {message}"));
    let mut request = request.map_err(|error| failed(format!("cannot build the request: {error}")))?;
    if let Ok(host) = server.to_string().parse() {
        request.headers_mut().insert(HOST, host);
    }
    let threads = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start threads: {error}")))?;
    let response = threads
        .block_on(client::send(server, request, TIMEOUT))
        .map_err(|error| failed(describe_failure(server, &error)))?;
    if response.status() == StatusCode::OK {
        return Ok(response.into_body());
    }
    Err(refusal(&response))
}

/// The address to connect to: loopback, if the gateway listens on every address.
fn connectable_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn describe_failure(server: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!(
            "no gateway listens on {server}, the `admin.address` of the configuration: is the gateway running, with this file?"
        ),
        io::ErrorKind::TimedOut => {
            format!("the gateway at {server} did not answer within {} s", TIMEOUT.as_secs())
        }
        _ => format!("cannot reach the gateway at {server}: {error}"),
    }
}

/// The gateway's refusal. A 400 means that the command was wrong.
fn refusal(response: &Response<Bytes>) -> CommandOutcome {
    let problem: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(Value::as_str).map(without_control_characters);
    let said = text("detail").or_else(|| text("code")).unwrap_or_else(|| "no reason is given".into());
    let code = if response.status() == StatusCode::BAD_REQUEST { MISUSED } else { FAILED };
    CommandOutcome::failure(
        code,
        format!("menshen: the gateway answered {}: {said}", response.status().as_u16()),
    )
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
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let Some(sessions) = answer.get("sessions").and_then(Value::as_array) else { return unreadable_answer() };
    if sessions.is_empty() {
        return CommandOutcome { messages: "no sessions".into(), ..CommandOutcome::default() };
    }
    CommandOutcome::answer(format_columns(COLUMNS, sessions))
}

/// Objects as lines of text. Each column has a title and the key of its values.
fn format_columns(columns: &[(&str, &str)], objects: &[Value]) -> String {
    let mut rows = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
    rows.extend(objects.iter().map(|object| {
        let cell = |key| {
            object.get(key).and_then(Value::as_str).map_or_else(|| "-".into(), without_control_characters)
        };
        columns.iter().map(|(_, key)| cell(key)).collect()
    }));
    let mut widths = vec![0; columns.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            _ = write!(line, "{cell:width$}  ");
        }
        _ = writeln!(text, "{}", line.trim_end());
    }
    text.trim_end().to_owned()
}

/// The text without control characters: they can change what a terminal shows.
fn without_control_characters(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn unreadable_answer() -> CommandOutcome {
    CommandOutcome::failure(FAILED, "menshen: cannot read the gateway's answer: is it of another version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_every_address_is_reached_through_loopback() {
        for (address, expected) in [
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("[::]:9901", "[::1]:9901"),
            ("127.0.0.1:9901", "127.0.0.1:9901"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(connectable_address(address.parse().unwrap()).to_string(), expected);
        }
    }

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
