//! Reads the body of a request to the admin listener, with a limit on its size and its time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora::protocols::http::ServerSession;

use super::answer::AdminAnswer;

/// Largest body, in bytes. A scope needs a tenth of it.
const MAX_BYTES: usize = 4 * 1024;
/// Longest time for the whole body.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the body of a request to the admin listener could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminBodyError {
    /// The body has more than 4 KiB.
    TooLarge,
    /// The body did not arrive within 5 seconds.
    TimedOut,
    /// The connection broke, or the framing is wrong.
    Broken,
}

impl AdminBodyError {
    pub(super) fn answer(self) -> AdminAnswer {
        let (status, code) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "body_timed_out"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body_incomplete"),
        };
        AdminAnswer::problem(status, code, None)
    }
}

pub(super) async fn read(session: &mut ServerSession) -> Result<Bytes, AdminBodyError> {
    tokio::time::timeout(TIMEOUT, read_all(session)).await.unwrap_or(Err(AdminBodyError::TimedOut))
}

async fn read_all(session: &mut ServerSession) -> Result<Bytes, AdminBodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_request_body().await.map_err(|_| AdminBodyError::Broken)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(AdminBodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
