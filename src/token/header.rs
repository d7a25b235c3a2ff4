//! The JOSE header of our tokens (RFC 7515 §4.1): one shape, written once for each key.

use base64::Engine as _;
use serde::Deserialize;

use super::encoding::{BASE64URL, parse_object};

/// The `typ` of our tokens, RFC 9068 §2.1. Another JWT that a key of ours signed is not accepted as
/// an access token.
const TOKEN_TYPE: &str = "at+jwt";

/// The header of a token, before its signature is verified.
///
/// Every other member is refused: `crit`, `b64`, and the key references `jku`, `x5u`, `jwk` and
/// `x5c` each change how a token is verified (RFC 7515 §4.1).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: String,
    typ: String,
}

impl Header {
    /// Parses a decoded header; `None` if it is not one of an access token.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        parse_object(json).filter(|header: &Self| header.typ == TOKEN_TYPE)
    }
}

/// The encoded header of every token that a key signs.
///
/// `kid` must consist of characters that JSON never escapes.
pub(super) fn encode_header(alg: &str, kid: &str) -> String {
    BASE64URL.encode(format!(r#"{{"typ":"{TOKEN_TYPE}","alg":"{alg}","kid":"{kid}"}}"#))
}
