//! Checks the texts that have a format, and shows values in messages.

use std::net::SocketAddr;
use std::str::FromStr;

use super::value::{self, InvalidValue};
use super::{ByteSize, Duration, Rate};

/// Whether a text is written as `format` of the schema wants it; a format unknown here holds any text.
pub(super) fn check(format: &str, text: &str) -> Result<(), InvalidValue> {
    match format {
        "time-span" => Duration::from_str(text).map(drop),
        "byte-size" => ByteSize::from_str(text).map(drop),
        "rate" => Rate::from_str(text).map(drop),
        "ip-network" => value::network(text).map(drop),
        "socket-address" => SocketAddr::from_str(text).map(drop).map_err(|_| InvalidValue(format!(
            "`{text}` is not an IP address with a port: write such as `127.0.0.1:8080`, `0.0.0.0:8080`, `[::]:8080`"
        ))),
        _ => Ok(()),
    }
}

/// How a format is called in a message.
pub(super) fn noun(format: &str) -> Option<&'static str> {
    match format {
        "time-span" => Some("a duration"),
        "byte-size" => Some("a size"),
        "rate" => Some("a rate"),
        "ip-network" => Some("an address or CIDR block"),
        "socket-address" => Some("an IP address with a port"),
        _ => None,
    }
}

/// A value as a message may show it: bounded, and without characters that move a terminal.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = text.chars().take(MOST).flat_map(escaped).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (plain, escape) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escape.into_iter().flatten())
}
