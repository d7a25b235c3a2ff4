//! The compact form of a signed token (RFC 7515 §7.1), read strictly: one text, one meaning.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::VerifyError;
use super::key::Key;

use crate::digest::sha256;

/// Longest token looked at; ours are about 500 bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Our tokens' `typ`, RFC 9068 §2.1: no other JWT a key of ours may have signed passes for an access token.
pub(super) const TOKEN_TYPE: &str = "at+jwt";

/// Unpadded base64url that refuses every second spelling of the same bytes: padding, line breaks, stray bits.
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(false),
);

/// A well-formed token whose signature nobody has looked at; its payload is out of reach until then.
pub(super) struct UnverifiedJws<'a> {
    header: Header,
    signed: &'a str,
    payload: Vec<u8>,
    /// In base64url, of the one spelling there is.
    signature: &'a str,
}

/// The header of our tokens.
///
/// Whatever else a header may say is refused unread: `crit`, `b64`, and the key references `jku`, `x5u`, `jwk`
/// and `x5c` each change how a token is verified (RFC 7515 §4.1).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

impl<'a> UnverifiedJws<'a> {
    /// Takes a token apart; nothing of it is true yet.
    pub(super) fn parse(token: &'a str) -> Result<Self, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(VerifyError::Malformed)?;

        let header: Header = parse_object(&decode(header)?).ok_or(VerifyError::Malformed)?;
        if header.typ != TOKEN_TYPE {
            return Err(VerifyError::Malformed);
        }
        decode(signature)?;
        Ok(Self { header, signed, payload: decode(payload)?, signature })
    }

    /// The id of the key that is said to have signed.
    pub(super) fn kid(&self) -> &str {
        &self.header.kid
    }

    /// Gives out the payload if `key` signed it. The header's `alg` chooses nothing: the key has one algorithm.
    pub(super) fn payload_signed_by(&self, key: &Key) -> Result<&[u8], VerifyError> {
        if self.header.alg != key.algorithm_name() {
            return Err(VerifyError::WrongAlgorithm);
        }
        if !key.has_signed(self.signed.as_bytes(), self.signature) {
            return Err(VerifyError::BadSignature);
        }
        Ok(&self.payload)
    }
}

/// Reads a JSON object; serde alone would also take an array, with the fields in order.
pub(super) fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if json.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// SHA-256 in base64url, as thumbprints are written.
pub(super) fn sha256_base64url(bytes: &[u8]) -> String {
    BASE64URL.encode(sha256(&[bytes]))
}

fn decode(part: &str) -> Result<Vec<u8>, VerifyError> {
    match BASE64URL.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(VerifyError::Malformed),
    }
}
