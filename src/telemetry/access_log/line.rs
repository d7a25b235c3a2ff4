//! What a line says, and how it is written as JSON. `docs/request-log.md` explains every field to its reader.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::clock::Timestamp;

/// Longest text of one field; more is cut off and ends in `…`.
pub(super) const MAX_TEXT_BYTES: usize = 4096;
/// More than everything in a line that is not text: names, numbers, times, addresses.
const MAX_REST_BYTES: usize = 1024;
/// What one byte of text may take: a control character becomes `\u00XX`.
const MAX_ESCAPED_BYTES: usize = 6;

/// One request, as the log tells it. Fields that are `None` are left out.
///
/// Holds no header, no query string, no token and no code, so that none can be logged.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request arrived.
    pub timestamp: Timestamp,
    /// The id the client, the backend and the problem document know the request by.
    pub request_id: &'a str,
    /// Who called, behind trusted proxies.
    pub client_address: IpAddr,
    /// The method, as sent.
    pub method: &'a str,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a str,
    /// The protocol the client spoke.
    pub version: http::Version,
    /// The host asked for, as sent.
    pub host: Option<&'a str>,
    /// The path: canonical, or as sent when it was refused for not being so. A query string is cut off.
    pub path: &'a str,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// `forwarded`, `answered` or `refused`.
    pub decision: &'a str,
    /// Why; one word out of a fixed list.
    pub reason: &'a str,
    /// The status sent; 0, which is left out, when nothing was.
    pub status: u16,
    /// Name of the app the request belongs to.
    pub app: Option<&'a str>,
    /// Keyed hash of who is signed in; never the openid.
    pub subject: Option<&'a str>,
    /// Name of the upstream.
    pub upstream: Option<&'a str>,
    /// The server that answered, or was tried last.
    pub upstream_address: Option<SocketAddr>,
    /// From the request's header to the answer's end.
    pub duration: Duration,
    /// The upstream's part of it.
    pub upstream_duration: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

impl Entry<'_> {
    /// Appends the line, with its line feed.
    pub(super) fn render(&self, buffer: &mut Vec<u8>) {
        let mut line = Line { buffer };
        line.timestamp(self.timestamp);
        line.text("request_id", self.request_id);
        line.display("client.address", self.client_address);
        line.text("http.request.method", self.method);
        line.text("url.scheme", self.scheme);
        line.text("network.protocol.version", protocol_version(self.version));
        line.optional_text("server.address", self.host);
        line.text("url.path", without_query(self.path));
        line.optional_text("http.route", self.route);
        line.text("decision", self.decision);
        line.text("reason", self.reason);
        if self.status != 0 {
            line.number("http.response.status_code", self.status.into());
        }
        line.optional_text("app", self.app);
        line.optional_text("user.hash", self.subject);
        line.optional_text("upstream.name", self.upstream);
        if let Some(address) = self.upstream_address {
            line.display("upstream.address", address);
        }
        line.millis("duration_ms", self.duration);
        if let Some(duration) = self.upstream_duration {
            line.millis("upstream.duration_ms", duration);
        }
        line.number("http.request.body.size", self.request_bytes);
        line.number("http.response.body.size", self.response_bytes);
        line.end();
    }

    /// No less than the bytes [`Entry::render`] will append.
    pub(super) fn longest(&self) -> usize {
        let required =
            [self.request_id, self.method, self.scheme, self.path, self.decision, self.reason].map(Some);
        let optional = [self.host, self.route, self.app, self.subject, self.upstream];
        let texts = required.into_iter().chain(optional).flatten();
        let bytes: usize = texts.map(|text| text.len().min(MAX_TEXT_BYTES)).sum();
        MAX_REST_BYTES + MAX_ESCAPED_BYTES * bytes
    }
}

/// One JSON object being written: `timestamp` opens it, `end` closes it.
struct Line<'b> {
    buffer: &'b mut Vec<u8>,
}

impl Line<'_> {
    /// RFC 3339, UTC, milliseconds.
    fn timestamp(&mut self, timestamp: Timestamp) {
        let (year, month, day) = timestamp.date();
        let second = timestamp.seconds() % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        self.raw(b"{\"timestamp\":\"");
        let mut separator = b"".as_slice();
        for (number, width, next) in [
            (year, 4, b"-".as_slice()),
            (month, 2, b"-"),
            (day, 2, b"T"),
            (hour, 2, b":"),
            (minute, 2, b":"),
            (second, 2, b"."),
            (timestamp.millis() % 1000, 3, b"Z\""),
        ] {
            self.raw(separator);
            self.padded(number, width);
            separator = next;
        }
        self.raw(separator);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.raw(b"\"");
        let (text, rest) = text.split_at(text.floor_char_boundary(MAX_TEXT_BYTES));
        self.escaped(text);
        if !rest.is_empty() {
            self.raw("…".as_bytes());
        }
        self.raw(b"\"");
    }

    fn optional_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A value whose text needs no escaping: an address.
    fn display(&mut self, key: &str, value: impl Display) {
        self.key(key);
        // Writing into memory does not fail.
        _ = write!(self.buffer, "\"{value}\"");
    }

    fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        self.padded(number, 1);
    }

    /// Milliseconds with three decimals.
    fn millis(&mut self, key: &str, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1000);
        self.raw(b".");
        self.padded(micros % 1000, 3);
    }

    fn end(&mut self) {
        self.raw(b"}\n");
    }

    /// Keys are written in this file and need no escaping.
    fn key(&mut self, key: &str) {
        self.raw(b",\"");
        self.raw(key.as_bytes());
        self.raw(b"\":");
    }

    /// Escapes what JSON requires and whatever a terminal or a line reader would act upon.
    fn escaped(&mut self, text: &str) {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
            self.raw(text.as_bytes());
            return;
        }
        for character in text.chars() {
            match character {
                '"' | '\\' => self.raw(&[b'\\', character as u8]),
                _ if acts_on_its_reader(character) => _ = write!(self.buffer, "\\u{:04x}", character as u32),
                _ => self.raw(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn padded(&mut self, number: u64, width: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number);
        (digits.len()..width).for_each(|_| self.raw(b"0"));
        self.raw(digits.as_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

/// Control characters (among them U+0085 and U+009B), line and paragraph separators, and the marks that reverse what
/// follows them on a screen.
fn acts_on_its_reader(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The caller gives a path alone; should a query string slip through, a code or a token in it goes no further.
fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn protocol_version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "0.9",
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "unknown",
    }
}
