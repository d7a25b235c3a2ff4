//! The keys in use: from the configuration, or the one made on first start. The first signs, all
//! verify.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use secrecy::ExposeSecret as _;

use super::generate::generate_key;
use super::jwk::JwkSet;
use super::key::{KeyError, SigningKey, algorithm_name};
use crate::config::{self, Findings, KeyAlgorithm, warn_of_exposed_file};
use crate::entropy::Entropy;
use crate::key_file::{self, KeyFileError, OnMissingKey};

/// File of the key that is made on first start, in the data directory.
const DEFAULT_KEY_FILE: &str = "signing-key.pem";
/// Longest `kid`; it is in every token.
const MAX_KID_BYTES: usize = 64;

/// At least one key.
#[derive(Debug)]
pub(super) struct KeyRing {
    signing: SigningKey,
    others: Vec<SigningKey>,
}

impl KeyRing {
    /// Reads every key, or the default one.
    pub(super) fn build(
        config: &config::Tokens,
        data_dir: &Path,
        missing: OnMissingKey,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        if config.keys.is_empty() {
            let signing = default_key(config.algorithm, data_dir, missing, entropy, findings)?;
            return Some(Self { signing, others: Vec::new() });
        }
        check_kids(&config.keys, findings);
        let keys: Vec<Option<SigningKey>> =
            config.keys.iter().enumerate().map(|(index, key)| configured_key(index, key, findings)).collect();
        let mut keys = keys.into_iter().collect::<Option<Vec<SigningKey>>>()?.into_iter();
        Some(Self { signing: keys.next()?, others: keys.collect() })
    }

    /// The key that signs.
    pub(super) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The key with this id, and no other in its place.
    pub(super) fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.iter().find(|key| **key.kid() == *kid)
    }

    /// The public keys, as `/.well-known/jwks.json` answers them.
    pub(super) fn jwks(&self) -> Bytes {
        let set = JwkSet { keys: self.iter().filter_map(SigningKey::jwk).collect() };
        // Serialising strings cannot fail.
        serde_json::to_vec(&set).unwrap_or_default().into()
    }

    fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.signing).chain(&self.others)
    }
}

fn check_kids(keys: &[config::SigningKey], findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (index, config::SigningKey { kid, .. }) in keys.iter().enumerate() {
        let path = format!("tokens.keys[{index}].kid");
        let is_valid = (1..=MAX_KID_BYTES).contains(&kid.len())
            && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_valid {
            findings
                .error(path, format!("`{kid}` is not a key id"))
                .hint("write 1 to 64 characters of A-Z a-z 0-9 . _ -");
        } else if !seen.insert(kid) {
            findings
                .error(path, format!("`{kid}` names two keys"))
                .hint("give each key an id of its own, such as the date it was made");
        }
    }
}

fn configured_key(index: usize, key: &config::SigningKey, findings: &mut Findings) -> Option<SigningKey> {
    let path = format!("tokens.keys[{index}]");
    match (key.algorithm, &key.file, &key.secret) {
        (KeyAlgorithm::HS256, None, Some(secret)) => {
            let path = format!("{path}.secret");
            let secret = secret.read(&path, findings)?;
            match SigningKey::from_secret(&key.kid, secret.expose_secret().as_bytes()) {
                Ok(key) => Some(key),
                Err(error) => {
                    findings
                        .error(path, format!("the secret {error}"))
                        .hint("make one with `openssl rand -base64 48`");
                    None
                }
            }
        }
        (KeyAlgorithm::HS256, _, _) => {
            findings.error(path, "an HS256 key needs `secret`, and no `file`");
            None
        }
        (algorithm, Some(file), None) => {
            read_key(&format!("{path}.file"), file, &key.kid, algorithm, findings)
        }
        (algorithm, _, _) => {
            findings
                .error(path, format!("an {} key needs `file`, and no `secret`", algorithm_name(algorithm)))
                .hint(format!(
                    "make one with `menshen key generate --algorithm {}`",
                    algorithm_name(algorithm)
                ));
            None
        }
    }
}

fn read_key(
    path: &str,
    file: &Path,
    kid: &str,
    algorithm: KeyAlgorithm,
    findings: &mut Findings,
) -> Option<SigningKey> {
    let make_one = format!("make one with `menshen key generate --algorithm {}`", algorithm_name(algorithm));
    let pem = match key_file::read(file) {
        Ok(Some(pem)) => {
            warn_of_exposed_file(path, file, findings);
            pem
        }
        Ok(None) => {
            let reason = format!("file `{}` does not exist", file.display());
            findings.error(path, reason).of_surroundings().hint(make_one);
            return None;
        }
        Err(error) => return refuse_file(path, file, &error, findings),
    };
    match SigningKey::from_pem(Some(kid), algorithm, &pem) {
        Ok(key) => Some(key),
        Err(error) => {
            findings.error(path, format!("file `{}` {error}", file.display())).hint(match error {
                KeyError::NotPkcs8 => {
                    "convert it with `openssl pkcs8 -topk8 -nocrypt -in old.pem`".to_owned()
                }
                _ => make_one,
            });
            None
        }
    }
}

fn default_key(
    algorithm: KeyAlgorithm,
    data_dir: &Path,
    missing: OnMissingKey,
    entropy: &dyn Entropy,
    findings: &mut Findings,
) -> Option<SigningKey> {
    if !matches!(algorithm, KeyAlgorithm::ES256 | KeyAlgorithm::EdDSA) {
        findings
            .error(
                "tokens.algorithm",
                format!("the gateway makes no {} key itself", algorithm_name(algorithm)),
            )
            .hint("write `ES256` or `EdDSA`, or name a key under `tokens.keys`");
        return None;
    }
    let file = data_dir.join(DEFAULT_KEY_FILE);
    let make = || match generate_key(algorithm) {
        Ok(key) => Ok(key.pem),
        Err(error) => Err(KeyFileError::Generate(error.into())),
    };
    let pem = match key_file::read_or_make(&file, missing, entropy, findings, make) {
        Ok(pem) => pem,
        Err(error) => return refuse_file("data_dir", &file, &error, findings),
    };
    SigningKey::from_pem(None, algorithm, &pem).map_or_else(
        |error| {
            findings.error("data_dir", format!("file `{}` {error}", file.display())).hint(
                "put the file or `tokens.algorithm` back as it was; or move the file away: a new key is made, \
                 and all users must sign in again",
            );
            None
        },
        Some,
    )
}

fn refuse_file(path: &str, file: &Path, error: &KeyFileError, findings: &mut Findings) -> Option<SigningKey> {
    key_file::refuse(path, file, error, "tokens.keys", findings);
    None
}
