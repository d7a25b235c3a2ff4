//! The door of the operators: a Unix socket in the data directory.
//!
//! Decides what each path of the socket answers. Only root and the user of the gateway can connect:
//! the file's mode says so, so no password is asked for.

mod backup;
pub mod client;
mod serve;
mod socket;
mod throttle;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::Serialize;
use tracing::info;

pub use self::serve::serve;
pub use self::socket::{ControlSocket, socket_path};
use crate::config::Report;
use crate::management::{
    Management, ManagementAnswer, ManagementBodyError, ManagementPage, Requester, read_json,
};
use crate::telemetry::audit_log::{AuditEvent, AuditLogEntry};

/// Loads the configuration again: the warnings, or all errors.
pub type ReloadFunction = Box<dyn Fn() -> Result<Report, Report> + Send + Sync>;

/// Answers the requests of operators.
pub struct Control {
    management: Arc<Management>,
    reload: Arc<ReloadFunction>,
}

/// The answer to a reload.
#[derive(Serialize)]
struct ReloadAnswer {
    warnings: Vec<String>,
}

/// A page of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlPage {
    Reload,
    Backup,
    Throttled,
    LiftThrottle,
    Management(ManagementPage),
}

impl ControlPage {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/reload" => Some(Self::Reload),
            "/store/backup" => Some(Self::Backup),
            "/throttle" => Some(Self::Throttled),
            "/throttle/lift" => Some(Self::LiftThrottle),
            _ => ManagementPage::at(path).map(Self::Management),
        }
    }
}

impl Control {
    /// Makes the service.
    pub fn new(management: Arc<Management>, reload: ReloadFunction) -> Self {
        Self { management, reload: Arc::new(reload) }
    }

    /// Answers a request.
    async fn answer(
        &self,
        request: &Parts,
        requester: &Requester,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Response<Vec<u8>> {
        let answer = match ControlPage::at(request.uri.path()) {
            None => Err(ManagementAnswer::problem(StatusCode::NOT_FOUND, "not_found", None)),
            Some(ControlPage::Reload) => self.reload(request, requester, body).await,
            Some(ControlPage::Backup) => self.back_up(request, requester, body).await,
            Some(ControlPage::Throttled) => self.list_throttled(request, requester),
            Some(ControlPage::LiftThrottle) => self.lift_throttle(request, requester, body).await,
            Some(ControlPage::Management(page)) => {
                self.management.answer(page, request, requester, body).await
            }
        };
        answer.unwrap_or_else(|refused| refused).into_response(&request.method)
    }

    async fn reload(
        &self,
        request: &Parts,
        requester: &Requester,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        check_post(&request.method)?;
        read_json(request, body).await?;
        let reload = Arc::clone(&self.reload);
        // It reads files and resolves names.
        let reloaded = tokio::task::spawn_blocking(move || reload()).await;
        let outcome = match &reloaded {
            Ok(Ok(_)) => "ok",
            Ok(Err(_)) => "configuration_invalid",
            Err(_) => "internal_error",
        };
        info!(requester.name = requester.name, "{requester} loaded the configuration again: {outcome}");
        self.audit(requester, AuditEvent::Reload, outcome);
        match reloaded {
            Ok(Ok(report)) => {
                let warnings = report.findings().map(ToString::to_string).collect();
                Ok(ManagementAnswer::json(&ReloadAnswer { warnings }))
            }
            Ok(Err(report)) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Err(ManagementAnswer::problem(status, outcome, Some(&report.to_string())))
            }
            Err(_) => Err(ManagementAnswer::problem(StatusCode::INTERNAL_SERVER_ERROR, outcome, None)),
        }
    }

    /// Writes to the audit log what an operator did with the gateway itself.
    fn audit(&self, requester: &Requester, event: AuditEvent, outcome: &str) {
        let shared = self.management.shared();
        shared.audit_log.write(&AuditLogEntry {
            door: Some(requester.door.as_str()),
            requester: Some(&requester.name),
            ..AuditLogEntry::new(shared.clock.now(), event, outcome)
        });
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

fn check_post(method: &Method) -> Result<(), ManagementAnswer> {
    if method == Method::POST { Ok(()) } else { Err(ManagementAnswer::method_not_allowed("POST")) }
}
