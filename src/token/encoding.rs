//! Base64url and JSON, both read strictly: one text, one meaning.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;

use crate::digest::sha256;

/// Unpadded base64url that refuses every second spelling of the same bytes: padding, line breaks,
/// stray bits.
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(false),
);

/// SHA-256 in base64url, as thumbprints are written.
pub(super) fn sha256_base64url(bytes: &[u8]) -> String {
    BASE64URL.encode(sha256(&[bytes]))
}

/// Parses a JSON object; serde alone also accepts an array with the fields in order.
pub(super) fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if json.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}
