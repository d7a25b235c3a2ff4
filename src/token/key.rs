//! One key: its id, its one algorithm, and what signs and verifies with it. Parsed once.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
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
    material: Material,
}

enum Material {
    Es256(EcdsaKeyPair, ParsedPublicKey),
    EdDsa(Ed25519KeyPair, ParsedPublicKey),
    Rs256(RsaKeyPair, ParsedPublicKey),
    Hs256(Box<hmac::Key>),
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
}

impl Key {
    /// Reads a private key; without a `kid` it is named by its thumbprint (RFC 7638).
    pub(super) fn from_pem(kid: Option<&str>, algorithm: KeyAlgorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPkcs8)?;
        let (material, public) = read_pkcs8(algorithm, der.secret_pkcs8_der())?;
        let kid = kid.map_or_else(|| public.thumbprint(), str::to_owned);
        Ok(Self::new(kid, algorithm, material, Some(public)))
    }

    /// Takes a shared secret.
    pub(super) fn from_secret(kid: &str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        let material = Material::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Ok(Self::new(kid.to_owned(), KeyAlgorithm::HS256, material, None))
    }

    fn new(kid: String, algorithm: KeyAlgorithm, material: Material, public: Option<PublicKey>) -> Self {
        // The id is out of an alphabet that JSON never escapes; `keys` and the thumbprint both see to that.
        let header = format!(r#"{{"typ":"{TOKEN_TYPE}","alg":"{}","kid":"{kid}"}}"#, name(algorithm));
        Self { kid, algorithm, header: BASE64URL.encode(header), public, material }
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
    pub(super) fn sign(&self, payload: &[u8]) -> Result<String, Unspecified> {
        let mut token = self.header.clone();
        token.push('.');
        BASE64URL.encode_string(payload, &mut token);
        let signature = self.material.sign(token.as_bytes())?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whether this key made `signature` over `message`.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Es256(_, public) | Material::EdDsa(_, public) | Material::Rs256(_, public) => {
                public.verify_sig(message, signature).is_ok()
            }
            // Compares in constant time, and the whole tag.
            Material::Hs256(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl Material {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        Ok(match self {
            Self::Es256(pair, _) => pair.sign_digest(&digest(&SHA256, message))?.as_ref().to_vec(),
            Self::EdDsa(pair, _) => pair.try_sign(message)?.as_ref().to_vec(),
            Self::Rs256(pair, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, &digest(&SHA256, message), &mut signature)?;
                signature
            }
            Self::Hs256(key) => hmac::sign(key, message).as_ref().to_vec(),
        })
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

fn read_pkcs8(algorithm: KeyAlgorithm, der: &[u8]) -> Result<(Material, PublicKey), KeyError> {
    let rejected = |source| KeyError::Rejected { algorithm: name(algorithm), source };
    match algorithm {
        KeyAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(rejected)?;
            let point = pair.public_key().as_ref();
            let verifier = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(rejected)?;
            let public = PublicKey::p256(point);
            Ok((Material::Es256(pair, verifier), public))
        }
        KeyAlgorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?;
            let point = pair.public_key().as_ref();
            let verifier = ParsedPublicKey::new(&ED25519, point).map_err(rejected)?;
            let public = PublicKey::ed25519(point);
            Ok((Material::EdDsa(pair, verifier), public))
        }
        KeyAlgorithm::RS256 => {
            // Takes 2048 to 8192 bits; RFC 7518 §3.3 asks for 2048.
            let pair = RsaKeyPair::from_pkcs8(der).map_err(rejected)?;
            let key = pair.public_key();
            let verifier =
                ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.as_ref()).map_err(rejected)?;
            let public = PublicKey::rsa(
                key.modulus().big_endian_without_leading_zero(),
                key.exponent().big_endian_without_leading_zero(),
            );
            Ok((Material::Rs256(pair, verifier), public))
        }
        KeyAlgorithm::HS256 => Err(KeyError::NoKeyFile),
    }
}
