//! The main job in one process, to try and to paste from: a phone signs in, a backend learns who calls.
//!
//! Nothing is played here but WeChat and the backend: the gateway is the real one, started as `serve` starts it, on
//! ports that the system chooses. What is shown and what the self-test runs is one table, `step::STEPS`.

mod backend;
mod client;
mod curl;
mod stage;
mod step;
mod tour;

use std::io::{self, Write};

use crate::config;
use crate::server::StartError;
use crate::telemetry::diagnostics;

use self::stage::Stage;

/// Why the demo cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part of it did not start.
    #[error("cannot set up {part}: {source}")]
    Start {
        /// The part.
        part: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The gateway did not start.
    #[error(transparent)]
    Gateway(#[from] StartError),
    /// The gateway ended while it was shown.
    #[error("the gateway ended by itself")]
    Ended,
    /// What is shown cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Shows what to paste into a terminal, and serves it until a signal ends the demo.
///
/// # Errors
/// [`DemoError`]; nothing is left behind.
pub fn show(out: &mut impl Write) -> Result<(), DemoError> {
    quiet_diagnostics();
    let stage = Stage::start()?;
    let shown = stage.show_until_signal(|stage| tour::show(stage, out));
    stage.end();
    shown
}

/// Runs what [`show`] shows, a line for each step, and says whether all of it went as it should.
///
/// # Errors
/// [`DemoError`]; nothing is left behind.
pub fn self_test(out: &mut impl Write) -> Result<bool, DemoError> {
    quiet_diagnostics();
    let stage = Stage::start()?;
    let passed = tour::run(&stage, out);
    stage.end();
    Ok(passed?)
}

/// What happens is shown by the demo itself; what goes wrong still has to be heard.
fn quiet_diagnostics() {
    let log = config::Log { level: "warn".into(), ..config::Log::default() };
    // Whoever installed diagnostics before hears it too.
    _ = diagnostics::install(&log);
}
