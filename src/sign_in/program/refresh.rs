//! A refresh token becomes an access token, and the next refresh token. See RFC 6749 §6 and RFC 9700 §4.14.2.

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use secrecy::ExposeSecret as _;
use tracing::info;

use super::grant::TokenGrant;
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::session::{RefreshError, RefreshToken, RefreshedSession};
use crate::sign_in::error::SignInError;
use crate::sign_in::once::SignInResult;
use crate::sign_in::{BodyFault, SignInAnswer, SignInService};
use crate::wechat::App;

impl SignInService {
    pub(in crate::sign_in) async fn respond_to_refresh(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> SignInAnswer {
        let answer = match self.refresh(request, body, client, now).await {
            Ok(grant) => {
                let answer = SignInAnswer::granted("refreshed", &grant, self.deps.clock.now());
                match self.app_of(&grant.identity.subject.appid) {
                    Some(app) => answer.of(&app.name, &grant.identity),
                    None => answer,
                }
            }
            Err(error) => SignInAnswer::refused(&error, request_id),
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
    ) -> SignInResult<TokenGrant> {
        let (format, body) = self.read(request, body)?;
        let body = format.read_refresh(&body)?;

        // Access tokens of an app that is gone are refused; its sessions wait for it to come back.
        let is_configured = |appid: &AppId| self.app_of(appid).is_some();
        let token = body.refresh_token.expose_secret();
        let RefreshedSession { identity, session } = self.spend(token, is_configured, client, now).await?;
        TokenGrant::mint(&self.deps, identity, session)
    }

    /// Takes a refresh token. One that is not good counts as a failed login of the client: whoever sends many of them
    /// makes them up, and each costs the store a look.
    pub(in crate::sign_in) async fn spend(
        &self,
        refresh_token: &str,
        admits: impl Fn(&AppId) -> bool + Send + Sync,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<RefreshedSession, SignInError> {
        let token = RefreshToken::parse(refresh_token).map_err(|_| SignInError::RefreshTokenInvalid)?;
        // As before a login: a store that keeps nothing is not asked to keep this.
        if !self.deps.store_health.is_available() {
            return Err(SignInError::StoreUnavailable);
        }
        let refreshed = self.deps.sessions.refresh_if(&token, admits, now).await;
        if matches!(refreshed, Err(RefreshError::Invalid | RefreshError::Reused)) {
            self.deps.throttle.record_login_failure(client);
        }
        Ok(refreshed?)
    }

    /// The configured app of this id.
    pub(in crate::sign_in) fn app_of(&self, appid: &AppId) -> Option<&App> {
        self.deps.wechat.apps().find(|app| app.appid == *appid)
    }
}
