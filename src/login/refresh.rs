//! A refresh token becomes an access token, and the next refresh token. See RFC 6749 §6 and RFC 9700 §4.14.2.

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use secrecy::ExposeSecret as _;
use tracing::info;

use super::error::LoginError;
use super::mini_program::Outcome;
use super::{Answer, BodyFault, Login};
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::session::{RefreshToken, Refreshed};
use crate::wechat::App;

impl Login {
    pub(super) async fn respond_to_refresh(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let answer = match self.refresh(request, body, client, now).await {
            Ok(grant) => {
                let answer = Answer::granted("refreshed", &grant, self.parts.clock.now());
                match self.app_of(&grant.identity.subject.appid) {
                    Some(app) => answer.of(&app.name, &grant.identity),
                    None => answer,
                }
            }
            Err(error) => Answer::refused(&error, request_id),
        };
        let outcome = answer.outcome;
        info!(refresh.outcome = outcome, http.request.id = request_id, "a refresh ended: {outcome}");
        answer
    }

    async fn refresh(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
    ) -> Outcome {
        let (format, body) = self.read(request, body)?;
        let body = format.read_refresh(&body)?;

        let Refreshed { identity, session } =
            self.spend(body.refresh_token.expose_secret(), client, now).await?;
        if self.app_of(&identity.subject.appid).is_none() {
            // Its access tokens are refused, too.
            return Err(LoginError::RefreshTokenInvalid);
        }
        self.grant(identity, session)
    }

    /// Takes a refresh token. One that is not good counts as a failed login of the client: whoever sends many of them
    /// makes them up, and each costs the store a look.
    pub(super) async fn spend(
        &self,
        refresh_token: &str,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<Refreshed, LoginError> {
        let token = RefreshToken::parse(refresh_token).map_err(|_| LoginError::RefreshTokenInvalid)?;
        let refreshed = self.parts.sessions.refresh(&token, now).await.map_err(LoginError::from);
        if matches!(refreshed, Err(LoginError::RefreshTokenInvalid | LoginError::RefreshTokenReused)) {
            self.parts.throttle.login_failed(client);
        }
        refreshed
    }

    /// The configured app of this id.
    fn app_of(&self, appid: &AppId) -> Option<&App> {
        self.parts.wechat.apps().find(|app| app.appid == *appid)
    }
}
