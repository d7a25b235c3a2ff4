//! The tokens that the gateway issues and accepts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, FilePath, SecretSource, value};

/// `tokens`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// The `iss` claim: a name of this gateway. No other issuer of yours may have the same name.
    pub issuer: String,
    /// The `aud` claim: the services that the tokens are for.
    pub audience: String,
    /// The `typ` of the tokens' headers.
    #[serde(rename = "type")]
    pub token_type: TokenType,
    /// How long an access token is valid. 1 minute to 24 hours.
    pub lifetime: Duration,
    /// Allowed difference between clocks when `nbf` and `iat` are checked. At most 5 minutes. It
    /// does not extend the expiry.
    pub clock_skew: Duration,
    /// Algorithm of the key that the gateway makes if `keys` is empty. ES256 or EdDSA.
    pub algorithm: KeyAlgorithm,
    /// Signing keys. The first signs, all verify. Empty: the gateway makes one key at the first
    /// start and keeps it in `data_dir`.
    pub keys: Vec<SigningKey>,
    /// Where a request can carry its token.
    pub sources: TokenSources,
    /// The cache of verified tokens.
    pub cache: TokenCache,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: "menshen".into(),
            audience: "menshen".into(),
            token_type: TokenType::AtJwt,
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
    /// The key's id: the `kid` of its tokens. It must be unique.
    pub kid: String,
    /// The only algorithm that the key is used with.
    pub algorithm: KeyAlgorithm,
    /// PEM file with the private key (PKCS#8). For ES256, EdDSA and RS256.
    #[serde(default)]
    pub file: Option<FilePath>,
    /// The shared secret, at least 32 bytes. For HS256.
    #[serde(default)]
    pub secret: Option<SecretSource>,
}

/// Type of a token, as its header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenType {
    /// An access token (RFC 9068). A JWT of another kind that one of the keys signed is no token.
    #[serde(rename = "at+jwt")]
    AtJwt,
    /// Any JWT (RFC 7519): for libraries that accept no other type, such as Spring Security with
    /// its default decoder. The gateway then also accepts other JWTs that its keys signed, if they
    /// have every claim of a token.
    #[serde(rename = "JWT")]
    Jwt,
}

/// Signature algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// RSA PKCS#1 v1.5 with SHA-256, at least 2048 bits.
    RS256,
    /// HMAC with SHA-256. A program that can verify tokens can also sign them.
    HS256,
}

/// `tokens.sources`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSources {
    /// Whether the gateway reads `Authorization: Bearer <token>`.
    pub bearer: bool,
    /// Whether the gateway reads `Authorization: <token>`, without a scheme.
    pub raw_authorization: bool,
    /// Header that carries the token alone, such as `X-Token`, or a list of such headers, at most
    /// 8.
    #[serde(deserialize_with = "value::one_or_more_texts")]
    #[schemars(schema_with = "value::one_or_more_texts_schema")]
    pub header: Vec<String>,
    /// Cookie that carries the token.
    pub cookie: Option<String>,
    /// Query parameter that carries the token. It is read on WebSocket upgrades only.
    pub websocket_query: Option<String>,
    /// Query parameter that carries the token, or a list of them. It is read only on routes with
    /// `token_in_query: true`, and removed on every route without `forward_token`.
    #[serde(deserialize_with = "value::one_or_more_texts")]
    #[schemars(schema_with = "value::one_or_more_texts_schema")]
    pub query: Vec<String>,
}

impl Default for TokenSources {
    fn default() -> Self {
        Self {
            bearer: true,
            raw_authorization: false,
            header: Vec::new(),
            cookie: None,
            websocket_query: None,
            query: Vec::new(),
        }
    }
}

/// `tokens.cache`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenCache {
    /// Maximum number of valid tokens that the gateway remembers. Each takes about 1.2 KiB, with
    /// the data of its session.
    pub capacity: u64,
    /// Maximum number of forged tokens that the gateway remembers, each for `refused_for`.
    pub refused_capacity: u64,
    /// How long the gateway remembers a forged token.
    pub refused_for: Duration,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self { capacity: 100_000, refused_capacity: 10_000, refused_for: Duration::from_secs(10) }
    }
}
