//! Checks the section `sessions`, and reads or makes the seal keys.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tracing::info;

use super::node::core::Core;
use super::row::limits::SessionLimits;
use super::row::session_key::{SealKey, SealKeys};
use super::sessions::Sessions;
use crate::config::{self, Findings};
use crate::entropy::Entropy;
use crate::key_file::OnMissingKey;
use crate::key_file::named::{KeyUse, NamedKey};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KEYS: KeyUse = KeyUse {
    at: "sessions.seal_keys",
    file: "seal-key",
    id_label: b"menshen seal key id v1",
    loss: "the store cannot be read",
};

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
                    .warning("sessions.seal_keys", "each gateway of the cluster makes a key of its own, and the key that seals rows stands in Redis as it is")
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
        // The check of a configuration opens no store.
        if !core.store.is_shared() && missing != OnMissingKey::Ephemeral {
            // The embedded engine answers a read at once. If the store cannot be read, the
            // gateway must say so when it starts, and not to each user.
            if let Some(Err(error)) = core.keyring.require_key().now_or_never() {
                findings.error("sessions.seal_keys", error.to_string()).hint(
                    "put the key back; or move the store away, which ends every session, block and binding",
                );
                return None;
            }
        }
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
    let keys = keys.iter().map(|key| (key.kid.as_str(), &key.secret));
    let mut read = KEYS.configured(keys, findings)?.into_iter().map(seal_key);
    Some(SealKeys { first: read.next()?, others: read.collect(), are_configured: true })
}

fn default_key(
    data_dir: &Path,
    missing: OnMissingKey,
    entropy: &dyn Entropy,
    findings: &mut Findings,
) -> Option<SealKey> {
    let key = seal_key(KEYS.made(data_dir, missing, entropy, findings)?);
    // An operator who configures keys later must give this one the same name, so that it opens what
    // it sealed.
    info!("session keys are sealed with the key `{}` in {}", key.kid, data_dir.join(KEYS.file).display());
    Some(key)
}

fn seal_key(key: NamedKey) -> SealKey {
    SealKey { kid: key.kid, secret: key.secret }
}
