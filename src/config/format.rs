//! Checks the texts that have a format.

use std::net::SocketAddr;
use std::str::FromStr;

use super::value::{self, InvalidValue};
use super::{ByteSize, Duration, Rate, paths};

/// Checks that a text has the `format` of the schema. Any text has a format that is not known here.
pub(super) fn check(format: &str, text: &str) -> Result<(), InvalidValue> {
    match format {
        "time-span" => Duration::from_str(text).map(drop),
        "byte-size" => ByteSize::from_str(text).map(drop),
        "rate" => Rate::from_str(text).map(drop),
        "ip-network" => value::network(text).map(drop),
        "socket-address" => SocketAddr::from_str(text).map(drop).map_err(|_| {
            let hint = "write an address such as `127.0.0.1:8080`, `0.0.0.0:8080`, `[::]:8080`";
            InvalidValue::new(text, "is not an IP address with a port", hint)
        }),
        "path" => paths::check(text),
        _ => Ok(()),
    }
}

/// The name of a format in messages.
pub(super) fn noun(format: &str) -> Option<&'static str> {
    match format {
        "time-span" => Some("a duration"),
        "byte-size" => Some("a size"),
        "rate" => Some("a rate"),
        "ip-network" => Some("an address or CIDR block"),
        "socket-address" => Some("an IP address with a port"),
        "path" => Some("a path"),
        _ => None,
    }
}
