//! Composition root: from a configuration to a process that serves, reloads and drains.
//!
//! Pingora's own `Server` is not used: its grace period is a plain sleep, each of its services has
//! a runtime of its own, and after a panic in a service the process lives on without serving. Here
//! one runtime serves all listeners, the process ends with the first listener that ends, and a
//! drain is over as soon as the last connection is.

mod certificate_files;
mod certificates;
mod clients;
mod error;
mod expiry;
mod files;
mod first_end;
mod listen;
mod open_files;
mod person_hash;
mod refresh;
mod reloading;
mod run;
mod running;
mod start;
mod tls;
mod validity;

use std::sync::Arc;

use crate::authn::SubjectHasher;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Draft, Findings, Report, StoreEngine};
use crate::control::ControlSocket;
use crate::entropy::{Entropy, SystemEntropy};
use crate::key_file::{self, OnMissingKey};
use crate::runtime::{Runtime, Shared};
use crate::store::{self, Store};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;

pub use self::error::{RunError, StartError};
pub use self::person_hash::{NamedPerson, PersonHashError, hash_person};
pub use self::run::run;
pub use self::running::RunningGateway;
pub use self::start::start;

/// Where time and randomness come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }
}

/// Checks a configuration file as a start would, and writes nothing. A mistake in one place hides
/// none in another.
///
/// # Errors
/// [`StartError`] if the machine allows no check.
pub fn check_draft(draft: &Draft, sources: &Sources) -> Result<Report, StartError> {
    let mut found = Vec::new();
    for config in draft.readings() {
        let mut findings = Findings::default();
        check(config, sources, &mut findings)?;
        found.push(findings);
    }
    Ok(draft.report(found))
}

/// Checks a configuration as a start would, and writes nothing.
pub fn check(config: &Config, sources: &Sources, findings: &mut Findings) -> Result<(), StartError> {
    files::check_writable(config, findings);
    files::refuse_encrypted_keys(config, findings);
    key_file::check_data_dir(&config.data_dir, OnMissingKey::Ephemeral, findings);
    let is_shared = config.store.engine == StoreEngine::Redis;
    let (metrics, store) = (Arc::new(Metrics::new()?), Arc::new(store::Closed { is_shared }));
    let shared = shared(config, sources, OnMissingKey::Ephemeral, metrics, store, findings)?;
    ControlSocket::check(&config.data_dir, findings);
    store::check(&config.store, &shared.metrics, findings);
    tls::load(config, findings);
    tls::load_internal(config, findings);
    certificate_files::warn_of_doubtful(config, sources.clock.now(), findings);
    AccessLog::check(&config.telemetry.access_log, findings);
    AuditLog::check(&config.telemetry.audit_log, findings);
    crate::telemetry::diagnostics::check(&config.telemetry.log, findings);
    Runtime::build(config, OnMissingKey::Ephemeral, &shared, None, findings);
    Ok(())
}

/// What outlives a reload. If the keys of the hashes of people cannot be used, others take their
/// place, so that everything else is checked as well.
fn shared(
    config: &Config,
    sources: &Sources,
    missing: OnMissingKey,
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    findings: &mut Findings,
) -> Result<Shared, StartError> {
    let entropy = sources.entropy.as_ref();
    let keys = &config.telemetry.user_hash_keys;
    let hasher = SubjectHasher::build(keys, &config.data_dir, missing, store.is_shared(), entropy, findings);
    let hasher = match hasher {
        Some(hasher) => hasher,
        None => SubjectHasher::ephemeral(entropy)?,
    };
    Ok(Shared::new(Arc::clone(&sources.clock), Arc::clone(&sources.entropy), metrics, store, hasher))
}
