//! Asks the gateway that runs with a configuration, through its Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::Value;

use super::table::without_control_characters;
use super::{CommandOutcome, FAILED, MISUSED};
use crate::config::Document;
use crate::control::{self, client};

/// Longest wait for an answer of a few rows of the store.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer. Each variant is the failure of the command.
pub(super) enum AskError {
    /// No gateway runs with this configuration.
    NoGateway(CommandOutcome),
    /// Everything else.
    Failed(CommandOutcome),
}

impl AskError {
    pub(super) fn into_outcome(self) -> CommandOutcome {
        match self {
            Self::NoGateway(outcome) | Self::Failed(outcome) => outcome,
        }
    }
}

/// The body of the running gateway's answer, or the failure of the command.
pub(super) fn ask(
    config: &Path,
    request: http::Result<Request<Bytes>>,
    timeout: Duration,
) -> Result<Bytes, CommandOutcome> {
    try_ask(config, request, timeout).map_err(AskError::into_outcome)
}

/// As [`ask`]; says whether a gateway runs.
pub(super) fn try_ask(
    config: &Path,
    request: http::Result<Request<Bytes>>,
    timeout: Duration,
) -> Result<Bytes, AskError> {
    let document = Document::load(config)
        .map_err(|report| AskError::Failed(CommandOutcome::failure(MISUSED, report.to_string())))?;
    let socket = control::socket_path(&document.config.data_dir);
    let failed =
        |message: String| AskError::Failed(CommandOutcome::failure(FAILED, format!("menshen: {message}")));
    let mut request = request.map_err(|error| failed(format!("cannot build the request: {error}")))?;
    // HTTP/1.1 demands a host. The socket has none.
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let threads = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start threads: {error}")))?;
    let response = threads.block_on(client::send(&socket, request, timeout)).map_err(|error| {
        let message = format!("menshen: {}", describe_failure(&socket, timeout, &error));
        let outcome = CommandOutcome::failure(FAILED, message);
        if is_absent(&error) { AskError::NoGateway(outcome) } else { AskError::Failed(outcome) }
    })?;
    if response.status() == StatusCode::OK {
        return Ok(response.into_body());
    }
    Err(AskError::Failed(refusal(&response)))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn describe_failure(socket: &Path, timeout: Duration, error: &io::Error) -> String {
    let place = socket.display();
    match error.kind() {
        _ if is_absent(error) => {
            format!(
                "no gateway answers at {place}: is the gateway running, with this file? If the file does not set \
                 `data_dir`, run the command in the folder where the gateway was started, or with its \
                 $STATE_DIRECTORY"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{place} is closed to this user: run the command as the gateway's user, or as root")
        }
        io::ErrorKind::TimedOut => {
            format!("the gateway at {place} did not answer within {} s", timeout.as_secs())
        }
        _ => format!("cannot reach the gateway at {place}: {error}"),
    }
}

/// The gateway's refusal. A 400 means that the command was wrong, a 422 that the configuration is.
fn refusal(response: &Response<Bytes>) -> CommandOutcome {
    let problem: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    let said = text("detail").or_else(|| text("code")).unwrap_or("no reason is given");
    let said: Vec<String> = said.lines().map(without_control_characters).collect();
    let said = said.join("\n");
    let status = response.status();
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        return CommandOutcome::failure(MISUSED, said);
    }
    let code = if status == StatusCode::BAD_REQUEST { MISUSED } else { FAILED };
    CommandOutcome::failure(code, format!("menshen: the gateway answered {}: {said}", status.as_u16()))
}
