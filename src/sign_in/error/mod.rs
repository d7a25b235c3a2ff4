//! Why a program is refused or the exchange of a code fails, and the one table of what the client
//! gets for it. The errors that only browsers get are in `browser::error`.

mod cause;

use http::StatusCode;

use super::program::malformed::MalformedBody;
use crate::authn::AuthnError;
use crate::identity::Subject;

/// Wait before WeChat is asked again if it was busy, in seconds.
const BUSY_SECONDS: u64 = 1;
/// Wait before WeChat is asked again if it could not be reached, in seconds.
const UNREACHABLE_SECONDS: u64 = 5;
/// Wait after a rate limit of WeChat, which counts by the minute, in seconds.
const RATE_LIMITED_SECONDS: u64 = 60;
/// Wait after a used-up quota, in seconds. WeChat counts quotas by the day; the operator may raise
/// one in between.
const QUOTA_SECONDS: u64 = 600;

/// Wait before a store that did not answer is asked again, in seconds.
const STORE_SECONDS: u64 = 2;

/// Why a program is refused, or why the exchange of a code fails: a program's code or a browser's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignInError {
    #[error("not a POST")]
    MethodNotAllowed,
    #[error("neither JSON nor a form")]
    MediaTypeUnsupported,
    #[error("the body is too large")]
    BodyTooLarge,
    #[error("the body did not arrive in time")]
    BodyTimedOut,
    #[error("the body ended early")]
    BodyIncomplete,
    #[error("{0}")]
    RequestMalformed(#[from] MalformedBody),
    #[error("no app named, and not exactly one to choose from")]
    AppMissing,
    #[error("no such app")]
    AppUnknown,
    #[error("the code is not valid")]
    CodeInvalid,
    #[error("the code was already used")]
    CodeAlreadyUsed,
    #[error("the code was sent by another client")]
    CodeOfAnother,
    #[error("the code is of another user than the credential that came with it")]
    CodeOfAnotherUser,
    #[error("the refresh token is not valid")]
    RefreshTokenInvalid,
    #[error("the refresh token was spent by another client")]
    RefreshTokenOfAnother(Box<Subject>),
    #[error("the refresh token was used twice")]
    RefreshTokenReused(Box<Subject>),
    #[error("a page of another site sent the request")]
    CrossSite,
    #[error("{0}")]
    Unauthenticated(AuthnError),
    #[error("the session has ended")]
    SessionEnded,
    #[error("the person is blocked, by wechat or by an operator")]
    UserBlocked,
    #[error("wechat gave no unionid, and the app requires one")]
    UnionIdUnknown,
    #[error("a visitor of a snapshot page")]
    SnapshotVisitor,
    #[error("sessions of the app are not handed over")]
    HandOverRefused,
    #[error("the data do not open with the session's key")]
    SessionKeyStale,
    #[error("too many logins, for {retry_after_seconds} s")]
    Throttled { retry_after_seconds: u64 },
    #[error("wechat is busy")]
    WeChatBusy,
    #[error("the app's daily quota at wechat is used up")]
    QuotaExhausted,
    #[error("wechat cannot be reached")]
    WeChatUnreachable { retry_after_seconds: u64 },
    #[error("wechat sent an unexpected reply")]
    WeChatUnexpected,
    #[error("wechat does not accept the app")]
    AppMisconfigured,
    #[error("the store does not answer")]
    StoreUnavailable,
    #[error("the store did not keep the session, and the code is spent")]
    SessionNotKept,
    #[error("an internal error of the gateway")]
    Internal,
}

/// What a client gets for an error.
pub(super) struct ErrorReply {
    pub(super) status: StatusCode,
    /// `error` of RFC 6749 §5.2.
    pub(super) error: &'static str,
    /// The stable machine word.
    pub(super) code: &'static str,
    /// The word of the access log and the metrics: the code, or the check that a token failed.
    pub(super) outcome: &'static str,
    pub(super) description: &'static str,
    pub(super) retry_after_seconds: Option<u64>,
}

impl SignInError {
    /// The stable machine word.
    pub(super) fn code(&self) -> &'static str {
        self.reply().code
    }

    /// Whether the same code is refused every time.
    pub(super) fn is_settled(&self) -> bool {
        matches!(
            self,
            Self::CodeInvalid
                | Self::CodeAlreadyUsed
                | Self::CodeOfAnotherUser
                | Self::UserBlocked
                | Self::UnionIdUnknown
                | Self::SnapshotVisitor
        )
    }

    /// Whether the client may be guessing codes. The answer to another client's code says nothing
    /// about the code, and is not settled. Otherwise a thief could make the gateway refuse the
    /// owner.
    pub(super) fn is_failed_guess(&self) -> bool {
        matches!(
            self,
            Self::CodeInvalid | Self::CodeAlreadyUsed | Self::CodeOfAnother | Self::CodeOfAnotherUser
        )
    }

    /// Whose refresh token it was, if that is known and the client may not be told.
    pub(super) fn subject(&self) -> Option<&Subject> {
        match self {
            Self::RefreshTokenOfAnother(subject) | Self::RefreshTokenReused(subject) => Some(subject),
            _ => None,
        }
    }

    /// Whether the credential of the request is good for no session, and will not be later.
    pub(super) fn is_of_no_session(&self) -> bool {
        matches!(self, Self::Unauthenticated(_) | Self::SessionEnded)
    }

    pub(super) fn reply(&self) -> ErrorReply {
        match self {
            Self::MethodNotAllowed => reply(405, "invalid_request", "method_not_allowed", "send a POST"),
            Self::MediaTypeUnsupported => reply(
                415,
                "invalid_request",
                "media_type_unsupported",
                "send application/json or application/x-www-form-urlencoded",
            ),
            Self::BodyTooLarge => reply(413, "invalid_request", "body_too_large", "the body is too large"),
            Self::BodyTimedOut => reply(
                408,
                "invalid_request",
                "body_timed_out",
                "the body did not arrive in time: send it again",
            ),
            Self::BodyIncomplete => {
                reply(400, "invalid_request", "body_incomplete", "the body ended early: send it again")
            }
            Self::RequestMalformed(malformed) => {
                reply(400, "invalid_request", "request_malformed", malformed.description())
            }
            Self::AppMissing => reply(
                400,
                "invalid_request",
                "app_missing",
                "name the app: the gateway serves more than one, or none",
            ),
            Self::AppUnknown => {
                reply(400, "invalid_client", "app_unknown", "the gateway serves no app of this name")
            }
            Self::CodeInvalid => reply(
                401,
                "invalid_grant",
                "code_invalid",
                "the code is unknown, expired or of another app: call wx.login for a new one",
            ),
            Self::CodeAlreadyUsed | Self::CodeOfAnother => reply(
                401,
                "invalid_grant",
                "code_already_used",
                "the code was already used: call wx.login for a new one",
            ),
            Self::CodeOfAnotherUser => reply(
                401,
                "invalid_grant",
                "code_invalid",
                "the code is of another user than the token or cookie that came with it: call wx.login and send the new code without them",
            ),
            Self::RefreshTokenInvalid => invalid_refresh_token("refresh_token_invalid"),
            // The same answer: a thief must not learn that the token was good a moment ago.
            Self::RefreshTokenOfAnother(_) => invalid_refresh_token("refresh_token_of_another"),
            Self::RefreshTokenReused(_) => reply(
                401,
                "invalid_grant",
                "refresh_token_reused",
                "the refresh token was used before, so its session was ended: sign in again",
            ),
            Self::Unauthenticated(AuthnError::NoToken) => {
                reply(401, "invalid_token", "no_token", "sign in and send the access token")
            }
            Self::CrossSite => reply(
                403,
                "access_denied",
                "cross_site",
                "a page of another site may not send this request",
            ),
            // One word for all: a client that forges a token must not learn which check failed.
            Self::Unauthenticated(refusal) => invalid_token(refusal.reason()),
            Self::SessionEnded => invalid_token("session_ended"),
            Self::UserBlocked => reply(
                403,
                "access_denied",
                "user_blocked",
                "this person is blocked: do not retry automatically",
            ),
            Self::UnionIdUnknown => reply(
                403,
                "access_denied",
                "unionid_unknown",
                "WeChat gave no unionid for this person, and the app requires one: do not retry automatically",
            ),
            Self::SnapshotVisitor => reply(
                403,
                "access_denied",
                "snapshot_visitor",
                "a snapshot page cannot sign a user in: open the full page",
            ),
            Self::SessionKeyStale => reply(
                409,
                "invalid_grant",
                "session_key_stale",
                "the data do not open with the session's key: call wx.login, sign in with the new code, then ask WeChat for the data again",
            ),
            Self::HandOverRefused => reply(
                403,
                "access_denied",
                "hand_over_refused",
                "the gateway hands no session of this app over to a web-view",
            ),
            Self::Throttled { retry_after_seconds } => reply(
                429,
                "temporarily_unavailable",
                "throttled",
                "too many requests: wait, then send this request again",
            )
            .after(*retry_after_seconds),
            Self::WeChatBusy => reply(
                503,
                "temporarily_unavailable",
                "wechat_busy",
                "WeChat is busy: wait, then send this request again",
            )
            .after(BUSY_SECONDS),
            Self::QuotaExhausted => reply(
                503,
                "temporarily_unavailable",
                "wechat_quota_exhausted",
                "the app's logins of today are used up",
            )
            .after(QUOTA_SECONDS),
            Self::WeChatUnreachable { retry_after_seconds } => reply(
                503,
                "temporarily_unavailable",
                "wechat_unreachable",
                "WeChat cannot be reached: wait, then call wx.login and send the new code",
            )
            .after(*retry_after_seconds),
            Self::WeChatUnexpected => reply(
                502,
                "server_error",
                "wechat_unexpected",
                "WeChat sent an unexpected answer: call wx.login and send the new code, once",
            ),
            Self::AppMisconfigured => reply(
                500,
                "server_error",
                "app_misconfigured",
                "WeChat does not accept the app's id or secret: the operator must correct the configuration",
            ),
            Self::StoreUnavailable => reply(
                503,
                "temporarily_unavailable",
                "store_unavailable",
                "sessions cannot be read or stored: wait, then send this request again",
            )
            .after(STORE_SECONDS),
            Self::SessionNotKept => reply(
                503,
                "temporarily_unavailable",
                "store_unavailable",
                "the session could not be stored and the code is spent: wait, then call wx.login and send the new code",
            )
            .after(STORE_SECONDS),
            Self::Internal => reply(500, "server_error", "internal_error", "the gateway failed"),
        }
    }
}

/// The row of an error whose code is also its outcome, and that has no time to wait.
pub(super) fn reply(
    status: u16,
    error: &'static str,
    code: &'static str,
    description: &'static str,
) -> ErrorReply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ErrorReply { status, error, code, outcome: code, description, retry_after_seconds: None }
}

fn invalid_refresh_token(outcome: &'static str) -> ErrorReply {
    let reply = reply(
        401,
        "invalid_grant",
        "refresh_token_invalid",
        "the refresh token is unknown, or its session has ended: sign in again",
    );
    ErrorReply { outcome, ..reply }
}

fn invalid_token(outcome: &'static str) -> ErrorReply {
    let reply = reply(401, "invalid_token", "invalid_token", "sign in and send the access token");
    ErrorReply { outcome, ..reply }
}

impl ErrorReply {
    fn after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds.max(1)), ..self }
    }
}
