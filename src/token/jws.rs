//! The compact form of a signed token (RFC 7515 §7.1), read strictly: one text, one meaning.

use base64::Engine as _;

use super::VerifyError;
use super::encoding::BASE64URL;
use super::header::Header;
use super::key::SigningKey;
use crate::config::TokenType;

/// Longest token that is parsed; ours have about 500 bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A well-formed token whose signature is not verified. Its payload cannot be read before that.
pub(super) struct UnverifiedJws<'a> {
    header: Header,
    signed: &'a str,
    payload: Vec<u8>,
    /// In base64url, of the only spelling that is accepted.
    signature: &'a str,
}

impl<'a> UnverifiedJws<'a> {
    /// Splits a token into its parts, none of which is verified.
    pub(super) fn parse(token: &'a str, token_type: TokenType) -> Result<Self, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(VerifyError::Malformed)?;

        let header = Header::parse(&decode(header)?, token_type).ok_or(VerifyError::Malformed)?;
        decode(signature)?;
        Ok(Self { header, signed, payload: decode(payload)?, signature })
    }

    /// The id of the key that the token names as its signer.
    pub(super) fn kid(&self) -> &str {
        &self.header.kid
    }

    /// Returns the payload if `key` signed it.
    ///
    /// The header's `alg` selects nothing, because each key has one algorithm.
    pub(super) fn payload_signed_by(&self, key: &SigningKey) -> Result<&[u8], VerifyError> {
        if self.header.alg != key.algorithm_name() {
            return Err(VerifyError::WrongAlgorithm);
        }
        if !key.has_signed(self.signed.as_bytes(), self.signature) {
            return Err(VerifyError::BadSignature);
        }
        Ok(&self.payload)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, VerifyError> {
    match BASE64URL.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(VerifyError::Malformed),
    }
}
