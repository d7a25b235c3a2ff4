//! Making a new key.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::key::{KeyError, SigningKey};
use crate::config::KeyAlgorithm;

/// Characters of base64 on one line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// A new private key.
#[derive(Debug)]
pub struct GeneratedKey {
    /// Its id: the thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// The private key, PKCS#8 in PEM.
    pub pem: SecretString,
}

/// No key was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// HS256 has a secret text instead of a key pair.
    #[error(
        "an HS256 key is any secret of 32 bytes or more, such as the output of `openssl rand -base64 48`"
    )]
    SharedSecret,
    /// The cryptographic library refused.
    #[error("the key could not be made")]
    Crypto(#[from] Unspecified),
    /// The new key did not read back.
    #[error("the new key did not read back")]
    ReadBack(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes a private key for `algorithm`; RSA keys get 3072 bits.
///
/// The randomness is aws-lc's own: building a key out of given bytes would bypass its checks.
///
/// # Errors
/// [`GenerateError`], by variant.
pub fn generate_key(algorithm: KeyAlgorithm) -> Result<GeneratedKey, GenerateError> {
    let pem = match algorithm {
        KeyAlgorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            pem(pair.to_pkcs8v1()?.as_ref())
        }
        // Version 1, without the public half: OpenSSL before 3.2 reads no other.
        KeyAlgorithm::EdDSA => pem(Ed25519KeyPair::generate()?.to_pkcs8v1()?.as_ref()),
        KeyAlgorithm::RS256 => {
            let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(KeySize::Rsa3072)?.as_der()?;
            pem(der.as_ref())
        }
        KeyAlgorithm::HS256 => return Err(GenerateError::SharedSecret),
    };
    let key = SigningKey::from_pem(None, algorithm, pem.expose_secret().as_bytes()).map_err(read_back)?;
    Ok(GeneratedKey { kid: key.kid().to_string(), pem })
}

fn read_back(error: KeyError) -> GenerateError {
    GenerateError::ReadBack(Box::new(error))
}

fn pem(der: &[u8]) -> SecretString {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for (position, character) in encoded.chars().enumerate() {
        if position > 0 && position % PEM_LINE == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem.into()
}
