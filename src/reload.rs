//! Reloads the configuration: load, build, compare, swap. On any error the running one stays.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{self, Config, Document, Report};
use crate::key_file::OnMissingKey;
use crate::proxy::Current;
use crate::runtime::{Runtime, Shared};

/// Replaces the running configuration with the one in the file.
pub struct Reload {
    path: PathBuf,
    started_with: Config,
    current: Arc<ArcSwap<Current>>,
    shared: Shared,
}

/// A configuration that replaced the one before.
#[derive(Debug)]
pub struct Reloaded {
    /// The configuration.
    pub config: Config,
    /// The warnings about it.
    pub warnings: Report,
}

impl Reload {
    /// Reloads from `path` into `current`. Static keys must have the values of `started_with`.
    pub const fn new(
        path: PathBuf,
        started_with: Config,
        current: Arc<ArcSwap<Current>>,
        shared: Shared,
    ) -> Self {
        Self { path, started_with, current, shared }
    }

    /// Loads the file and swaps the configuration. Requests under way keep the old one.
    ///
    /// # Errors
    /// The [`Report`] of all errors; the old configuration goes on.
    pub fn reload(&self) -> Result<Reloaded, Report> {
        let loaded = self.load();
        self.record(loaded.is_ok());
        let (runtime, config, warnings) = loaded?;
        runtime.sessions.use_seal_keys();
        let previous = self.current.load();
        runtime.upstreams.publish(Some(&previous.runtime().upstreams));
        let next = previous.successor(runtime);
        // The new configuration may trust some of them.
        let untrusted_proxies = i64::try_from(next.untrusted_proxies()).unwrap_or(i64::MAX);
        self.shared.metrics.untrusted_proxies.set(untrusted_proxies);
        self.current.swap(Arc::new(next)).retire();
        Ok(Reloaded { config, warnings })
    }

    /// Records in the metrics that the configuration was loaded at start.
    pub fn record_start(&self) {
        self.record(true);
    }

    fn load(&self) -> Result<(Runtime, Config, Report), Report> {
        let document = Document::load(&self.path)?;
        let mut findings = config::static_changes(&self.started_with, &document.config);
        let current = self.current.load();
        let has_own_key = self.started_with.tokens.keys.is_empty();
        let runtime = Runtime::build(
            &document.config,
            if has_own_key { OnMissingKey::Refuse } else { OnMissingKey::Create },
            &self.shared,
            Some(current.runtime()),
            &mut findings,
        );
        let report = document.report(findings);
        match runtime {
            Some(runtime) if !report.has_errors() => Ok((runtime, document.config, report)),
            _ => Err(report),
        }
    }

    fn record(&self, is_successful: bool) {
        let metrics = &self.shared.metrics;
        metrics.config_last_reload_successful.set(i64::from(is_successful));
        if is_successful {
            let now = self.shared.clock.now();
            metrics.config_last_reload_success_timestamp.set(now.millis() as f64 / 1000.0);
        }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("path", &self.path).finish_non_exhaustive()
    }
}
