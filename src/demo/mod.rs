//! The gateway, an emulated WeChat and a sample backend in one process, with steps to try.
//!
//! The gateway is the real one, started as `serve` starts it, on ports that the system chooses. The
//! shown steps and the steps of the self-test are one table, `step::STEPS`.

mod backend;
mod client;
mod curl;
mod language;
mod stage;
mod step;
mod tour;

use std::io::{self, Write};
use std::net::SocketAddr;

use crate::config;
use crate::server::StartError;
use crate::telemetry::diagnostics::{self, Diagnostics};

pub use self::language::DemoLanguage;
use self::stage::Stage;

/// How the demo is shown.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// Where the gateway listens; WeChat listens on the next port. The system chooses if absent.
    pub listen: Option<SocketAddr>,
    /// The language of all that is printed.
    pub language: DemoLanguage,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part of the demo did not start.
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
    /// The gateway ended while the demo ran.
    #[error("the gateway ended by itself")]
    Ended,
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Prints the steps to paste into a terminal, and serves until a signal ends the demo.
///
/// # Errors
/// [`DemoError`]. No file is left behind.
pub fn show(options: DemoOptions, out: &mut impl Write) -> Result<(), DemoError> {
    let _diagnostics = quiet_diagnostics();
    let stage = Stage::start(options)?;
    let shown = stage.show_until_signal(|stage| tour::show(stage, options.language, out));
    stage.end();
    shown
}

/// Runs the steps that [`show`] prints, with one line for each. Returns whether all of them passed.
///
/// # Errors
/// [`DemoError`]. No file is left behind.
pub fn self_test(options: DemoOptions, out: &mut impl Write) -> Result<bool, DemoError> {
    let _diagnostics = quiet_diagnostics();
    let stage = Stage::start(options)?;
    let passed = tour::run(&stage, options.language, out);
    stage.end();
    Ok(passed?)
}

/// Logs warnings only: the demo itself prints what happens.
fn quiet_diagnostics() -> Option<Diagnostics> {
    let log = config::Log { level: "warn".into(), ..config::Log::default() };
    // Diagnostics that are installed already stay.
    diagnostics::install(&log).ok()
}
