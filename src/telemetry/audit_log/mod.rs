//! The audit log: who signed in and out, who was turned away and why, and what operators did.
//!
//! One line of JSON for each, in a file of its own. How lines are written is `line_log`'s. What a line says is
//! [`AuditLogEntry`]'s to define and the caller's to fill in; `docs/request-log.md` explains it to its reader.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use prometheus::IntCounter;

use super::line_log::{self, Line, LineLog};
use crate::clock::Timestamp;
use crate::config::{self, Findings};

/// What the log is called where it is spoken of, and its thread.
const NAMES: line_log::LogNames = line_log::LogNames { log: "audit log", thread: "audit-log" };

/// The audit log. Dropping it writes what is left.
#[derive(Debug, Default)]
pub struct AuditLog {
    /// None when no file is configured.
    lines: Option<LineLog>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// Somebody tried to sign in.
    Login,
    /// A refresh token was refused.
    Refresh,
    /// Somebody signed out.
    Logout,
    /// A request was refused for who made it, or for want of knowing who.
    Refusal,
    /// A tunnel was closed, its person being let in no more.
    TunnelClosed,
    /// An operator looked at sessions, at who is blocked, or at whom somebody is bound to.
    Listing,
    /// An operator ended sessions.
    Revocation,
    /// An operator blocked somebody.
    Block,
    /// An operator let somebody in again.
    Unblock,
    /// An operator bound somebody to a user.
    Bind,
    /// An operator ended such a binding.
    Unbind,
}

impl AuditEvent {
    /// Every event, in order.
    pub const ALL: [Self; 11] = [
        Self::Login,
        Self::Refresh,
        Self::Logout,
        Self::Refusal,
        Self::TunnelClosed,
        Self::Listing,
        Self::Revocation,
        Self::Block,
        Self::Unblock,
        Self::Bind,
        Self::Unbind,
    ];

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::Refusal => "refusal",
            Self::TunnelClosed => "tunnel_closed",
            Self::Listing => "listing",
            Self::Revocation => "revocation",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
        }
    }
}

/// One event, as the log tells it. Fields that are `None` are left out.
///
/// Holds no token, no code, no openid and no unionid, so that none can be logged.
#[derive(Clone, Copy, Debug)]
pub struct AuditLogEntry<'a> {
    /// When it happened; of a request, when it arrived.
    pub timestamp: Timestamp,
    /// What happened.
    pub event: AuditEvent,
    /// How it ended: one word, that of the access log where the request has a line there.
    pub outcome: &'a str,
    /// The request's id, as in the access log.
    pub request_id: Option<&'a str>,
    /// Who asked for it.
    pub client_address: Option<IpAddr>,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// Name of the app; an operator may name one by its id that is no longer configured.
    pub app: Option<&'a str>,
    /// Keyed hash of the person it is about, as in the access log.
    pub subject: Option<&'a str>,
    /// Whose sessions an operator meant.
    pub scope: Option<&'a str>,
    /// The id of the one session an operator meant.
    pub session: Option<&'a str>,
    /// How many sessions were shown or ended.
    pub count: Option<u64>,
}

impl<'a> AuditLogEntry<'a> {
    /// An event of which nothing else is known.
    pub const fn new(timestamp: Timestamp, event: AuditEvent, outcome: &'a str) -> Self {
        Self {
            timestamp,
            event,
            outcome,
            request_id: None,
            client_address: None,
            route: None,
            app: None,
            subject: None,
            scope: None,
            session: None,
            count: None,
        }
    }

    /// Appends the line, with its line feed.
    fn render(&self, buffer: &mut Vec<u8>) {
        let mut line = Line { buffer };
        line.timestamp(self.timestamp);
        line.text("event", self.event.as_str());
        line.text("outcome", self.outcome);
        line.optional_text("request_id", self.request_id);
        if let Some(address) = self.client_address {
            line.display("client.address", address);
        }
        line.optional_text("http.route", self.route);
        line.optional_text("app", self.app);
        line.optional_text("user.hash", self.subject);
        line.optional_text("scope", self.scope);
        line.optional_text("session.id", self.session);
        if let Some(count) = self.count {
            line.number("session.count", count);
        }
        line.end();
    }

    /// No less than the bytes [`AuditLogEntry::render`] will append.
    fn longest(&self) -> usize {
        let optional = [self.request_id, self.route, self.app, self.subject, self.scope, self.session];
        line_log::longest(optional.into_iter().flatten().chain([self.event.as_str(), self.outcome]))
    }
}

impl AuditLog {
    /// Opens the file and starts the thread that writes, where a file is configured; problems go to `findings`.
    pub fn open(
        config: &config::AuditLog,
        dropped_lines: IntCounter,
        findings: &mut Findings,
    ) -> Option<Self> {
        if !Self::check(config, findings) {
            return None;
        }
        let Some(path) = &config.file else { return Some(Self::default()) };
        let started = line_log::open_file(path).and_then(|file| {
            let path = Some(path.clone());
            LineLog::start(NAMES, Box::new(file), path, config.buffer.as_usize(), dropped_lines)
        });
        match started {
            Ok(lines) => Some(Self { lines: Some(lines) }),
            Err(error) => {
                let name = path.display();
                findings.error("telemetry.audit_log.file", format!("`{name}` cannot be written: {error}"));
                None
            }
        }
    }

    /// Looks for what is wrong without touching the file, so that a check never makes one.
    pub fn check(config: &config::AuditLog, findings: &mut Findings) -> bool {
        line_log::check_buffer(config.buffer, "telemetry.audit_log.buffer", findings)
    }

    /// Whether anybody reads what is written: what takes time to find out is otherwise left alone.
    pub const fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line. Never waits for the file.
    pub fn write(&self, entry: &AuditLogEntry<'_>) {
        if let Some(lines) = &self.lines {
            lines.append(entry.longest(), |buffer| entry.render(buffer));
        }
    }

    /// Opens the file again before the next line is written: for whoever moved the old one away.
    pub fn reopen(&self) {
        if let Some(lines) = &self.lines {
            lines.reopen();
        }
    }

    /// Waits until the lines added so far are written, two seconds at most. Blocks: not for a thread that serves.
    pub fn flush(&self) {
        if let Some(lines) = &self.lines {
            lines.flush();
        }
    }
}
