//! The embedded engine: one redb file.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config;
use crate::telemetry::metrics::Metrics;

use super::Closed;

/// The embedded engine.
pub type Embedded = Closed;

/// A store file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {}

impl Embedded {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`FileError`], with what to do about it.
    pub fn open(
        _path: &Path,
        _config: &config::EmbeddedStore,
        _clock: Arc<dyn Clock>,
        _metrics: &Metrics,
    ) -> Result<Self, FileError> {
        Ok(Closed)
    }
}
