//! Whose limits a code takes from: those of the client's address, or those of the user that the
//! request shows a credential of.

use http::request::Parts;
use secrecy::{ExposeSecret as _, SecretString};

use super::call::SignInCall;
use super::charge::CodeCharge;
use super::service::SignInService;
use crate::authn::CrossSite;
use crate::clock::Timestamp;
use crate::cookie::{self, OwnCookie};
use crate::identity::{AppId, Subject};
use crate::session::{RefreshToken, SessionCookie};
use crate::throttle::Throttled;
use crate::wechat::Code;

impl SignInService {
    /// Takes from the limits what a code of an app takes.
    ///
    /// Who the user is, is looked up only while the address has to wait: otherwise it does not
    /// matter, and a user may change accounts.
    pub(super) async fn charge_code(
        &self,
        appid: &AppId,
        code: &Code,
        refresh_token: Option<&SecretString>,
        call: SignInCall<'_>,
    ) -> Result<CodeCharge, Throttled> {
        let SignInCall { request, client, now, .. } = call;
        let throttle = &self.deps.throttle;
        let known = match throttle.is_slowing_logins(client) {
            true => self.known_user(request, refresh_token, now).await,
            false => None,
        };
        let known = known.filter(|known| known.appid == *appid);
        let taken = throttle.charge_login(client, code.expose(), known.as_ref())?;
        let only_user = known.filter(|_| taken.is_for_known_user());
        Ok(CodeCharge { taken, only_user })
    }

    /// Finds the user of the request's access token, which may have expired, of its live session
    /// cookie, or of a live refresh token. It admits no request.
    pub(super) async fn known_user(
        &self,
        request: &Parts,
        refresh_token: Option<&SecretString>,
        now: Timestamp,
    ) -> Option<Subject> {
        let sessions = &self.deps.sessions;
        if let Ok(Some(credential)) = self.credential(request, CrossSite::Refuse)
            && let Ok(user) = self.deps.tokens.past_subject(credential.token())
        {
            return Some(user);
        }
        // Also where WeChat led the browser here, from another site.
        if let OwnCookie::One(text) = OwnCookie::of(&request.headers, cookie::SESSION)
            && let Ok(cookie) = SessionCookie::parse(text)
            && let Ok(session) = sessions.check_cookie(&cookie, now).await
        {
            return Some(session.identity.subject);
        }
        let token = RefreshToken::parse(refresh_token?.expose_secret()).ok()?;
        let session = sessions.find_revocable_by_refresh_token(&token, now).await.ok()?;
        Some(session.identity.subject)
    }
}
