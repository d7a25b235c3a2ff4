//! Checks the section `sessions`, and reads or makes the seal keys.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::info;
use zeroize::Zeroizing;

use super::node::core::Core;
use super::row::limits::SessionLimits;
use super::row::session_key::{SealKey, SealKeys};
use super::sessions::Sessions;
use crate::config::{self, Findings};
use crate::digest::sha256;
use crate::entropy::{self, Entropy};
use crate::key_file::{self, KeyFileError, OnMissingKey};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// File of the key that is made on first start, in the data directory.
const DEFAULT_KEY_FILE: &str = "seal-key";
/// Longest `kid`, in bytes: it is in every row.
const MAX_KID_BYTES: usize = 64;

impl Sessions {
    /// Checks the section, and reads or makes the seal keys.
    pub fn build(
        config: &config::Sessions,
        data_dir: &Path,
        missing: OnMissingKey,
        core: Arc<Core>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let keys =
            findings.scope(|findings| {
                check(config, findings);
                if config.seal_keys.is_empty() {
                    if core.store.is_shared() {
                        findings
                    .warning("sessions.seal_keys", "each gateway of the cluster makes a key of its own")
                    .hint("give all of them the same key, such as the output of `openssl rand -base64 32`");
                    }
                    default_key(data_dir, missing, core.entropy.as_ref(), findings).map(|first| SealKeys {
                        first,
                        others: Vec::new(),
                        are_configured: false,
                    })
                } else {
                    configured_keys(&config.seal_keys, findings)
                }
            })?;
        let keys = Arc::new(keys);
        core.keyring.use_first_seal_keys(&keys);
        Some(Self { core, limits: SessionLimits::new(config), keys, keeps_session_keys: false })
    }
}

fn check(config: &config::Sessions, findings: &mut Findings) {
    let config::Sessions { lifetime, idle_timeout, max_per_subject, .. } = config;
    let mut range = |key: &str, value: config::Duration, least: Duration, most: Duration, hint: &str| {
        if !(least..=most).contains(&*value) {
            findings.error(format!("sessions.{key}"), format!("`{value}` is out of range")).hint(hint);
        }
    };
    range("lifetime", *lifetime, MINUTE, 400 * DAY, "write `1m` to `400d`");
    range("idle_timeout", *idle_timeout, Duration::from_secs(1), 400 * DAY, "write `1s` to `400d`");
    range("eviction_delay", config.eviction_delay, Duration::ZERO, 60 * MINUTE, "write `0s` to `1h`");
    range("refresh_grace", config.refresh_grace, Duration::ZERO, 5 * MINUTE, "write `0s` to `5m`");
    range("recheck_after", config.recheck_after, Duration::from_secs(1), 5 * MINUTE, "write `1s` to `5m`");
    if idle_timeout > lifetime {
        findings
            .error("sessions.idle_timeout", format!("`{idle_timeout}` is longer than the life of a session"))
            .hint(format!("write at most `{lifetime}`, or a longer `sessions.lifetime`"));
    }
    let config::RetryNetwork { ipv4_prefix, ipv6_prefix } = config.retry_network;
    for (key, bits, most) in [("ipv4_prefix", ipv4_prefix, 32), ("ipv6_prefix", ipv6_prefix, 128)] {
        if bits > most {
            findings
                .error(format!("sessions.retry_network.{key}"), format!("`{bits}` is out of range"))
                .hint(format!("write 0 to {most}"));
        }
    }
    if !(1..=64).contains(max_per_subject) {
        findings
            .error("sessions.max_per_subject", format!("`{max_per_subject}` is out of range"))
            .hint("write 1 to 64");
    }
}

fn configured_keys(keys: &[config::SealKey], findings: &mut Findings) -> Option<SealKeys> {
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(keys.len());
    for (index, config::SealKey { kid, secret }) in keys.iter().enumerate() {
        let path = format!("sessions.seal_keys[{index}]");
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
        let secret = secret.read(&path, findings).and_then(|text| {
            let secret = parse_secret(text.expose_secret().as_bytes());
            if secret.is_none() {
                findings
                    .error(path, "the secret is not 32 bytes as base64")
                    .hint("make one with `openssl rand -base64 32`");
            }
            secret
        });
        read.push(secret.map(|secret| SealKey { kid: kid.clone(), secret }));
    }
    let mut read = read.into_iter().collect::<Option<Vec<SealKey>>>()?.into_iter();
    Some(SealKeys { first: read.next()?, others: read.collect(), are_configured: true })
}

fn default_key(
    data_dir: &Path,
    missing: OnMissingKey,
    entropy: &dyn Entropy,
    findings: &mut Findings,
) -> Option<SealKey> {
    let file = data_dir.join(DEFAULT_KEY_FILE);
    let make = || -> Result<SecretString, KeyFileError> {
        let secret = Zeroizing::new(entropy::bytes::<32>(entropy)?);
        Ok(format!("{}\n", *Zeroizing::new(STANDARD.encode(secret.as_slice()))).into())
    };
    let text = match key_file::read_or_make(&file, missing, entropy, findings, make) {
        Ok(text) => text,
        Err(error) => {
            key_file::refuse("data_dir", &file, &error, "sessions.seal_keys", findings);
            return None;
        }
    };
    let Some(secret) = parse_secret(text.trim_ascii_end()) else {
        findings
            .error("data_dir", format!("file `{}` does not hold 32 bytes as base64", file.display()))
            .hint("restore the file; or move it away: then the gateway makes a new key, and sealed data is lost");
        return None;
    };
    // Named after the key itself: another key in its place must have another name.
    let id: u64 = sha256(&[b"menshen seal key id v1", secret.as_slice()])
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let kid = format!("made-{id:016x}");
    // An operator who configures keys later must give this one the same name, so that it opens what
    // it sealed.
    info!("session keys are sealed with the key `{kid}` in {}", file.display());
    Some(SealKey { kid, secret })
}

fn parse_secret(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}
