//! Which requests are sent again after they failed.
//!
//! A request that is not idempotent is repeated only if none of it was written, or if HTTP/2 says
//! that it was not processed. RFC 9110 §9.2.2, RFC 9113 §8.7.

use h2::Reason;
use pingora::{Error, ErrorSource, ErrorType};

/// Most times that a request is repeated because its servers say that they did not process it.
const MOST_REPEATS: u8 = 2;

/// One try to have a server answer, up to its failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedTry {
    /// Whether the method is idempotent.
    pub(super) is_idempotent: bool,
    /// Whether the connection had served another request before.
    pub(super) is_reused: bool,
    /// Whether all of the body that was read can be sent again.
    pub(super) has_body: bool,
    /// Whether the header was written whole, and the body came next.
    pub(super) has_begun_body: bool,
    /// Whether the final answer has begun.
    pub(super) is_answered: bool,
    /// How often the request was repeated so far because it was not processed.
    pub(super) repeats: u8,
}

/// What is done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The client is told.
    Never,
    /// The request is sent again: the kept connection had gone stale.
    OfStaleConnection,
    /// The request is sent again: it was not processed.
    OfUnprocessed,
}

/// Decides whether a request is sent again after an error.
pub(super) fn decide(error: &mut Error, failed: FailedTry) -> Repeat {
    if !failed.has_body || failed.is_answered {
        return Repeat::Never;
    }
    if is_unprocessed(error) || is_unwritten(error, failed.has_begun_body) {
        return if failed.repeats < MOST_REPEATS { Repeat::OfUnprocessed } else { Repeat::Never };
    }
    if !failed.is_idempotent {
        return Repeat::Never;
    }
    error.retry.decide_reuse(failed.is_reused);
    if error.retry() { Repeat::OfStaleConnection } else { Repeat::Never }
}

/// Whether the server says over HTTP/2 that it did not process the request: it refused the stream,
/// or ends the connection and names an earlier stream as the last one.
///
/// The library fails the streams after the last one alone only if the connection ends without an
/// error.
fn is_unprocessed(error: &Error) -> bool {
    cause(error).filter(|cause| cause.is_remote()).is_some_and(|cause| {
        let reason = cause.reason();
        cause.is_reset() && reason == Some(Reason::REFUSED_STREAM)
            || cause.is_go_away() && reason == Some(Reason::NO_ERROR)
    })
}

/// Whether the request never left: the connection was gone before its header was written. A server
/// cannot process a header that is not whole.
fn is_unwritten(error: &Error, has_begun_body: bool) -> bool {
    let is_of_server = *error.esource() == ErrorSource::Upstream;
    // An error of the operating system has the type of a read once the request was sent.
    let is_unsent = *error.etype() == ErrorType::H2Error && cause(error).is_some_and(h2::Error::is_io);
    is_of_server && !has_begun_body && (*error.etype() == ErrorType::WriteError || is_unsent)
}

fn cause(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref::<h2::Error>()
}

#[cfg(test)]
mod tests {
    use std::io;

    use pingora::RetryType;

    use super::*;

    const FAILED: FailedTry = FailedTry {
        is_idempotent: false,
        is_reused: true,
        has_body: true,
        has_begun_body: false,
        is_answered: false,
        repeats: 0,
    };

    fn broken_pipe(kind: ErrorType) -> Box<Error> {
        Error::because(kind, "writing", io::Error::from(io::ErrorKind::BrokenPipe)).into_up()
    }

    fn stale() -> Box<Error> {
        let mut error = Error::explain(ErrorType::ConnectionClosed, "reading").into_up();
        error.retry = RetryType::ReusedOnly;
        error
    }

    #[test]
    fn a_request_is_repeated_whatever_its_method_if_none_of_it_was_written() {
        let begun = FailedTry { has_begun_body: true, ..FAILED };
        for (what, error, failed, expected) in [
            ("the header", broken_pipe(ErrorType::WriteError), FAILED, Repeat::OfUnprocessed),
            ("the body", broken_pipe(ErrorType::WriteError), begun, Repeat::Never),
            ("an answer", broken_pipe(ErrorType::ReadError), FAILED, Repeat::Never),
            ("a timeout", Error::new_up(ErrorType::WriteTimedout), FAILED, Repeat::Never),
            ("to the client", Error::new_down(ErrorType::WriteError), FAILED, Repeat::Never),
        ] {
            let mut error = error;
            assert_eq!(decide(&mut error, failed), expected, "{what}");
        }
        let lost = FailedTry { has_body: false, ..FAILED };
        let tired = FailedTry { repeats: MOST_REPEATS, ..FAILED };
        let answered = FailedTry { is_answered: true, ..FAILED };
        for failed in [lost, tired, answered] {
            assert_eq!(decide(&mut broken_pipe(ErrorType::WriteError), failed), Repeat::Never);
        }
    }

    #[test]
    fn a_stale_connection_costs_an_idempotent_request_nothing() {
        for (is_idempotent, is_reused, expected) in [
            (true, true, Repeat::OfStaleConnection),
            (true, false, Repeat::Never),
            (false, true, Repeat::Never),
        ] {
            let failed = FailedTry { is_idempotent, is_reused, has_begun_body: true, ..FAILED };
            assert_eq!(decide(&mut stale(), failed), expected, "{is_idempotent} {is_reused}");
        }
    }
}
