//! What Redis says when it does not do a thing, in our words: its codes, never its text, which
//! quotes keys and values.

use std::fmt;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// What to do about an error.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    pub(super) cause: Cause,
}

/// What an error says about where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No answer in time: the connection is suspect, and so is the server.
    Late,
    /// The connection broke, or there is none.
    Connection,
    /// The server answered that it is not one to write to, or not now: ask anew who is.
    WrongServer,
    /// The step was not made; a cluster is moving slots, and will soon say where to.
    NotMade,
    /// The step was not made; the server must be shown the script.
    UnknownScript,
    /// The server does not allow this step, whatever becomes of others.
    Step,
    /// The server refuses all writes for now.
    Refused,
}

impl Failure {
    pub(super) fn unavailable(cause: Cause, reason: impl fmt::Display) -> Self {
        Self { error: StoreError::Unavailable(Arc::from(reason.to_string())), cause }
    }

    /// No answer until the operation's time was over.
    pub(super) fn late() -> Self {
        Self::unavailable(Cause::Late, "no answer in time")
    }

    /// An answer of another kind than the command's.
    pub(super) fn unexpected() -> Self {
        Self { error: StoreError::Damaged("unexpected kind of answer".into()), cause: Cause::Step }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        if code == "WRONGTYPE" {
            return Self {
                error: StoreError::Damaged("a key of ours holds another type".into()),
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
            // The server lost the replicas' side of a wait, or forgot who we are.
            Some("UNBLOCKED" | "NOAUTH") => Cause::WrongServer,
            Some(_) => Cause::Refused,
            None => Cause::Connection,
        },
    }
}

/// An error without anything that a client, or a person, brought.
pub(super) fn describe(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        // These are ours, or the operating system's.
        ErrorKind::Io | ErrorKind::InvalidClientConfig if !detail.is_empty() => detail.to_owned(),
        ErrorKind::Io => error.to_string(),
        ErrorKind::Parse => "an answer that is not Redis'".into(),
        ErrorKind::AuthenticationFailed => format!("authentication failed{}", quoted_code(detail)),
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            let known = [
                ("WAITAOF cannot", "`durability.fsync` needs `appendonly yes`"),
                ("nknown command", "a command it does not know: is it older than Redis 6.2?"),
                ("nknown Redis command", "a command it does not know: is it older than Redis 6.2?"),
                ("max number of clients", "too many clients"),
            ];
            let said = known.iter().find(|(text, _)| detail.contains(text));
            format!("ERR {}", said.map_or("(its log may say more)", |(_, words)| *words))
        }
        _ => match error.code() {
            Some(code) => code.to_owned(),
            None => error.category().to_owned(),
        },
    }
}

/// The code an answer begins with, such as `WRONGPASS`, where there is one.
fn quoted_code(detail: &str) -> String {
    let is_code = |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase());
    let code = detail.split(|c: char| !c.is_ascii_alphanumeric()).find(is_code);
    code.map(|code| format!(": {code}")).unwrap_or_default()
}
