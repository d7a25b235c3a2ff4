//! The JOSE header of our tokens (RFC 7515 §4.1): one shape, written once for each key.

use base64::Engine as _;
use serde::Deserialize;

use super::encoding::{BASE64URL, parse_object};
use crate::config::TokenType;

/// The name of a type in headers: RFC 9068 §2.1, RFC 7519 §5.1.
pub(super) const fn type_name(token_type: TokenType) -> &'static str {
    match token_type {
        TokenType::AtJwt => "at+jwt",
        TokenType::Jwt => "JWT",
    }
}

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
    /// Parses a decoded header; `None` if it is not one of a token of this type. Another JWT that a
    /// key of ours signed is not accepted as an access token.
    pub(super) fn parse(json: &[u8], token_type: TokenType) -> Option<Self> {
        parse_object(json).filter(|header: &Self| {
            // `at+jwt` is the stricter of the two: tokens that were minted before a change go on.
            header.typ == type_name(TokenType::AtJwt) || header.typ == type_name(token_type)
        })
    }
}

/// The encoded header of every token of a type that a key signs.
///
/// `kid` must consist of characters that JSON never escapes.
pub(super) fn encode_header(token_type: TokenType, alg: &str, kid: &str) -> String {
    let typ = type_name(token_type);
    BASE64URL.encode(format!(r#"{{"typ":"{typ}","alg":"{alg}","kid":"{kid}"}}"#))
}
