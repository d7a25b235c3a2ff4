//! What a request shows of its caller, and the verdict on it.

use http::request::Parts;
use pingora::http::RequestHeader;

use super::current::Current;
use super::refusal::LoggedPerson;
use super::routed::Routed;
use crate::authn::{self, Authenticated};
use crate::clock::Timestamp;
use crate::cors::CorsPolicy;
use crate::route::Route;
use crate::token::VerifyError;

/// The verdict on a request's credential.
pub(super) struct Judged {
    /// `None` if the request carries no credential.
    pub(super) verdict: Result<Option<Authenticated>, authn::AuthnError>,
    pub(super) shown: Shown,
    /// Where the credential stands.
    pub(super) place: CredentialPlace,
    /// Who is refused because they are blocked.
    pub(super) blocked: Option<Box<LoggedPerson>>,
}

/// Where a credential stands in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CredentialPlace {
    /// In `Authorization`.
    pub(super) is_in_authorization: bool,
    /// In the header of `tokens.sources.header`.
    pub(super) is_in_header: bool,
    /// In `Cookie`.
    pub(super) is_in_cookies: bool,
    /// All its places.
    pub(super) all: authn::CredentialPlaces,
    /// Whether the request is permitted only because the route allows requests of other sites, or
    /// of pages of other origins.
    pub(super) is_cross_site: bool,
}

/// What kind of credential a request shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    SessionCookie,
    /// A token; or several credentials of any kind.
    Token,
}

impl Shown {
    /// Whether a client that shows this is anonymous: it shows nothing, or a cookie that a browser
    /// still sends although its session has ended.
    pub(super) const fn is_anonymous(self, refusal: authn::AuthnError) -> bool {
        use authn::AuthnError as R;

        match self {
            Self::Nothing => matches!(refusal, R::NoToken),
            Self::SessionCookie => {
                matches!(refusal, R::Token(VerifyError::Malformed) | R::UnknownApp | R::SessionEnded)
            }
            Self::Token => false,
        }
    }

    /// Whether the same person may call after they have signed in again. Never with a token: the
    /// client would still send it besides the cookie of the new session, and two credentials are
    /// refused.
    pub(super) const fn is_mended_by_sign_in(self, refusal: authn::AuthnError) -> bool {
        use authn::AuthnError as R;

        match self {
            Self::Nothing => matches!(refusal, R::NoToken),
            Self::SessionCookie => matches!(
                refusal,
                R::Token(VerifyError::Malformed) | R::UnknownApp | R::SessionEnded | R::AppNotPermitted
            ),
            Self::Token => false,
        }
    }
}

/// Judges the token or session cookie of a request.
pub(super) async fn judge(
    request: &RequestHeader,
    routed: &Routed,
    current: &Current,
    now: Timestamp,
) -> Judged {
    let authenticator = &current.runtime().authenticator;
    let cross_site = cross_site_on(&routed.route, request);
    let (place, blocked) = (CredentialPlace::default(), None);
    let reads_query = routed.route.token_in_query;
    let found = authenticator.credential_on_route(request, routed.is_websocket, reads_query, cross_site);
    let credential = match found {
        Ok(Some(credential)) => credential,
        Ok(None) => return Judged { verdict: Ok(None), shown: Shown::Nothing, place, blocked },
        Err(refusal) => return Judged { verdict: Err(refusal), shown: Shown::Token, place, blocked },
    };
    let shown = if credential.is_session_cookie() { Shown::SessionCookie } else { Shown::Token };
    let place = CredentialPlace {
        is_in_authorization: credential.is_in(authn::Source::Authorization),
        is_in_header: credential.is_in(authn::Source::Header),
        is_in_cookies: credential.is_session_cookie() || credential.is_in(authn::Source::Cookie),
        all: credential.places(),
        is_cross_site: cross_site != authn::CrossSite::Refuse
            && credential.is_in_cookies_alone()
            && authn::is_cross_site(request, routed.is_websocket, authn::CrossSite::Refuse),
    };
    let verdict = match authenticator.cached(&credential, now) {
        Some(verdict) => verdict,
        // Boxed, so that the memory of a look-up is not moved with every other request.
        None => Box::pin(authenticator.verify(&credential, now)).await,
    };
    let blocked = match &verdict {
        Err(authn::AuthnError::Blocked) => Box::pin(authenticator.blocked_person(&credential)).await,
        _ => None,
    };
    let logged = |(app, hash)| Box::new(LoggedPerson { app: Some(app), subject_hash: Some(hash) });
    Judged { verdict: verdict.map(Some), shown, place, blocked: blocked.map(logged) }
}

/// What a page of another site may do on a route with a cookie, besides reading.
pub(super) fn cross_site_on(route: &Route, request: &Parts) -> authn::CrossSite {
    match &route.cors {
        _ if route.allow_cross_site => authn::CrossSite::Allow,
        Some(policy) => cross_site(policy, request),
        None => authn::CrossSite::Refuse,
    }
}

/// What the page of another origin that made a request may do with a cookie, besides reading.
pub(super) fn cross_site(policy: &CorsPolicy, request: &Parts) -> authn::CrossSite {
    if policy.permits_credentials(&request.headers) {
        authn::CrossSite::AllowSameSite
    } else {
        authn::CrossSite::Refuse
    }
}

#[cfg(test)]
mod tests;
