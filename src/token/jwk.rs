//! Public keys as JSON Web Keys (RFC 7517), and their thumbprints (RFC 7638).

use base64::Engine as _;
use serde::Serialize;

use super::encoding::{BASE64URL, sha256_base64url};

/// The public half of a key: exactly the members that a thumbprint is made of, in its order.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum PublicKey {
    Ec { crv: &'static str, kty: &'static str, x: String, y: String },
    Okp { crv: &'static str, kty: &'static str, x: String },
    Rsa { e: String, kty: &'static str, n: String },
}

impl PublicKey {
    /// An uncompressed point: 0x04, then x and y of 32 bytes each.
    pub(super) fn p256(point: &[u8]) -> Self {
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        Self::Ec { crv: "P-256", kty: "EC", x: BASE64URL.encode(x), y: BASE64URL.encode(y) }
    }

    pub(super) fn ed25519(point: &[u8]) -> Self {
        Self::Okp { crv: "Ed25519", kty: "OKP", x: BASE64URL.encode(point) }
    }

    /// Modulus and exponent, big-endian, without leading zeros.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self::Rsa { e: BASE64URL.encode(exponent), kty: "RSA", n: BASE64URL.encode(modulus) }
    }

    /// The SHA-256 thumbprint. See RFC 7638 §3.
    pub(super) fn thumbprint(&self) -> String {
        // Serialising strings cannot fail.
        sha256_base64url(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// A public key with what it is for.
#[derive(Serialize)]
pub(super) struct Jwk<'a> {
    #[serde(flatten)]
    public: &'a PublicKey,
    kid: &'a str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
}

impl<'a> Jwk<'a> {
    pub(super) fn new(public: &'a PublicKey, kid: &'a str, alg: &'static str) -> Self {
        Self { public, kid, alg, usage: "sig" }
    }
}

/// What `/.well-known/jwks.json` answers.
#[derive(Serialize)]
pub(super) struct JwkSet<'a> {
    pub(super) keys: Vec<Jwk<'a>>,
}
