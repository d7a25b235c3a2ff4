//! The limits of the body of a request, and what is answered if they are exceeded.

use std::time::Duration;

use http::StatusCode;

use super::answer::ManagementAnswer;

/// Largest body, in bytes. A scope needs a tenth of it.
pub const MAX_BODY_BYTES: usize = 4 * 1024;
/// Longest time for the whole body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

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
    pub(super) fn answer(self) -> ManagementAnswer {
        let (status, code) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "body_timed_out"),
            Self::Broken => (StatusCode::BAD_REQUEST, "body_incomplete"),
        };
        ManagementAnswer::problem(status, code, None)
    }
}
