//! When the certificates in use expire: in the metrics, and in the log once a day if that is near
//! or past.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::certificate_files::{CertificateFile, ReadingTime};
use super::certificates::Certificates;
use super::validity::{Doubt, Validity};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::telemetry::metrics::Metrics;

/// How often the log says the same of a certificate.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Follows when the certificates in use expire.
pub(super) struct ExpiryWatch {
    metrics: Arc<Metrics>,
    /// Of the listeners: their files are read again when they change.
    listeners: Arc<Vec<Arc<Certificates>>>,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    /// Of files that are read only at start.
    read_at_start: Validities,
    /// Of files that are read at start and at each reload.
    read_on_reload: Validities,
    /// What the metric shows.
    shown: Validities,
    /// What the log has said of each, and when.
    said: BTreeMap<PathBuf, (Doubt, Timestamp)>,
}

/// How long certificates are valid, by their file.
type Validities = BTreeMap<PathBuf, Validity>;

impl ExpiryWatch {
    /// Follows the certificates of a configuration with which the gateway starts.
    pub(super) fn new(
        config: &Config,
        listeners: Arc<Vec<Arc<Certificates>>>,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Self {
        let state = WatchState { read_at_start: read(config, ReadingTime::AtStart), ..WatchState::default() };
        let watch = Self { metrics, listeners, state: Mutex::new(state) };
        watch.read_again(config, now);
        watch
    }

    /// Reads the files of a configuration that was loaded again.
    pub(super) fn read_again(&self, config: &Config, now: Timestamp) {
        self.state.lock().read_on_reload = read(config, ReadingTime::OnReload);
        self.look(now);
    }

    /// Writes the metric, and the log if a certificate has expired, or will soon.
    pub(super) fn look(&self, now: Timestamp) {
        let mut state = self.state.lock();
        let mut in_use = state.read_at_start.clone();
        let listeners = self.listeners.iter().flat_map(|certificates| certificates.validities());
        for (file, validity) in state.read_on_reload.clone().into_iter().chain(listeners) {
            in_use
                .entry(file)
                .and_modify(|known| *known = if known.until <= validity.until { *known } else { validity })
                .or_insert(validity);
        }
        for (file, validity) in &in_use {
            let label = file.display().to_string();
            self.metrics.certificate_expiry.with_label_values(&[label.as_str()]).set(validity.until as f64);
            match validity.doubt(now) {
                None => _ = state.said.remove(file),
                Some(doubt) if state.is_new(file, doubt, now) => say(&label, doubt),
                Some(_) => {}
            }
        }
        for file in state.shown.keys().filter(|file| !in_use.contains_key(*file)) {
            _ = self.metrics.certificate_expiry.remove_label_values(&[file.display().to_string().as_str()]);
        }
        state.shown = in_use;
    }
}

impl WatchState {
    /// Whether the log has not said this within a day; notes that it does now.
    fn is_new(&mut self, file: &PathBuf, doubt: Doubt, now: Timestamp) -> bool {
        let is_said = self.said.get(file).is_some_and(|(said, at)| *said == doubt && now < at.plus(AGAIN));
        if !is_said {
            self.said.insert(file.clone(), (doubt, now));
        }
        !is_said
    }
}

fn read(config: &Config, is_read: ReadingTime) -> Validities {
    let files = CertificateFile::all(config).into_iter().filter(|file| file.is_read == is_read);
    files.filter_map(|file| Some((file.file.to_owned(), file.validity()?))).collect()
}

fn say(certificate: &str, doubt: Doubt) {
    match doubt {
        Doubt::Expired(_) => tracing::error!(certificate, "certificate `{certificate}` {doubt}"),
        Doubt::NotYetValid(_) | Doubt::Ending(_) => {
            tracing::warn!(certificate, "certificate `{certificate}` {doubt}");
        }
    }
}
