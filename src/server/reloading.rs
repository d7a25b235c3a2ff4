//! What a reload does besides the configuration: logs and certificates are opened again.

use std::sync::Arc;

use parking_lot::Mutex;

use super::certificates::Certificates;
use super::expiry::ExpiryWatch;
use crate::clock::Clock;
use crate::config::Report;
use crate::reload::{Reload, Reloaded};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::audit_log::{AuditEvent, AuditLog, AuditLogEntry};

/// The `door` of a reload on SIGHUP in the audit log. The kernel does not say who sent it.
const SIGNAL: &str = "signal";

/// Reloads a gateway, on a signal or for an operator.
pub(super) struct Reloading {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) reload: Reload,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) audit_log: Arc<AuditLog>,
    pub(super) expiry: Arc<ExpiryWatch>,
    pub(super) certificates: Arc<Vec<Arc<Certificates>>>,
    /// Of two reloads the one that began later must also end later.
    pub(super) one_at_a_time: Mutex<()>,
}

impl Reloading {
    /// Loads the configuration again, and opens logs and certificates again.
    ///
    /// # Errors
    /// The [`Report`] of all errors; the old configuration stays in use.
    pub(super) fn reload(&self) -> Result<Report, Report> {
        let _one_at_a_time = self.one_at_a_time.lock();
        self.access_log.reopen();
        self.audit_log.reopen();
        for certificates in self.certificates.iter() {
            certificates.refresh();
        }
        let Reloaded { config, warnings } = self.reload.reload()?;
        self.expiry.read_again(&config, self.clock.now());
        Ok(warnings)
    }

    /// As [`Reloading::reload`], and writes to the audit log that a signal asked for it.
    ///
    /// # Errors
    /// As [`Reloading::reload`].
    pub(super) fn reload_on_signal(&self) -> Result<Report, Report> {
        let reloaded = self.reload();
        let outcome = if reloaded.is_ok() { "ok" } else { "configuration_invalid" };
        self.audit_log.write(&AuditLogEntry {
            door: Some(SIGNAL),
            ..AuditLogEntry::new(self.clock.now(), AuditEvent::Reload, outcome)
        });
        reloaded
    }
}
