//! The life of the process: start, signals, stop.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Sources;
use super::error::RunError;
use super::running::RunningGateway;
use super::start::start;
use crate::config::{Config, Document, Report};
use crate::store;

/// Runs a gateway until a signal ends it: SIGTERM drains, SIGINT does not wait, SIGHUP loads the
/// configuration again.
///
/// # Errors
/// [`RunError`]; the process must end with a failure, because it serves no longer.
pub fn run(document: &Document, path: &Path) -> Result<(), RunError> {
    let running = start(document, path.to_owned(), Sources::default())?;
    log_start(&running, &document.config);
    let shutdown = running.block_on(wait_for_end(&running));
    match shutdown {
        Ok(ShutdownKind::Drain) => {
            tracing::info!("draining, at most {:?}", running.drain_timeout);
            let cut = running.stop();
            tracing::info!(connections.cut = cut, "stopped, {cut} connections cut");
            Ok(())
        }
        Ok(ShutdownKind::AtOnce) => {
            running.stop_within(Duration::ZERO);
            Ok(())
        }
        Err(error) => {
            running.stop_within(Duration::ZERO);
            Err(error)
        }
    }
}

/// How a signal ends the process.
enum ShutdownKind {
    Drain,
    AtOnce,
}

async fn wait_for_end(running: &RunningGateway) -> Result<ShutdownKind, RunError> {
    let on = |kind| signal(kind).map_err(RunError::Signals);
    let (mut terminate, mut interrupt, mut hangup) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(ShutdownKind::Drain),
            _ = interrupt.recv() => return Ok(ShutdownKind::AtOnce),
            () = running.failed() => return Err(RunError::ServiceEnded),
            // Reading files and resolving names may block, but nothing else runs on this thread.
            _ = hangup.recv() => log_reload(running.reloading.reload_on_signal()),
        }
    }
}

fn log_start(running: &RunningGateway, config: &Config) {
    tracing::info!("menshen {} started", env!("CARGO_PKG_VERSION"));
    tracing::info!("sessions are kept in {}", store::place(&config.store, &config.data_dir));
    for address in &running.addresses {
        tracing::info!(server.address = %address, "listening on {address}");
    }
    tracing::info!(server.address = %running.admin_address, "admin listening on {}", running.admin_address);
    if let Some(address) = running.internal_address {
        tracing::info!(server.address = %address, "programs of the business are answered at {address}");
    }
    if let Some(address) = running.wechat_alias_address {
        tracing::info!(server.address = %address, "calls of WeChat's API without a credential are answered at {address}");
    }
    if let Some(socket) = &running.control_socket {
        tracing::info!("operators are answered at {}", socket.display());
    }
    for finding in running.warnings.findings() {
        tracing::warn!("{finding}");
    }
}

fn log_reload(reloaded: Result<Report, Report>) {
    match reloaded {
        Ok(warnings) => {
            tracing::info!("loaded the configuration again");
            for finding in warnings.findings() {
                tracing::warn!("{finding}");
            }
        }
        Err(report) => tracing::error!("kept the old configuration, the new one cannot be used:\n{report}"),
    }
}
