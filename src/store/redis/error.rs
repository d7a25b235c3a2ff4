//! Errors of Redis in the gateway's words. Messages have the code of an error, never its text,
//! which can quote keys and values.

use std::fmt;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// An error, and its cause, which decides what the engine does about it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    pub(super) cause: Cause,
}

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No answer in time: the connection is suspect, and so is the server.
    Late,
    /// The connection broke, or there is none.
    Connection,
    /// The server answered that it does not accept writes now: ask again which server does.
    WrongServer,
    /// The step was not made: the cluster is moving slots, and will soon name the right server.
    NotMade,
    /// The step was not made: the server needs the code of the script.
    UnknownScript,
    /// The server does not allow this step. Other steps may succeed.
    Step,
    /// The server refuses all writes for now.
    Refused,
}

impl Failure {
    pub(super) fn unavailable(cause: Cause, reason: impl fmt::Display) -> Self {
        Self { error: StoreError::Unavailable(Arc::from(reason.to_string())), cause }
    }

    /// No answer came within the operation's time limit.
    pub(super) fn late() -> Self {
        Self::unavailable(Cause::Late, "no answer in time")
    }

    /// The answer is not of the kind that the command returns.
    pub(super) fn unexpected() -> Self {
        Self { error: StoreError::Damaged("unexpected kind of answer".into()), cause: Cause::Step }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        if code == "WRONGTYPE" {
            return Self {
                error: StoreError::Damaged("a key of the gateway holds another type".into()),
                cause: Cause::Step,
            };
        }
        if error.detail().is_some_and(|detail| detail.contains("not an integer")) {
            return Self {
                error: StoreError::Damaged("a counter holds no number".into()),
                cause: Cause::Step,
            };
        }
        Self::unavailable(cause(&error), describe(&error))
    }
}

fn cause(error: &RedisError) -> Cause {
    use ServerErrorKind as Kind;
    match error.kind() {
        ErrorKind::Server(Kind::NoScript) => Cause::UnknownScript,
        ErrorKind::Server(Kind::Moved | Kind::Ask | Kind::TryAgain) => Cause::NotMade,
        ErrorKind::ClusterConnectionNotFound => Cause::NotMade,
        ErrorKind::Server(Kind::ReadOnly | Kind::BusyLoading | Kind::MasterDown) => Cause::WrongServer,
        ErrorKind::Server(Kind::NoPerm | Kind::ResponseError) => Cause::Step,
        _ => match error.code() {
            // The server broke off a wait for replicas, or no longer knows the gateway's login.
            Some("UNBLOCKED" | "NOAUTH") => Cause::WrongServer,
            Some(_) => Cause::Refused,
            None => Cause::Connection,
        },
    }
}

/// Describes an error without any text that comes from a client or a user.
pub(super) fn describe(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        // These texts come from the gateway or the operating system.
        ErrorKind::Io | ErrorKind::InvalidClientConfig if !detail.is_empty() => detail.to_owned(),
        ErrorKind::Io => error.to_string(),
        ErrorKind::Parse => "the answer is not in the Redis protocol".into(),
        ErrorKind::AuthenticationFailed => format!("authentication failed{}", quoted_code(detail)),
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            let known = [
                ("WAITAOF cannot", "`durability.fsync` needs `appendonly yes`"),
                ("nknown command", "a command is unknown: the server may be older than Redis 6.2"),
                ("nknown Redis command", "a command is unknown: the server may be older than Redis 6.2"),
                ("max number of clients", "too many clients"),
            ];
            let said = known.iter().find(|(text, _)| detail.contains(text));
            format!("ERR {}", said.map_or("(see the log of the server)", |(_, words)| *words))
        }
        _ => match error.code() {
            Some(code) => code.to_owned(),
            None => error.category().to_owned(),
        },
    }
}

/// The code that an answer begins with, such as `WRONGPASS`; empty if there is none.
fn quoted_code(detail: &str) -> String {
    let is_code = |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase());
    let code = detail.split(|c: char| !c.is_ascii_alphanumeric()).find(is_code);
    code.map(|code| format!(": {code}")).unwrap_or_default()
}
