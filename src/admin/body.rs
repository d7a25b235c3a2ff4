//! Reads the body of a request to the admin listener: a short one, in a short time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora::protocols::http::ServerSession;

use super::answer::Answer;

/// Most bytes of a body: a scope takes a tenth of it.
const MAX_BYTES: usize = 4 * 1024;
/// Longest time for all of it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It has more than 4 KiB.
    TooLarge,
    /// It did not arrive within 5 seconds.
    TimedOut,
    /// The connection broke, or the framing did.
    Broken,
}

impl BodyFault {
    pub(super) fn answer(self) -> Answer {
        let (status, code) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "body_timed_out"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body_incomplete"),
        };
        Answer::problem(status, code, None)
    }
}

pub(super) async fn read(session: &mut ServerSession) -> Result<Bytes, BodyFault> {
    tokio::time::timeout(TIMEOUT, read_all(session)).await.unwrap_or(Err(BodyFault::TimedOut))
}

async fn read_all(session: &mut ServerSession) -> Result<Bytes, BodyFault> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_request_body().await.map_err(|_| BodyFault::Broken)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(BodyFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
