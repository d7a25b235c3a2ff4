//! The tokens the gateway issues and accepts.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, SecretSource};

/// `tokens`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// The `iss` claim: a name for this gateway that no other issuer of yours has.
    pub issuer: String,
    /// The `aud` claim: who the tokens are for.
    pub audience: String,
    /// How long an access token is valid. 1 minute to 24 hours.
    pub lifetime: Duration,
    /// How far another machine's clock may be off when `nbf` and `iat` are checked. At most 5 minutes. Expiry is never stretched.
    pub clock_skew: Duration,
    /// Algorithm of the key made on first start, when `keys` is empty. ES256 or EdDSA.
    pub algorithm: KeyAlgorithm,
    /// Signing keys; the first signs, all verify. Empty: one key is made on first start and kept in `data_dir`.
    pub keys: Vec<SigningKey>,
    /// Where a request may carry its token.
    pub sources: TokenSources,
    /// The cache of verified tokens.
    pub cache: TokenCache,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: "menshen".into(),
            audience: "menshen".into(),
            lifetime: Duration::from_secs(2 * 3600),
            clock_skew: Duration::from_secs(30),
            algorithm: KeyAlgorithm::ES256,
            keys: Vec::new(),
            sources: TokenSources::default(),
            cache: TokenCache::default(),
        }
    }
}

/// `tokens.keys[]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// The key's id, the `kid` of its tokens; must be unique.
    pub kid: String,
    /// The one algorithm this key is used with.
    pub algorithm: KeyAlgorithm,
    /// PEM file with the private key (PKCS#8); for ES256, EdDSA and RS256.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The shared secret, at least 32 bytes; for HS256.
    #[serde(default)]
    pub secret: Option<SecretSource>,
}

/// Signature algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// RSA PKCS#1 v1.5 with SHA-256; at least 2048 bits.
    RS256,
    /// HMAC with SHA-256: whoever can verify can also sign.
    HS256,
}

/// `tokens.sources`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSources {
    /// Whether `Authorization: Bearer <token>` is read.
    pub bearer: bool,
    /// Whether `Authorization: <token>`, without a scheme, is read.
    pub raw_authorization: bool,
    /// Header that carries the bare token, such as `X-Token`.
    pub header: Option<String>,
    /// Cookie that carries the token.
    pub cookie: Option<String>,
    /// Query parameter that carries the token, read on WebSocket upgrades only.
    pub websocket_query: Option<String>,
}

impl Default for TokenSources {
    fn default() -> Self {
        Self { bearer: true, raw_authorization: false, header: None, cookie: None, websocket_query: None }
    }
}

/// `tokens.cache`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenCache {
    /// Most tokens remembered as valid; about 1.2 KiB each, with what is followed of its session.
    pub capacity: u64,
    /// Most tokens remembered as forged, for `refused_for`.
    pub refused_capacity: u64,
    /// How long a forged token is remembered.
    pub refused_for: Duration,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self { capacity: 100_000, refused_capacity: 10_000, refused_for: Duration::from_secs(10) }
    }
}
