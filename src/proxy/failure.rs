//! What a failure on the way to a backend, or back, means to the client and to the log.

use pingora::{Error, ErrorSource, ErrorType};

use super::reason::Reason;
use crate::upstream::TlsFailure;

/// Why a request failed.
pub(super) fn reason(error: &Error) -> Reason {
    use ErrorType as E;

    if let E::HTTPStatus(code) = error.etype() {
        return Reason::RefusedByServer(*code);
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, E::ConnectTimedout | E::TLSHandshakeTimedout) => {
            Reason::UpstreamConnectTimeout
        }
        (ErrorSource::Upstream, E::ReadTimedout | E::WriteTimedout | E::ReadError) if is_timeout(error) => {
            Reason::UpstreamTimeout
        }
        (
            ErrorSource::Upstream,
            E::ConnectRefused
            | E::ConnectNoRoute
            | E::ConnectError
            | E::ConnectProxyFailure
            | E::SocketError
            | E::BindError,
        )
        | (ErrorSource::Internal | ErrorSource::Unset, E::ConnectNoRoute) => Reason::UpstreamUnreachable,
        (
            ErrorSource::Upstream,
            E::TLSHandshakeFailure | E::InvalidCert | E::HandshakeError | E::TLSWantX509Lookup,
        ) => Reason::UpstreamTlsFailed,
        // With TLS 1.3 a server refuses the gateway's certificate only after the handshake.
        (ErrorSource::Upstream, _) if TlsFailure::of(error).is_some() => Reason::UpstreamTlsFailed,
        (ErrorSource::Upstream, _) => Reason::UpstreamBrokeOff,
        (ErrorSource::Downstream, E::ReadTimedout) => Reason::ClientTimeout,
        (ErrorSource::Downstream, _) if is_malformed_stream(error) => Reason::RequestMalformed,
        (
            ErrorSource::Downstream,
            E::WriteTimedout | E::WriteError | E::ReadError | E::ConnectionClosed | E::H2Error,
        ) => Reason::ClientGone,
        (ErrorSource::Downstream, _) => Reason::RequestMalformed,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Reason::InternalError,
    }
}

/// Whether the HTTP/2 library reset the stream for a mistake of the client, such as a body of
/// another length than it said.
fn is_malformed_stream(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<h2::Error>();
    cause.is_some_and(|cause| cause.is_library() && (cause.is_reset() || cause.is_go_away()))
}

/// Whether Pingora's timer ended it, or the timer of a tunnel's connection.
fn is_timeout(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    *error.etype() != ErrorType::ReadError
        || cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// Describes an error for the log: its kind, and the operating system's error.
///
/// Pingora's own description quotes the message that did not parse, with a backend's cookies.
pub(super) fn description(error: &Error) -> String {
    let kind = format!("{} {}", error.esource().as_str(), error.etype().as_str());
    match error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
        Some(code) => format!("{}: {}", kind.trim(), std::io::Error::from_raw_os_error(code)),
        None => kind.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_way_to_fail_has_its_status_and_its_word() {
        use ErrorType as E;

        let unreachable = (Some(502), "upstream_unreachable");
        let tls_failed = (Some(502), "upstream_tls_failed");
        let gone = (None, "client_gone");
        for (error, expected) in [
            (Error::new_down(E::HTTPStatus(413)), (Some(413), "refused_by_server")),
            (Error::new_up(E::ConnectTimedout), (Some(504), "upstream_connect_timeout")),
            (Error::new_up(E::TLSHandshakeTimedout), (Some(504), "upstream_connect_timeout")),
            (Error::new_up(E::ReadTimedout), (Some(504), "upstream_timeout")),
            (Error::new_up(E::WriteTimedout), (Some(504), "upstream_timeout")),
            (Error::new_up(E::ReadError), (Some(502), "upstream_broke_off")),
            (Error::new_up(E::ConnectRefused), unreachable),
            (Error::new_up(E::ConnectNoRoute), unreachable),
            (Error::new_in(E::ConnectNoRoute), unreachable),
            (Error::new_up(E::TLSHandshakeFailure), tls_failed),
            (Error::new_up(E::InvalidCert), tls_failed),
            (Error::new_up(E::InvalidHTTPHeader), (Some(502), "upstream_broke_off")),
            (Error::new_down(E::ReadTimedout), (Some(408), "client_timeout")),
            (Error::new_down(E::WriteTimedout), gone),
            (Error::new_down(E::ConnectionClosed), gone),
            (Error::new_down(E::H2Error), gone),
            (Error::new_down(E::InvalidHTTPHeader), (Some(400), "request_malformed")),
            (Error::new_in(E::InternalError), (Some(500), "internal_error")),
            (Error::new(E::InternalError), (Some(500), "internal_error")),
        ] {
            let reason = reason(&error);

            let status = reason.status().map(|status| status.as_u16());
            assert_eq!((status, reason.as_str()), expected, "{error}");
        }
    }

    #[test]
    fn a_timeout_is_not_a_broken_connection() {
        for (kind, expected) in [
            (io::ErrorKind::TimedOut, Reason::UpstreamTimeout),
            (io::ErrorKind::ConnectionReset, Reason::UpstreamBrokeOff),
        ] {
            let mut error = Error::because(ErrorType::ReadError, "reading", io::Error::from(kind));
            error.as_up();

            assert_eq!(reason(&error), expected, "{kind}");
        }
    }

    #[test]
    fn an_error_is_described_without_what_was_sent() {
        let mut quoting = Error::explain(ErrorType::InvalidHTTPHeader, "Set-Cookie: secret");
        quoting.as_up();
        let refused = io::Error::from_raw_os_error(111);
        let mut with_code = Error::because(ErrorType::ConnectRefused, "connecting to 10.0.0.1", refused);
        with_code.as_up();

        assert_eq!(description(&quoting), "Upstream InvalidHTTPHeader");
        assert_eq!(description(&with_code), "Upstream ConnectRefused: Connection refused (os error 111)");
    }
}
