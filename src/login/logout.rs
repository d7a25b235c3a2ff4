//! A person signs out: of this session, or of every one of theirs.

use std::net::IpAddr;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use secrecy::ExposeSecret as _;
use tracing::info;

use super::body::{Format, LogoutBody};
use super::error::LoginError;
use super::{Answer, BodyFault, Login};
use crate::authn::{Credential, Source};
use crate::clock::Timestamp;
use crate::session::Scope;

impl Login {
    pub(super) async fn respond_to_logout(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let result = self.log_out(request, body, client, now).await;
        let answer = result.unwrap_or_else(|error| Answer::refused_as_problem(&error, request_id));
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
    ) -> Result<Answer, LoginError> {
        let (format, body) = self.read(request, body)?;
        match format.read_logout(&body)? {
            LogoutBody::RefreshToken(token) => {
                self.log_out_by_refresh_token(token.expose_secret(), client, now).await
            }
            LogoutBody::Caller { everywhere } => self.log_out_caller(request, format, everywhere, now).await,
        }
    }

    /// Ends the session that the request's access token names, or all of its person.
    async fn log_out_caller(
        &self,
        request: &Parts,
        format: Format,
        everywhere: bool,
        now: Timestamp,
    ) -> Result<Answer, LoginError> {
        let credential = self.credential(request)?;
        if is_added_by_browser(&credential) && !is_declared_json(request, format) {
            return Err(LoginError::MediaTypeUnsupported);
        }
        let caller = self.authenticate(&credential, now).await?;
        let subject = &caller.identity().subject;
        // The store may know a unionid that the token is too old to name.
        let identity = self.parts.sessions.check(subject, caller.session(), now).await?.identity;

        if everywhere {
            self.parts.sessions.revoke_person(&identity, now).await?;
        } else {
            self.parts.sessions.revoke(&Scope::Session(caller.session().clone()), now).await?;
        }
        Ok(Answer::logged_out().of(caller.app(), &identity))
    }

    /// Ends the session of a refresh token, for whom the access token has expired. The token is spent for it: one that was
    /// spent before ends its session as it does in a refresh. Of one that names no session nobody can say what it ended.
    async fn log_out_by_refresh_token(
        &self,
        token: &str,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<Answer, LoginError> {
        self.parts.throttle.admit_refresh(client)?;
        match self.spend(token, |_| true, client, now).await {
            Ok(refreshed) => {
                self.parts.sessions.revoke(&Scope::Session(refreshed.session.id), now).await?;
            }
            Err(LoginError::RefreshTokenReused) => {}
            Err(error) => return Err(error),
        }
        Ok(Answer::logged_out())
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
