//! The page where an operator lets the gateway copy its store.

use std::path::PathBuf;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::{Control, check_post};
use crate::management::{ManagementAnswer, ManagementBodyError, Requester, read_json};
use crate::store::BackupError;
use crate::telemetry::audit_log::AuditEvent;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupBody {
    file: PathBuf,
}

#[derive(Serialize)]
struct BackupAnswer {
    bytes: u64,
}

impl Control {
    /// Copies the store to a new file.
    pub(super) async fn back_up(
        &self,
        request: &Parts,
        requester: &Requester,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        check_post(&request.method)?;
        let body = read_json(request, body).await?;
        let file = serde_json::from_slice::<BackupBody>(&body).ok().map(|body| body.file);
        let Some(file) = file.filter(|file| file.is_absolute()) else {
            let detail = "write the absolute path of a new file as `file`";
            let status = StatusCode::BAD_REQUEST;
            return Err(ManagementAnswer::problem(status, "request_malformed", Some(detail)));
        };
        let store = self.management.shared().store.clone();
        let to = file.clone();
        let copied = tokio::task::spawn_blocking(move || store.back_up(&to)).await;
        let outcome = match &copied {
            Ok(Ok(_)) => "ok",
            Ok(Err(_)) => "backup_failed",
            Err(_) => "internal_error",
        };
        self.audit(requester, AuditEvent::Backup, outcome);
        match copied {
            Ok(Ok(bytes)) => {
                info!(requester.name = requester.name, "{requester} copied the store to {}", file.display());
                Ok(ManagementAnswer::json(&BackupAnswer { bytes }))
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(ManagementAnswer::problem(StatusCode::INTERNAL_SERVER_ERROR, outcome, None)),
        }
    }
}

fn failed(error: &BackupError) -> ManagementAnswer {
    error!("the store could not be copied: {error}");
    ManagementAnswer::problem(StatusCode::CONFLICT, "backup_failed", Some(&error.to_string()))
}
