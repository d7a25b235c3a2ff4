//! One key: its id, its only algorithm, and what signs and verifies with it. Parsed once.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::encoding::BASE64URL;
use super::header::encode_header;
use super::jwk::{Jwk, PublicKey};
use crate::config::{KeyAlgorithm, TokenType};

/// Shortest HS256 secret, in bytes: RFC 7518 §3.2 asks for as many as the hash has.
const MIN_SECRET_BYTES: usize = 32;

/// A key that signs and verifies.
pub(super) struct SigningKey {
    kid: Arc<str>,
    algorithm: KeyAlgorithm,
    /// The encoded headers of the tokens it signs: as `at+jwt`, and as `JWT`.
    headers: [String; 2],
    public: Option<PublicKey>,
    signer: Signer,
    verifier: DecodingKey,
}

/// What signs. The JWT library is not used for it, because it parses and checks the key for each
/// signature, which costs more than the signature.
enum Signer {
    ES256(EcdsaKeyPair),
    EdDSA(Ed25519KeyPair),
    RS256(RsaKeyPair),
    HS256(Box<hmac::Key>),
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("holds no unencrypted PKCS#8 private key (`-----BEGIN PRIVATE KEY-----`)")]
    NotPkcs8,
    #[error("holds no usable {algorithm} key ({source})")]
    Rejected { algorithm: &'static str, source: KeyRejected },
    #[error("is {0} bytes long; HS256 needs at least {MIN_SECRET_BYTES}")]
    ShortSecret(usize),
    #[error("is a file, and HS256 needs a `secret`")]
    NoKeyFile,
    #[error("holds a key that the JWT library does not accept ({0})")]
    Library(#[from] jsonwebtoken::errors::Error),
}

impl SigningKey {
    /// Parses a private key. Without a `kid` its id is its thumbprint (RFC 7638).
    pub(super) fn from_pem(kid: Option<&str>, algorithm: KeyAlgorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPkcs8)?;
        let (signer, public) = read_pair(algorithm, der.secret_pkcs8_der())?;
        let verifier = match &public {
            PublicKey::Ec { x, y, .. } => DecodingKey::from_ec_components(x, y)?,
            PublicKey::Okp { x, .. } => DecodingKey::from_ed_components(x)?,
            PublicKey::Rsa { n, e, .. } => DecodingKey::from_rsa_components(n, e)?,
        };
        let kid = kid.map_or_else(|| public.thumbprint(), str::to_owned);
        Ok(Self::new(kid, algorithm, Some(public), signer, verifier))
    }

    /// Makes a key of a shared secret.
    pub(super) fn from_secret(kid: &str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        let signer = Signer::HS256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Ok(Self::new(kid.to_owned(), KeyAlgorithm::HS256, None, signer, DecodingKey::from_secret(secret)))
    }

    fn new(
        kid: String,
        algorithm: KeyAlgorithm,
        public: Option<PublicKey>,
        signer: Signer,
        verifier: DecodingKey,
    ) -> Self {
        // JSON never escapes a character of the id: `keys` checks a configured one, and a
        // thumbprint is base64url.
        let headers = [TokenType::AtJwt, TokenType::Jwt]
            .map(|token_type| encode_header(token_type, algorithm_name(algorithm), &kid));
        Self { kid: kid.into(), algorithm, headers, public, signer, verifier }
    }

    pub(super) const fn kid(&self) -> &Arc<str> {
        &self.kid
    }

    /// Whether what the other key has signed is signed by this one too.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.public, &other.public, &self.signer, &other.signer) {
            (Some(own), Some(other), ..) => own.thumbprint() == other.thumbprint(),
            (None, None, Signer::HS256(own), Signer::HS256(other)) => {
                let tag = |key| hmac::sign(key, b"menshen is the same");
                tag(own).as_ref() == tag(other).as_ref()
            }
            _ => false,
        }
    }

    pub(super) fn algorithm_name(&self) -> &'static str {
        algorithm_name(self.algorithm)
    }

    /// The public half; a shared secret has none.
    pub(super) fn jwk(&self) -> Option<Jwk<'_>> {
        self.public.as_ref().map(|public| Jwk::new(public, &self.kid, self.algorithm_name()))
    }

    /// Signs a payload; returns the whole token.
    pub(super) fn sign(&self, payload: &[u8], token_type: TokenType) -> Result<String, Unspecified> {
        let [at_jwt, jwt] = &self.headers;
        let mut token = match token_type {
            TokenType::AtJwt => at_jwt.clone(),
            TokenType::Jwt => jwt.clone(),
        };
        token.push('.');
        BASE64URL.encode_string(payload, &mut token);
        let signature = self.signer.sign(token.as_bytes())?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whether this key made `signature`, in base64url, over `message`; `false` on any error.
    pub(super) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.verifier, jwa(self.algorithm)).unwrap_or(false)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:?} [redacted]", self.algorithm_name(), self.kid)
    }
}

/// The algorithm's name in JOSE headers and in the configuration.
pub(super) fn algorithm_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::ES256 => "ES256",
        KeyAlgorithm::EdDSA => "EdDSA",
        KeyAlgorithm::RS256 => "RS256",
        KeyAlgorithm::HS256 => "HS256",
    }
}

const fn jwa(algorithm: KeyAlgorithm) -> Algorithm {
    match algorithm {
        KeyAlgorithm::ES256 => Algorithm::ES256,
        KeyAlgorithm::EdDSA => Algorithm::EdDSA,
        KeyAlgorithm::RS256 => Algorithm::RS256,
        KeyAlgorithm::HS256 => Algorithm::HS256,
    }
}

impl Signer {
    /// A signature as RFC 7518 §3 writes it.
    #[expect(clippy::disallowed_types, reason = "the library asks for a source, and draws from its own")]
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        match self {
            Self::ES256(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Self::EdDSA(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::RS256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::HS256(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

/// A private key, and its public half.
fn read_pair(algorithm: KeyAlgorithm, der: &[u8]) -> Result<(Signer, PublicKey), KeyError> {
    let rejected = |source| KeyError::Rejected { algorithm: algorithm_name(algorithm), source };
    match algorithm {
        KeyAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(rejected)?;
            let public = PublicKey::p256(pair.public_key().as_ref());
            Ok((Signer::ES256(pair), public))
        }
        KeyAlgorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?;
            let public = PublicKey::ed25519(pair.public_key().as_ref());
            Ok((Signer::EdDSA(pair), public))
        }
        KeyAlgorithm::RS256 => {
            // The library accepts 2048 to 8192 bits; RFC 7518 §3.3 requires 2048.
            let pair = RsaKeyPair::from_pkcs8(der).map_err(rejected)?;
            let key = pair.public_key();
            let public = PublicKey::rsa(
                key.modulus().big_endian_without_leading_zero(),
                key.exponent().big_endian_without_leading_zero(),
            );
            Ok((Signer::RS256(pair), public))
        }
        KeyAlgorithm::HS256 => Err(KeyError::NoKeyFile),
    }
}
