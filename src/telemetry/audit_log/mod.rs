//! The audit log: sign-ins and sign-outs of users, refused requests with the reason, and actions of
//! operators.
//!
//! Each event is one line of JSON, in a file of its own. `line_log` writes the lines.
//! [`AuditLogEntry`] defines the fields, and its callers fill them in; `docs/request-log.md`
//! explains them to the operator.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use prometheus::IntCounter;

use super::line_log::{self, Line, LineLog, LogTraits, REQUESTS_LINGER, key};
use crate::clock::Timestamp;
use crate::config::{self, Findings};

const TRAITS: LogTraits = LogTraits { log: "audit log", thread: "audit-log", linger: REQUESTS_LINGER };

/// The audit log. Dropping it writes what is left.
#[derive(Debug, Default)]
pub struct AuditLog {
    /// `None` if no file is configured.
    lines: Option<LineLog>,
}

/// The kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// A user tried to sign in.
    Login,
    /// A refresh token was refused.
    Refresh,
    /// A user signed out.
    Logout,
    /// A request was refused because its caller is not authorized or not authenticated.
    Refusal,
    /// A tunnel was closed because its user is no longer allowed.
    TunnelClosed,
    /// Another request under way was cut off for the same reason.
    RequestCut,
    /// Sessions, blocked users, or the binding of a user were listed.
    Listing,
    /// Sessions were ended.
    Revocation,
    /// A user was blocked.
    Block,
    /// A user was unblocked.
    Unblock,
    /// A WeChat identity was bound to a user.
    Bind,
    /// Such a binding was removed.
    Unbind,
    /// A person was erased.
    Erasure,
    /// The configuration was loaded again.
    Reload,
    /// A copy of the store was written.
    Backup,
    /// What the limits counted of an address was forgotten.
    ThrottleLift,
    /// A program called WeChat's API.
    WeChatApi,
}

impl AuditEvent {
    /// Every event, in order.
    pub const ALL: [Self; 17] = [
        Self::Login,
        Self::Refresh,
        Self::Logout,
        Self::Refusal,
        Self::TunnelClosed,
        Self::RequestCut,
        Self::Listing,
        Self::Revocation,
        Self::Block,
        Self::Unblock,
        Self::Bind,
        Self::Unbind,
        Self::Erasure,
        Self::Reload,
        Self::Backup,
        Self::ThrottleLift,
        Self::WeChatApi,
    ];

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::Refusal => "refusal",
            Self::TunnelClosed => "tunnel_closed",
            Self::RequestCut => "request_cut",
            Self::Listing => "listing",
            Self::Revocation => "revocation",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
            Self::Erasure => "erasure",
            Self::Reload => "reload",
            Self::Backup => "backup",
            Self::ThrottleLift => "throttle_lift",
            Self::WeChatApi => "wechat_api",
        }
    }
}

/// One event in the log. Fields that are `None` are left out.
///
/// Holds no token, no code, no openid and no unionid, so that none can be logged.
#[derive(Clone, Copy, Debug)]
pub struct AuditLogEntry<'a> {
    /// When the event happened; for a request, when it arrived.
    pub timestamp: Timestamp,
    /// The kind of event.
    pub event: AuditEvent,
    /// The outcome: one word, the same as in the access log if the request has a line there.
    pub outcome: &'a str,
    /// The request's id, as in the access log.
    pub request_id: Option<&'a str>,
    /// The client's address.
    pub client_address: Option<IpAddr>,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// Name of the app, or the id that an operator gave for an app that is no longer configured.
    pub app: Option<&'a str>,
    /// Keyed hash of the user that the event is about, as in the access log.
    pub subject: Option<&'a str>,
    /// Keyed hash of the user of the business that a person was bound to.
    pub bound_user: Option<&'a str>,
    /// The door that an operator or a program of the business came through.
    pub door: Option<&'a str>,
    /// The name of the operator or program.
    pub requester: Option<&'a str>,
    /// What was named: a user, an app, a session.
    pub scope: Option<&'a str>,
    /// The id of the session that was named.
    pub session: Option<&'a str>,
    /// How many sessions were listed or ended.
    pub count: Option<u64>,
    /// The configured prefix of the path of WeChat's API that was called.
    pub api_path: Option<&'a str>,
    /// WeChat's errcode; 0 if there is none.
    pub errcode: Option<&'a str>,
}

impl<'a> AuditLogEntry<'a> {
    /// An event with no other field set.
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
            bound_user: None,
            door: None,
            requester: None,
            scope: None,
            session: None,
            count: None,
            api_path: None,
            errcode: None,
        }
    }

    /// Appends the line, with its line feed.
    fn render(&self, buffer: &mut Vec<u8>) {
        let mut line = Line { buffer };
        line.timestamp(self.timestamp);
        line.text(key!("event"), self.event.as_str());
        line.text(key!("outcome"), self.outcome);
        line.optional_text(key!("request_id"), self.request_id);
        if let Some(address) = self.client_address {
            line.address(key!("client.address"), address);
        }
        line.optional_text(key!("http.route"), self.route);
        line.optional_text(key!("app"), self.app);
        line.optional_text(key!("user.hash"), self.subject);
        line.optional_text(key!("bound_user.hash"), self.bound_user);
        line.optional_text(key!("door"), self.door);
        line.optional_text(key!("caller"), self.requester);
        line.optional_text(key!("scope"), self.scope);
        line.optional_text(key!("session.id"), self.session);
        if let Some(count) = self.count {
            line.number(key!("session.count"), count);
        }
        line.optional_text(key!("wechat.path"), self.api_path);
        line.optional_text(key!("wechat.errcode"), self.errcode);
        line.end();
    }

    /// An upper bound of the bytes that [`AuditLogEntry::render`] appends.
    fn longest(&self) -> usize {
        let request = [self.request_id, self.route, self.app, self.subject];
        let order = [self.bound_user, self.door, self.requester, self.scope, self.session];
        let call = [self.api_path, self.errcode];
        let optional = request.into_iter().chain(order).chain(call).flatten();
        line_log::longest(optional.chain([self.event.as_str(), self.outcome]))
    }
}

impl AuditLog {
    /// Opens the file and starts the thread that writes, if a file is configured; problems go to
    /// `findings`.
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
            let path = Some(path.to_path_buf());
            LineLog::start(TRAITS, Box::new(file), path, config.buffer.as_usize(), dropped_lines)
        });
        match started {
            Ok(lines) => Some(Self { lines: Some(lines) }),
            Err(error) => {
                let name = path.display();
                findings
                    .error("telemetry.audit_log.file", format!("`{name}` cannot be written: {error}"))
                    .of_surroundings();
                None
            }
        }
    }

    /// Checks the configuration without opening the file, so that a check never creates one.
    pub fn check(config: &config::AuditLog, findings: &mut Findings) -> bool {
        line_log::check_buffer(config.buffer, "telemetry.audit_log.buffer", findings)
    }

    /// Whether the log is on. If it is off, callers skip work that only the log needs.
    pub const fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line. Never waits for the file.
    pub fn write(&self, entry: &AuditLogEntry<'_>) {
        if let Some(lines) = &self.lines {
            lines.append(entry.longest(), |buffer| entry.render(buffer));
        }
    }

    /// Opens the file again before the next line is written, for an operator who has rotated the
    /// log.
    pub fn reopen(&self) {
        if let Some(lines) = &self.lines {
            lines.reopen();
        }
    }

    /// Waits until the lines added so far are written, two seconds at most. It blocks, so a thread
    /// that serves requests must not call it.
    pub fn flush(&self) {
        if let Some(lines) = &self.lines {
            lines.flush();
        }
    }
}
