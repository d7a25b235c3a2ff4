//! Reads the body of a request, with a limit on its size and its time.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::answer::ManagementAnswer;

/// Largest body, in bytes. A scope needs a tenth of it.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// Longest time for the whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the body of a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementBodyError {
    /// The body has more than 4 KiB.
    TooLarge,
    /// The body did not arrive within 5 seconds.
    TimedOut,
    /// The connection broke, or the framing is wrong.
    Broken,
}

impl ManagementBodyError {
    /// What is answered.
    pub fn answer(self) -> ManagementAnswer {
        let (status, code) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "body_timed_out"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body_incomplete"),
        };
        ManagementAnswer::problem(status, code, None)
    }
}

/// Reads the whole body.
///
/// # Errors
/// [`ManagementBodyError`], by variant.
pub async fn read_body(body: Incoming) -> Result<Bytes, ManagementBodyError> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    match collected {
        Err(_) => Err(ManagementBodyError::TimedOut),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ManagementBodyError::TooLarge),
        Ok(Err(_)) => Err(ManagementBodyError::Broken),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}
