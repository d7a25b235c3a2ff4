//! A person signs out: of this session, or of every one of theirs.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use secrecy::ExposeSecret as _;
use tracing::info;

use super::body::{Format, LogoutBody, LogoutOf};
use super::error::LoginError;
use super::web::{is_navigation, without_session};
use super::{Answer, BodyFault, Login};
use crate::authn::{Credential, Refusal, Source};
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::session::Scope;

/// A logout that succeeded.
#[derive(Default)]
struct Done {
    /// Whose session ended, where one did.
    who: Option<(Arc<str>, Identity)>,
    /// Whether the browser holds a cookie that is good for nothing now.
    is_cookie_dead: bool,
}

impl Login {
    pub(super) async fn respond_to_logout(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let result = self.log_out(request, body, client, now, request_id).await;
        let answer = result.unwrap_or_else(|error| match is_navigation(request) {
            true => self.tell_refusal(&error, None, request, request_id),
            false => Answer::refused_as_problem(&error, request_id),
        });
        let outcome = answer.outcome;
        info!(logout.outcome = outcome, http.request.id = request_id, "a logout ended: {outcome}");
        answer
    }

    async fn log_out(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Result<Answer, LoginError> {
        let (format, body) = self.read(request, body)?;
        let LogoutBody { whose, return_to } = format.read_logout(&body)?;
        let done = match whose {
            LogoutOf::RefreshToken(token) => {
                self.log_out_by_refresh_token(token.expose_secret(), client, now).await?
            }
            LogoutOf::Caller { everywhere } => self.log_out_caller(request, format, everywhere, now).await?,
        };

        let own = self.origins.of(request);
        let return_to = return_to.zip(own).and_then(|(text, own)| self.allowed_return_to(&text, own));
        let answer = match return_to {
            Some(return_to) => Answer::see_other("logged_out", return_to.location())?,
            None if is_navigation(request) => self.tell_signed_out(request, request_id),
            None => Answer::logged_out(),
        };
        let answer = if done.is_cookie_dead { without_session(answer) } else { answer };
        Ok(match &done.who {
            Some((app, identity)) => answer.of(app, identity),
            None => answer,
        })
    }

    /// Ends the session that the request's access token or cookie names, or all of its person.
    async fn log_out_caller(
        &self,
        request: &Parts,
        format: Format,
        everywhere: bool,
        now: Timestamp,
    ) -> Result<Done, LoginError> {
        let credential = match self.credential(request)? {
            Some(credential) => credential,
            // A person who signs out in a second tab wants what is so already.
            None if is_navigation(request) => return Ok(Done::default()),
            None => return Err(Refusal::NoToken.into()),
        };
        if is_added_by_browser(&credential) && !is_declared_json(request, format) {
            return Err(LoginError::MediaTypeUnsupported);
        }
        let is_cookie_dead = credential.is_session_cookie();
        match self.end_session_of(&credential, everywhere, now).await {
            Ok(who) => Ok(Done { who: Some(who), is_cookie_dead }),
            // Nothing to end; a browser that is told otherwise would keep the cookie.
            Err(error) if is_cookie_dead && error.is_of_no_session() => {
                Ok(Done { who: None, is_cookie_dead })
            }
            Err(error) => Err(error),
        }
    }

    async fn end_session_of(
        &self,
        credential: &Credential<'_>,
        everywhere: bool,
        now: Timestamp,
    ) -> Result<(Arc<str>, Identity), LoginError> {
        let caller = self.authenticate(credential, now).await?;
        let subject = &caller.identity().subject;
        // The store may know a unionid that the token is too old to name.
        let identity = self.parts.sessions.check(subject, caller.session(), now).await?.identity;

        if everywhere {
            self.parts.sessions.revoke_person(&identity, now).await?;
        } else {
            self.parts.sessions.revoke(&Scope::Session(caller.session().clone()), now).await?;
        }
        Ok((Arc::clone(caller.app()), identity))
    }

    /// Ends the session of a refresh token, for whom the access token has expired. The token is spent for it: one that was
    /// spent before ends its session as it does in a refresh. Of one that names no session nobody can say what it ended.
    async fn log_out_by_refresh_token(
        &self,
        token: &str,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<Done, LoginError> {
        self.parts.throttle.admit_refresh(client)?;
        match self.spend(token, |_| true, client, now).await {
            Ok(refreshed) => {
                self.parts.sessions.revoke(&Scope::Session(refreshed.session.id), now).await?;
            }
            Err(LoginError::RefreshTokenReused) => {}
            Err(error) => return Err(error),
        }
        Ok(Done::default())
    }
}

/// Whether a browser may have sent the token on behalf of a page of another site.
fn is_added_by_browser(credential: &Credential<'_>) -> bool {
    credential.is_in(Source::Cookie)
        && !credential.is_in(Source::Authorization)
        && !credential.is_in(Source::Header)
}

/// Whether the request says of itself that it is JSON, which a browser asks about before it sends it to another site.
/// A form, or a request without a body, it sends unasked.
fn is_declared_json(request: &Parts, format: Format) -> bool {
    format == Format::Json && request.headers.contains_key(header::CONTENT_TYPE)
}
