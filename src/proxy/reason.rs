//! Why a request was forwarded, answered or refused: the words of `reason` in the access log, in
//! the metrics and in problem documents. `docs/request-log.md` explains them.

use http::StatusCode;

use super::admission::AdmissionError;
use crate::authn;
use crate::cors::PreflightError;
use crate::route::{Denied, NoRoute, PathRefusal};

/// Why a request was forwarded, answered or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No step has decided it.
    Undecided,

    /// Forwarded: the route asks for no identity.
    Public,
    /// Forwarded: the route takes a token, and there was none.
    Anonymous,
    /// Forwarded: the token or session cookie is valid.
    Authenticated,

    /// Forwarded: a preflight that the backend of the route answers.
    PreflightForwarded,

    /// Answered: `OPTIONS *`.
    Options,
    /// Answered: the probe of a balancer.
    Health,
    /// Answered: the page of another origin may send what its preflight asks about.
    Preflight,
    /// Answered so that the browser does not send what the preflight asks about.
    PreflightRefused(PreflightError),
    /// Answered by a sign-in endpoint, in the endpoint's own word.
    SignIn(&'static str),
    /// Refused by a sign-in endpoint, in the endpoint's own word. A façade may answer with another
    /// status than this.
    SignInRefused(&'static str, StatusCode),

    /// The connection has no peer address.
    PeerUnknown,
    /// The request is not admitted.
    Admission(AdmissionError),
    /// The client is locked out for its errors.
    TooManyErrors,
    /// No route has this host and path.
    RouteUnknown,
    /// The path's routes serve other methods.
    MethodNotAllowed,
    /// The `Destination` of COPY or MOVE is not a canonical path of the request's own route.
    DestinationRefused,
    /// Backends read the path in more than one way, and its route does not accept that.
    PathRefused(PathRefusal),
    /// The route's upstream does not exist.
    UpstreamUndefined,
    /// A rate limit of the route refused the request.
    RateLimited,
    /// Too many requests are under way.
    TooManyUnderWay,
    /// The client's address has too many requests under way.
    TooManyUnderWayOfAddress,
    /// The caller is not authenticated, or not for this route.
    Authentication(authn::AuthnError),
    /// A browser opened a page without a session, and its user cannot sign in at this host.
    OriginUnknown,
    /// The caller is authenticated, and the route's rules refuse them.
    Denied(Denied),

    /// The person of a request under way was bound to another user, or to none.
    UserChanged,
    /// The route of a WebSocket, to be opened or open, does not allow it.
    WebSocketNotAllowed,

    /// No connection to a server was made in time.
    UpstreamConnectTimeout,
    /// The server did not answer in time.
    UpstreamTimeout,
    /// No connection to a server could be made.
    UpstreamUnreachable,
    /// The TLS handshake with the server failed.
    UpstreamTlsFailed,
    /// The server ended its answer before it was complete.
    UpstreamBrokeOff,
    /// Pingora refused the request with this status.
    RefusedByServer(u16),
    /// The client did not send its request in time.
    ClientTimeout,
    /// The client went away.
    ClientGone,
    /// The client's request could not be read.
    RequestMalformed,
    /// The gateway failed.
    InternalError,
}

/// What was done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Forwarded,
    Answered,
    Refused,
}

impl Disposition {
    /// The word in the access log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Answered => "answered",
            Self::Refused => "refused",
        }
    }
}

impl Reason {
    /// The word in the access log, the metrics and the answer.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Public => "public",
            Self::Anonymous => "anonymous",
            Self::Authenticated => "authenticated",
            Self::PreflightForwarded => "preflight_forwarded",
            Self::Options => "options",
            Self::Health => "health",
            Self::Preflight => "preflight",
            Self::PreflightRefused(error) => error.reason(),
            Self::SignIn(word) | Self::SignInRefused(word, _) => word,
            Self::PeerUnknown => "peer_unknown",
            Self::Admission(error) => error.reason(),
            Self::TooManyErrors => "too_many_errors",
            Self::RouteUnknown => "route_unknown",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::DestinationRefused => "destination_refused",
            // The same word as for a path that no route may accept: both are spelled wrongly.
            Self::PathRefused(_) => "path_refused",
            Self::UpstreamUndefined => "upstream_undefined",
            Self::RateLimited => "rate_limited",
            Self::TooManyUnderWay => "too_many_under_way",
            Self::TooManyUnderWayOfAddress => "too_many_under_way_of_address",
            Self::Authentication(refusal) => refusal.reason(),
            Self::Denied(denied) => denied.reason(),
            Self::OriginUnknown => "origin_unknown",
            Self::UserChanged => "user_changed",
            Self::WebSocketNotAllowed => "websocket_not_allowed",
            Self::UpstreamConnectTimeout => "upstream_connect_timeout",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTlsFailed => "upstream_tls_failed",
            Self::UpstreamBrokeOff => "upstream_broke_off",
            Self::RefusedByServer(_) => "refused_by_server",
            Self::ClientTimeout => "client_timeout",
            Self::ClientGone => "client_gone",
            Self::RequestMalformed => "request_malformed",
            Self::InternalError => "internal_error",
        }
    }

    /// What was done with the request.
    pub(super) const fn disposition(self) -> Disposition {
        match self {
            Self::Public | Self::Anonymous | Self::Authenticated | Self::PreflightForwarded => {
                Disposition::Forwarded
            }
            Self::Options | Self::Health | Self::Preflight | Self::SignIn(_) => Disposition::Answered,
            _ => Disposition::Refused,
        }
    }

    /// The status of a refusal for this reason; `None` if it is no refusal, or if there is no
    /// client to answer.
    pub(super) fn status(self) -> Option<StatusCode> {
        use authn::AuthnError as R;

        Some(match self {
            Self::Public
            | Self::Anonymous
            | Self::Authenticated
            | Self::PreflightForwarded
            | Self::Options
            | Self::Health
            | Self::Preflight
            | Self::PreflightRefused(_)
            | Self::SignIn(_)
            | Self::UserChanged
            | Self::ClientGone => return None,
            Self::SignInRefused(_, status) => status,
            Self::Admission(error) => error.status(),
            Self::RefusedByServer(code) => return StatusCode::from_u16(code).ok(),
            Self::PeerUnknown | Self::RequestMalformed | Self::PathRefused(_) | Self::DestinationRefused => {
                StatusCode::BAD_REQUEST
            }
            Self::RouteUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyErrors | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyUnderWay
            | Self::TooManyUnderWayOfAddress
            | Self::Authentication(R::StoreUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Authentication(R::CrossSite | R::AppNotPermitted | R::Blocked)
            | Self::Denied(_)
            | Self::WebSocketNotAllowed => StatusCode::FORBIDDEN,
            Self::Authentication(_) | Self::OriginUnknown => StatusCode::UNAUTHORIZED,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UpstreamConnectTimeout | Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UpstreamUnreachable | Self::UpstreamTlsFailed | Self::UpstreamBrokeOff => {
                StatusCode::BAD_GATEWAY
            }
            Self::Undecided | Self::UpstreamUndefined | Self::InternalError => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        })
    }

    /// Whether the gateway itself refused the request, or failed to forward it, and said why.
    pub(super) fn is_refusal(self) -> bool {
        self.disposition() == Disposition::Refused && self != Self::Undecided
    }

    /// Whether what follows the header cannot be told from another request.
    pub(super) const fn leaves_end_unknown(self) -> bool {
        use AdmissionError as A;

        matches!(self, Self::Admission(A::Framing | A::LineEnding | A::Chunk))
    }

    /// Whether the request was refused for who its caller is, or because its caller is not known.
    ///
    /// If the store does not answer, nothing is known about the caller, and the audit log says
    /// nothing.
    pub(super) fn is_denial(self) -> bool {
        match self {
            Self::Authentication(refusal) => refusal != authn::AuthnError::StoreUnavailable,
            Self::Denied(_) | Self::OriginUnknown => true,
            _ => false,
        }
    }

    /// Whether a request under way was cut off for this because its caller may not go on. A client
    /// that does not send its body is no event of the audit log.
    pub(super) fn ends_permission(self) -> bool {
        self != Self::ClientTimeout
    }
}

impl From<NoRoute> for Reason {
    fn from(none: NoRoute) -> Self {
        match none {
            NoRoute::NotFound => Self::RouteUnknown,
            NoRoute::MethodNotAllowed => Self::MethodNotAllowed,
            NoRoute::Path(refusal) => Self::PathRefused(refusal),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::path::{PathError, Spellings};

    /// Every reason, with its status and its word.
    pub(in crate::proxy) fn table() -> Vec<(Reason, Option<u16>, &'static str)> {
        use {AdmissionError as A, Reason as R, authn::AuthnError as I};

        let mut table = vec![
            (R::Undecided, Some(500), "undecided"),
            (R::Public, None, "public"),
            (R::Anonymous, None, "anonymous"),
            (R::Authenticated, None, "authenticated"),
            (R::PreflightForwarded, None, "preflight_forwarded"),
            (R::Options, None, "options"),
            (R::Health, None, "health"),
            (R::DestinationRefused, Some(400), "destination_refused"),
            (R::Preflight, None, "preflight"),
            (R::PreflightRefused(PreflightError::Origin), None, "preflight_origin_refused"),
            (R::PreflightRefused(PreflightError::Method), None, "preflight_method_refused"),
            (R::PreflightRefused(PreflightError::Header), None, "preflight_header_refused"),
            (R::SignIn("ok"), None, "ok"),
            (R::SignInRefused("code_invalid", StatusCode::UNAUTHORIZED), Some(401), "code_invalid"),
            (R::PeerUnknown, Some(400), "peer_unknown"),
            (R::Admission(A::Method), Some(405), "method_not_admitted"),
            (R::Admission(A::TargetTooLong), Some(414), "target_too_long"),
            (R::Admission(A::HeaderTooLarge), Some(431), "header_too_large"),
            (R::Admission(A::Target), Some(400), "target_malformed"),
            (R::Admission(A::Path(PathError::DotSegment)), Some(400), "path_refused"),
            (R::Admission(A::Host), Some(400), "host_malformed"),
            (R::Admission(A::HeaderName), Some(400), "header_name_refused"),
            (R::Admission(A::Framing), Some(400), "framing_ambiguous"),
            (R::Admission(A::LineEnding), Some(400), "line_ending_malformed"),
            (R::Admission(A::RequestLine), Some(400), "request_line_malformed"),
            (R::Admission(A::HeaderLine), Some(400), "header_line_malformed"),
            (R::Admission(A::HeaderValue), Some(400), "header_value_malformed"),
            (R::Admission(A::Tls), Some(400), "tls_on_plain_listener"),
            (R::Admission(A::Chunk), Some(400), "chunk_malformed"),
            (R::Admission(A::Expectation), Some(417), "expectation_failed"),
            (R::TooManyErrors, Some(429), "too_many_errors"),
            (R::RouteUnknown, Some(404), "route_unknown"),
            (R::MethodNotAllowed, Some(405), "method_not_allowed"),
            (R::PathRefused(PathRefusal::ReadingsDiffer(Spellings::default())), Some(400), "path_refused"),
            (R::UpstreamUndefined, Some(500), "upstream_undefined"),
            (R::RateLimited, Some(429), "rate_limited"),
            (R::Denied(Denied::ByList), Some(403), "denied_by_list"),
            (R::Denied(Denied::UnionIdUnknown), Some(403), "unionid_unknown"),
            (R::Denied(Denied::UserUnbound), Some(403), "user_unbound"),
            (R::Denied(Denied::ClaimMissing), Some(403), "claim_missing"),
            (R::Denied(Denied::NotOnList), Some(403), "not_on_list"),
            (R::OriginUnknown, Some(401), "origin_unknown"),
            (R::UserChanged, None, "user_changed"),
            (R::TooManyUnderWay, Some(503), "too_many_under_way"),
            (R::TooManyUnderWayOfAddress, Some(503), "too_many_under_way_of_address"),
            (R::WebSocketNotAllowed, Some(403), "websocket_not_allowed"),
            (R::UpstreamConnectTimeout, Some(504), "upstream_connect_timeout"),
            (R::UpstreamTimeout, Some(504), "upstream_timeout"),
            (R::UpstreamUnreachable, Some(502), "upstream_unreachable"),
            (R::UpstreamTlsFailed, Some(502), "upstream_tls_failed"),
            (R::UpstreamBrokeOff, Some(502), "upstream_broke_off"),
            (R::RefusedByServer(413), Some(413), "refused_by_server"),
            (R::ClientTimeout, Some(408), "client_timeout"),
            (R::ClientGone, None, "client_gone"),
            (R::RequestMalformed, Some(400), "request_malformed"),
            (R::InternalError, Some(500), "internal_error"),
        ];
        table.extend(I::ALL.map(|refusal| {
            let status = match refusal {
                I::StoreUnavailable => 503,
                I::CrossSite | I::AppNotPermitted | I::Blocked => 403,
                _ => 401,
            };
            (R::Authentication(refusal), Some(status), refusal.reason())
        }));
        table
    }

    #[test]
    fn each_reason_has_one_status_and_one_word() {
        let table = table();
        assert_eq!(table.len(), 56 + authn::AuthnError::ALL.len());
        for (reason, status, word) in table {
            assert_eq!(reason.status().map(|status| status.as_u16()), status, "{reason:?}");
            assert_eq!(reason.as_str(), word, "{reason:?}");
        }
    }

    #[test]
    fn what_was_done_follows_from_the_reason() {
        for (reason, _, word) in table() {
            let expected = match word {
                "public" | "anonymous" | "authenticated" | "preflight_forwarded" => "forwarded",
                "options" | "health" | "preflight" | "ok" => "answered",
                _ => "refused",
            };
            assert_eq!(reason.disposition().as_str(), expected, "{reason:?}");
            assert_eq!(reason.is_refusal(), expected == "refused" && word != "undecided", "{reason:?}");
        }
    }
}
