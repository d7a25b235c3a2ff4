//! A line of JSON, written by hand into a buffer.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::address;
use crate::clock::Timestamp;

/// Longest text of one field; more is cut off and ends in `…`.
pub(in crate::telemetry) const MAX_TEXT_BYTES: usize = 4096;
/// An upper bound of everything in a line except text: names, numbers, times, addresses.
const MAX_REST_BYTES: usize = 1024;
/// Most bytes that one byte of text takes: a control character becomes `\u00XX`.
const MAX_ESCAPED_BYTES: usize = 6;

/// An upper bound of the bytes of a line with these texts.
pub(in crate::telemetry) fn longest<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    let bytes: usize = texts.into_iter().map(|text| text.len().min(MAX_TEXT_BYTES)).sum();
    MAX_REST_BYTES + MAX_ESCAPED_BYTES * bytes
}

/// A key of a line, as it is written: after a comma, and in quotes. Each line has many of them.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(in crate::telemetry) use key;

/// One JSON object being written: `timestamp` opens it, `end` closes it. Keys come from [`key`].
pub(in crate::telemetry) struct Line<'b> {
    pub(in crate::telemetry) buffer: &'b mut Vec<u8>,
}

impl Line<'_> {
    /// RFC 3339, UTC, milliseconds: always three digits, which `time` shortens when they end in 0.
    pub(in crate::telemetry) fn timestamp(&mut self, timestamp: Timestamp) {
        let utc = timestamp.utc();
        let (hour, minute, second) = utc.as_hms();
        let mut text = *b"{\"timestamp\":\"0000-00-00T00:00:00.000Z\"";
        for (number, start, end) in [
            (u64::from(utc.year().unsigned_abs()), 14, 18),
            (u8::from(utc.month()).into(), 19, 21),
            (utc.day().into(), 22, 24),
            (hour.into(), 25, 27),
            (minute.into(), 28, 30),
            (second.into(), 31, 33),
            (timestamp.millis() % 1000, 34, 37),
        ] {
            write_digits(text.get_mut(start..end).unwrap_or_default(), number);
        }
        self.raw(&text);
    }

    pub(in crate::telemetry) fn text(&mut self, key: &str, text: &str) {
        self.raw(key.as_bytes());
        self.raw(b"\"");
        let (text, rest) = text.split_at(text.floor_char_boundary(MAX_TEXT_BYTES));
        self.escaped(text);
        if !rest.is_empty() {
            self.raw("…".as_bytes());
        }
        self.raw(b"\"");
    }

    pub(in crate::telemetry) fn optional_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(in crate::telemetry) fn address(&mut self, key: &str, address: IpAddr) {
        self.raw(key.as_bytes());
        self.raw(b"\"");
        address::push(self.buffer, address);
        self.raw(b"\"");
    }

    /// An address with its port.
    pub(in crate::telemetry) fn socket_address(&mut self, key: &str, address: SocketAddr) {
        self.raw(key.as_bytes());
        self.raw(b"\"");
        if address.is_ipv4() {
            address::push(self.buffer, address.ip());
            self.raw(b":");
            self.padded(address.port().into(), 1);
        } else {
            // A write into memory does not fail.
            _ = write!(self.buffer, "{address}");
        }
        self.raw(b"\"");
    }

    pub(in crate::telemetry) fn number(&mut self, key: &str, number: u64) {
        self.raw(key.as_bytes());
        self.padded(number, 1);
    }

    /// Milliseconds with three decimals.
    pub(in crate::telemetry) fn millis(&mut self, key: &str, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1000);
        self.raw(b".");
        self.padded(micros % 1000, 3);
    }

    pub(in crate::telemetry) fn end(&mut self) {
        self.raw(b"}\n");
    }

    /// Escapes what JSON requires, and the characters that a terminal or a line reader acts upon.
    fn escaped(&mut self, text: &str) {
        // Looks at every byte, instead of ending at the first that is not plain: then the compiler
        // compares many bytes at once.
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        if text.bytes().fold(true, |so_far, byte| so_far & is_plain(byte)) {
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

/// Writes a number over the whole of a text, with zeros before it.
fn write_digits(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        // A remainder of ten fits.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Whether it is a control character (including U+0085 and U+009B), a line or paragraph separator,
/// or a mark that reverses the text after it on a screen.
fn acts_on_its_reader(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
