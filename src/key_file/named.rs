//! Secret keys with ids: those that an operator configured, or one that the gateway makes at its
//! first start.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{KeyFileError, OnMissingKey, read_or_make, refuse};
use crate::config::{Findings, SecretSource};
use crate::digest::sha256;
use crate::entropy::{self, Entropy};

/// Longest `kid`, in bytes: it stands beside everything that the key was used for.
const MAX_KID_BYTES: usize = 64;

/// A secret key with an id.
pub(crate) struct NamedKey {
    pub(crate) kid: String,
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

/// What keys are for, and where they come from.
pub(crate) struct KeyUse {
    /// The configuration key that lists them.
    pub(crate) at: &'static str,
    /// The file in the data directory.
    pub(crate) file: &'static str,
    /// What the id of a made key is derived with. It must be another text for each use.
    pub(crate) id_label: &'static [u8],
    /// What is lost with the key.
    pub(crate) loss: &'static str,
}

impl KeyUse {
    /// Reads the configured keys, in their order.
    pub(crate) fn configured<'k>(
        &self,
        keys: impl Iterator<Item = (&'k str, &'k SecretSource)>,
        findings: &mut Findings,
    ) -> Option<Vec<NamedKey>> {
        let mut seen = BTreeSet::new();
        let mut read = Vec::new();
        for (index, (kid, source)) in keys.enumerate() {
            let path = format!("{}[{index}]", self.at);
            let is_valid = (1..=MAX_KID_BYTES).contains(&kid.len())
                && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
            if !is_valid {
                findings
                    .error(format!("{path}.kid"), format!("`{kid}` is not a key id"))
                    .hint("write 1 to 64 characters of A-Z a-z 0-9 . _ -");
            } else if !seen.insert(kid) {
                findings
                    .error(format!("{path}.kid"), format!("`{kid}` names two keys"))
                    .hint("give each key an id of its own, such as the date it was made");
            }
            let path = format!("{path}.secret");
            let secret = source.read(&path, findings).and_then(|text| {
                let secret = parse(text.expose_secret().as_bytes());
                if secret.is_none() {
                    findings
                        .error(path, "the secret is not 32 bytes as base64")
                        .hint("make one with `openssl rand -base64 32`");
                }
                secret
            });
            read.push(secret.map(|secret| NamedKey { kid: kid.to_owned(), secret }));
        }
        read.into_iter().collect()
    }

    /// Reads the key in the data directory, or makes it.
    pub(crate) fn made(
        &self,
        data_dir: &Path,
        missing: OnMissingKey,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<NamedKey> {
        let file = data_dir.join(self.file);
        let make = || -> Result<SecretString, KeyFileError> {
            let secret = Zeroizing::new(entropy::bytes::<32>(entropy)?);
            Ok(format!("{}\n", *Zeroizing::new(STANDARD.encode(secret.as_slice()))).into())
        };
        let text = match read_or_make(&file, missing, entropy, findings, make) {
            Ok(text) => text,
            Err(error) => {
                refuse("data_dir", &file, &error, self.at, findings);
                return None;
            }
        };
        let Some(secret) = parse(text.trim_ascii_end()) else {
            findings
                .error("data_dir", format!("file `{}` does not hold 32 bytes as base64", file.display()))
                .hint(format!(
                    "restore the file; or move it away: then the gateway makes a new key, and {}",
                    self.loss
                ));
            return None;
        };
        // Named after the key itself: another key in its place must have another name.
        let id: u64 = sha256(&[self.id_label, secret.as_slice()])
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Some(NamedKey { kid: format!("made-{id:016x}"), secret })
    }
}

fn parse(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}
