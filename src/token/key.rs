//! One key: its id, its one algorithm, and what signs and verifies with it. Parsed once.

use std::fmt;

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::jwk::{Jwk, PublicKey};
use super::jws::{BASE64URL, TOKEN_TYPE};
use crate::config::KeyAlgorithm;

/// Shortest HS256 secret, in bytes: RFC 7518 §3.2 asks for as many as the hash has.
const MIN_SECRET_BYTES: usize = 32;

/// A key that signs and verifies.
pub(super) struct Key {
    kid: String,
    algorithm: KeyAlgorithm,
    /// The encoded header of every token it signs.
    header: String,
    public: Option<PublicKey>,
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("holds no unencrypted PKCS#8 private key (`-----BEGIN PRIVATE KEY-----`)")]
    NotPkcs8,
    #[error("holds no usable {algorithm} key ({source})")]
    Rejected { algorithm: &'static str, source: KeyRejected },
    #[error("is {0} bytes long; {MIN_SECRET_BYTES} is the least for HS256")]
    ShortSecret(usize),
    #[error("is a file, and HS256 takes a `secret`")]
    NoKeyFile,
    #[error("holds a key that the JWT library does not take ({0})")]
    Library(#[from] jsonwebtoken::errors::Error),
}

impl Key {
    /// Reads a private key; without a `kid` it is named by its thumbprint (RFC 7638).
    pub(super) fn from_pem(kid: Option<&str>, algorithm: KeyAlgorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPkcs8)?;
        let public = public_half(algorithm, der.secret_pkcs8_der())?;
        let (signing, verifying) = match &public {
            PublicKey::Ec { x, y, .. } => {
                (EncodingKey::from_ec_der(der.secret_pkcs8_der()), DecodingKey::from_ec_components(x, y)?)
            }
            PublicKey::Okp { x, .. } => {
                (EncodingKey::from_ed_der(der.secret_pkcs8_der()), DecodingKey::from_ed_components(x)?)
            }
            // The library's DER of an RSA key is PKCS#1; it takes PKCS#8 from PEM alone.
            PublicKey::Rsa { n, e, .. } => {
                (EncodingKey::from_rsa_pem(pem)?, DecodingKey::from_rsa_components(n, e)?)
            }
        };
        let kid = kid.map_or_else(|| public.thumbprint(), str::to_owned);
        Ok(Self::new(kid, algorithm, Some(public), signing, verifying))
    }

    /// Takes a shared secret.
    pub(super) fn from_secret(kid: &str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        let (signing, verifying) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Ok(Self::new(kid.to_owned(), KeyAlgorithm::HS256, None, signing, verifying))
    }

    fn new(
        kid: String,
        algorithm: KeyAlgorithm,
        public: Option<PublicKey>,
        signing: EncodingKey,
        verifying: DecodingKey,
    ) -> Self {
        // The id is out of an alphabet that JSON never escapes; `keys` and the thumbprint both see to that.
        let header = format!(r#"{{"typ":"{TOKEN_TYPE}","alg":"{}","kid":"{kid}"}}"#, name(algorithm));
        Self { kid, algorithm, header: BASE64URL.encode(header), public, signing, verifying }
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn algorithm_name(&self) -> &'static str {
        name(self.algorithm)
    }

    /// The public half, as the world may see it; a shared secret has none.
    pub(super) fn jwk(&self) -> Option<Jwk<'_>> {
        self.public.as_ref().map(|public| Jwk::new(public, &self.kid, self.algorithm_name()))
    }

    /// Signs a payload: the whole token.
    pub(super) fn sign(&self, payload: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
        let mut token = self.header.clone();
        token.push('.');
        BASE64URL.encode_string(payload, &mut token);
        let signature = crypto::sign(token.as_bytes(), &self.signing, jwa(self.algorithm))?;
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }

    /// Whether this key made `signature`, in base64url, over `message`. Whatever goes wrong, it did not.
    pub(super) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.verifying, jwa(self.algorithm)).unwrap_or(false)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:?} [redacted]", self.algorithm_name(), self.kid)
    }
}

/// The algorithm's name in JOSE headers and in the configuration.
pub(super) fn name(algorithm: KeyAlgorithm) -> &'static str {
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

/// The public half of a private key, which is parsed for it: the JWT library would find a bad one only when it signs.
fn public_half(algorithm: KeyAlgorithm, der: &[u8]) -> Result<PublicKey, KeyError> {
    let rejected = |source| KeyError::Rejected { algorithm: name(algorithm), source };
    match algorithm {
        KeyAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(rejected)?;
            Ok(PublicKey::p256(pair.public_key().as_ref()))
        }
        KeyAlgorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?;
            Ok(PublicKey::ed25519(pair.public_key().as_ref()))
        }
        KeyAlgorithm::RS256 => {
            // Takes 2048 to 8192 bits; RFC 7518 §3.3 asks for 2048.
            let pair = RsaKeyPair::from_pkcs8(der).map_err(rejected)?;
            let key = pair.public_key();
            Ok(PublicKey::rsa(
                key.modulus().big_endian_without_leading_zero(),
                key.exponent().big_endian_without_leading_zero(),
            ))
        }
        KeyAlgorithm::HS256 => Err(KeyError::NoKeyFile),
    }
}
