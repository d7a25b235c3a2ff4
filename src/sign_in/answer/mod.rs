//! Answers as they go to the client: RFC 6749 for clients that ask for tokens, RFC 9457 for others.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use super::error::{ErrorReply, SignInError};
use super::program::grant::TokenGrant;
use crate::authn::Authenticated;
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::page::{Language, Page};
use crate::problem::{self, Problem};
use crate::session::SessionInfo;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer, with what the access log says about it.
#[derive(Clone, Debug)]
pub struct SignInAnswer {
    /// What the client receives. A successful one holds a token.
    pub response: Response<Bytes>,
    /// `ok`, `refreshed`, `logged_out`, `session`, `sign_in`, `ticket`, `hand_over_asked`, or the
    /// machine word of what was refused.
    pub outcome: &'static str,
    /// The status of a refusal that a façade answers with another status.
    pub(in crate::sign_in) refused_as: Option<StatusCode>,
    /// Name of the app that the sign-in was for.
    pub app: Option<Arc<str>>,
    /// The user who signed in, or is signed in.
    pub identity: Option<Identity>,
}

/// A successful login or refresh. See RFC 6749 §5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    refresh_token: &'a str,
    openid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unionid: Option<&'a str>,
}

/// A ticket for a web-view.
#[derive(Serialize)]
struct TicketResponse<'a> {
    ticket: &'a str,
    expires_in: u64,
}

/// The user of a session, and its times.
#[derive(Serialize)]
struct SessionResponse<'a> {
    app: &'a str,
    openid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unionid: Option<&'a str>,
    /// The id of the business for the user, if they are bound. Not the claims: the user may not be
    /// meant to read those.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nickname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<&'a str>,
    /// When the token or the cookie of the request expires.
    expires_at: String,
    session: SessionDocument<'a>,
}

#[derive(Serialize)]
struct SessionDocument<'a> {
    created_at: String,
    last_seen_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
}

/// A refused login or refresh. See RFC 6749 §5.2; `code` and `request_id` are ours.
#[derive(Serialize)]
struct ErrorResponse<'a> {
    error: &'a str,
    error_description: &'a str,
    code: &'a str,
    request_id: &'a str,
}

impl SignInAnswer {
    /// What the answer says, which is its status unless a façade has one of its own for errors.
    pub fn meant_status(&self) -> StatusCode {
        self.refused_as.unwrap_or(self.response.status())
    }

    /// The tokens of a login or a refresh. One answered again says how long the token is valid from
    /// now on.
    pub(super) fn granted(outcome: &'static str, grant: &TokenGrant, now: Timestamp) -> Self {
        let document = TokenResponse {
            access_token: grant.token.expose(),
            token_type: "Bearer",
            expires_in: grant.token.expires_at.since(now).as_secs(),
            refresh_token: grant.session.refresh_token.expose(),
            openid: grant.identity.subject.openid.as_str(),
            unionid: grant.identity.unionid.as_ref().map(|unionid| unionid.as_str()),
        };
        let mut answer = Self::json(StatusCode::OK, outcome, &document);
        answer.identity = Some(grant.identity.clone());
        answer
    }

    /// A ticket for a web-view.
    pub(super) fn ticket(ticket: &str, expires_in: u64) -> Self {
        Self::json(StatusCode::OK, "ticket", &TicketResponse { ticket, expires_in })
    }

    /// User data that were opened: the fields that the client may have.
    pub(super) fn user_data(fields: &serde_json::Map<String, serde_json::Value>) -> Self {
        Self::json(StatusCode::OK, "user_data", fields)
    }

    /// A session that has ended.
    pub(super) fn logged_out() -> Self {
        let mut answer = Self::new(StatusCode::NO_CONTENT, "logged_out", Bytes::new());
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    /// A redirect. The code and the state in the browser's URL are not passed on with it.
    ///
    /// # Errors
    /// [`SignInError::Internal`] if the location cannot stand in a header.
    pub(super) fn see_other(outcome: &'static str, location: &str) -> Result<Self, SignInError> {
        let location = HeaderValue::try_from(location).map_err(|_| SignInError::Internal)?;
        let mut answer = Self::new(StatusCode::SEE_OTHER, outcome, Bytes::new());
        answer.set(header::LOCATION, location);
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.set(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(answer)
    }

    /// A page for a user.
    pub(super) fn page(status: StatusCode, outcome: &'static str, page: Page, language: Language) -> Self {
        let mut answer = Self::new(status, outcome, page.body);
        let language = match language {
            Language::Chinese => "zh-CN",
            Language::English => "en",
        };
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_LANGUAGE, language),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            answer.set(name, HeaderValue::from_static(value));
        }
        answer.set(header::CONTENT_SECURITY_POLICY, page.content_security_policy);
        answer
    }

    /// The same answer, with a `Set-Cookie`.
    pub(super) fn with_cookie(mut self, cookie: HeaderValue) -> Self {
        self.response.headers_mut().append(header::SET_COOKIE, cookie);
        self
    }

    /// The same answer, with another `Referrer-Policy`.
    pub(super) fn with_referrer_policy(mut self, policy: &'static str) -> Self {
        self.set(header::REFERRER_POLICY, HeaderValue::from_static(policy));
        self
    }

    /// The same answer, with `Retry-After` if the error has a time to wait.
    pub(super) fn with_wait_of(mut self, reply: &ErrorReply) -> Self {
        if let Some(seconds) = reply.retry_after_seconds {
            self.set(header::RETRY_AFTER, seconds.into());
        }
        self
    }

    /// The same answer, which allows these methods.
    pub(super) fn with_allow(mut self, methods: HeaderValue) -> Self {
        self.set(header::ALLOW, methods);
        self
    }

    /// Who is signed in.
    pub(super) fn session(caller: &Authenticated, session: &SessionInfo) -> Self {
        // The store may know a unionid that the token is too old to name.
        let unionid = session.identity.unionid.as_ref().or(caller.identity().unionid.as_ref());
        let document = SessionResponse {
            app: caller.app(),
            openid: caller.identity().subject.openid.as_str(),
            unionid: unionid.map(|unionid| unionid.as_str()),
            user: caller.user().map(|user| user.id().as_str()),
            nickname: session.profile.nickname(),
            avatar: session.profile.avatar(),
            expires_at: caller.expires_at().to_string(),
            session: SessionDocument {
                created_at: session.created_at.to_string(),
                last_seen_at: session.last_request_at.to_string(),
                expires_at: session.expires_at.to_string(),
                device: session.device.as_deref(),
            },
        };
        Self::json(StatusCode::OK, "session", &document).of(caller.app(), caller.identity())
    }

    /// The same answer, logged with an app and its user.
    pub(super) fn of(self, app: &Arc<str>, identity: &Identity) -> Self {
        Self { app: Some(Arc::clone(app)), identity: Some(identity.clone()), ..self }
    }

    /// A refusal, to a client that asked for tokens.
    pub(super) fn refused(reply: &ErrorReply, request_id: &str) -> Self {
        let document = ErrorResponse {
            error: reply.error,
            error_description: reply.description,
            code: reply.code,
            request_id,
        };
        Self::json(reply.status, reply.outcome, &document).with_refusal_headers(reply)
    }

    /// A refusal as everywhere else in the gateway.
    pub(super) fn refused_as_problem(reply: &ErrorReply, request_id: &str) -> Self {
        let mut answer = Self::problem(reply.status, reply.code, Some(reply.description), request_id);
        answer.outcome = reply.outcome;
        answer.with_refusal_headers(reply)
    }

    /// A refusal in the shape of a façade.
    pub(super) fn refused_in_shape(reply: &ErrorReply, status: StatusCode, body: Vec<u8>) -> Self {
        let answer = Self::shaped(status, reply.outcome, body);
        Self { refused_as: Some(reply.status), ..answer }.with_refusal_headers(reply)
    }

    /// An answer in the shape of a façade.
    pub(super) fn shaped(status: StatusCode, outcome: &'static str, body: Vec<u8>) -> Self {
        let mut answer = Self::new(status, outcome, body.into());
        answer.set(header::CONTENT_TYPE, JSON);
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.set(header::PRAGMA, HeaderValue::from_static("no-cache"));
        answer
    }

    fn with_refusal_headers(self, reply: &ErrorReply) -> Self {
        let mut answer = self.with_wait_of(reply);
        match answer.response.status() {
            StatusCode::METHOD_NOT_ALLOWED => answer.set(header::ALLOW, HeaderValue::from_static("POST")),
            // RFC 9110 §15.5.2 wants it in every 401.
            StatusCode::UNAUTHORIZED => answer.set(header::WWW_AUTHENTICATE, challenge(reply.code)),
            _ => {}
        }
        answer
    }

    /// The keys that verify tokens. See RFC 7517 §8.5.
    pub(super) fn jwks(jwks: Bytes, method: &Method) -> Self {
        let body = if method == Method::HEAD { Bytes::new() } else { jwks };
        let mut answer = Self::new(StatusCode::OK, "ok", body);
        answer.set(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        answer
    }

    /// A path below the prefix that is no endpoint.
    pub(super) fn not_found(request_id: &str) -> Self {
        Self::problem(StatusCode::NOT_FOUND, "endpoint_unknown", None, request_id)
    }

    /// A method that the endpoint does not have.
    pub(super) fn method_not_allowed(allow: &'static str, request_id: &str) -> Self {
        Self::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None, request_id)
            .with_allow(HeaderValue::from_static(allow))
    }

    fn problem(status: StatusCode, code: &'static str, detail: Option<&str>, request_id: &str) -> Self {
        let (kind, title) = ("about:blank", status.canonical_reason().unwrap_or("Error"));
        let document = Problem { kind, title, status: status.as_u16(), detail, code, request_id };
        let mut answer = Self::new(status, code, document.to_json().into());
        answer.set(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    fn json(status: StatusCode, outcome: &'static str, document: &impl Serialize) -> Self {
        // Structs of strings and numbers cannot fail to serialise; an empty body would still carry
        // the status.
        Self::shaped(status, outcome, serde_json::to_vec(document).unwrap_or_default())
    }

    fn new(status: StatusCode, outcome: &'static str, body: Bytes) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self { response, outcome, refused_as: None, app: None, identity: None }
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.response.headers_mut().insert(name, value);
    }
}

/// The challenge of a 401. RFC 6750 §3.1: no error code if the request had no credentials.
fn challenge(code: &str) -> HeaderValue {
    HeaderValue::from_static(match code {
        "no_token" => r#"Bearer realm="menshen""#,
        "invalid_token" => r#"Bearer realm="menshen", error="invalid_token""#,
        // A code or a refresh token is no bearer token.
        _ => "Bearer",
    })
}
