//! The third step of the decision: a request on its route is permitted to be forwarded, or refused.
//! Only a [`Permit`] is forwarded.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use pingora::http::RequestHeader;

use super::arrival::RequestArrival;
use super::credential::{CredentialPlace, Judged, judge};
use super::current::Current;
use super::reason::Reason;
use super::refusal::Refusal;
use super::routed::Routed;
use crate::authn::{self, Authenticated};
use crate::config::Access;
use crate::route::Route;
use crate::sign_in::PageDenial;
use crate::throttle::Allowance;
use crate::upstream::Upstream;

/// A request that may be forwarded: where to, and who calls.
#[derive(Clone)]
pub(super) struct Permit {
    pub(super) route: Arc<Route>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) caller: Caller,
    /// Where the caller's credential stands, which the backend does not get.
    pub(super) credential: CredentialPlace,
    /// A WebSocket opening on a route that lets it through.
    pub(super) is_websocket: bool,
    /// A preflight that the backend answers.
    pub(super) is_preflight: bool,
    /// What the tightest limit of the route still allows; `None` if it has none.
    pub(super) allowance: Option<Allowance>,
}

/// The decided identity of a request.
#[derive(Clone)]
pub(super) enum Caller {
    /// The route needs no identity.
    Anonymous,
    /// This person calls.
    Authenticated(Authenticated),
}

impl Permit {
    pub(super) fn new(routed: Routed, caller: Caller, credential: CredentialPlace) -> Self {
        let Routed { route, upstream, is_websocket, allowance } = routed;
        Self { route, upstream, caller, credential, is_websocket, is_preflight: false, allowance }
    }

    /// Permits a preflight that the backend of its route answers. No credential comes with it.
    pub(super) fn preflight(routed: Routed) -> Self {
        let permit = Self::new(routed, Caller::Anonymous, CredentialPlace::default());
        Self { is_preflight: true, ..permit }
    }

    /// Gives the permit back, to refuse its request.
    pub(super) fn revoke(self) -> (Routed, Caller) {
        let Self { route, upstream, caller, is_websocket, allowance, .. } = self;
        (Routed { route, upstream, is_websocket, allowance }, caller)
    }

    pub(super) const fn authenticated(&self) -> Option<&Authenticated> {
        match &self.caller {
            Caller::Authenticated(authenticated) => Some(authenticated),
            Caller::Anonymous => None,
        }
    }

    /// Why the request is forwarded.
    pub(super) fn reason(&self) -> Reason {
        match self.caller {
            Caller::Authenticated(_) => Reason::Authenticated,
            Caller::Anonymous if self.is_preflight => Reason::PreflightForwarded,
            Caller::Anonymous if self.route.access == Access::Public => Reason::Public,
            Caller::Anonymous => Reason::Anonymous,
        }
    }
}

/// Decides who calls, and whether the route permits them.
///
/// # Errors
/// [`Reason::Authentication`], [`Reason::OriginUnknown`], [`Reason::Denied`]
pub(super) async fn permit(
    request: &RequestHeader,
    routed: Routed,
    arrival: &RequestArrival,
    current: &Current,
) -> Result<Permit, Refusal> {
    if routed.route.access == Access::Public {
        return Ok(Permit::new(routed, Caller::Anonymous, CredentialPlace::default()));
    }
    let Judged { verdict, shown, place, blocked } = judge(request, &routed, current, arrival.now).await;
    let pages = RefusalPages { request, current, arrival };
    let (refusal, authenticated) = match verdict {
        Ok(Some(authenticated)) if routed.route.permits_app(authenticated.app()) => {
            return apply_rules(routed, authenticated, place, &pages);
        }
        Ok(Some(authenticated)) => (authn::AuthnError::AppNotPermitted, Some(authenticated)),
        Ok(None) => (authn::AuthnError::NoToken, None),
        // Also on a route that needs no identity: a client that shows a bad token is never
        // anonymous.
        Err(refusal) => (refusal, None),
    };
    if routed.route.access == Access::Optional && shown.is_anonymous(refusal) {
        return Ok(Permit::new(routed, Caller::Anonymous, place));
    }
    let is_mended = shown.is_mended_by_sign_in(refusal);
    if is_mended && pages.are_at_unknown_origin(&routed.route) {
        return Err(Refusal { person: blocked, ..Refusal::on(routed, Reason::OriginUnknown) });
    }
    let page = is_mended.then(|| pages.sign_in(&routed.route)).flatten();
    let page = page.or_else(|| pages.refused(page_reason(refusal)?, &routed.route));
    let refused = Refusal { person: blocked, ..Refusal::on(routed, Reason::Authentication(refusal)) };
    let refused = match &authenticated {
        Some(authenticated) => refused.of(authenticated),
        None => refused,
    };
    Err(match page {
        Some(page) => refused.with_page(page),
        None => refused,
    })
}

/// Permits a caller whom the route's rules permit. Others are refused, also on a route that needs
/// no identity: the gateway knows them, and another sign-in would change nothing.
fn apply_rules(
    routed: Routed,
    caller: Authenticated,
    place: CredentialPlace,
    pages: &RefusalPages<'_>,
) -> Result<Permit, Refusal> {
    let Err(denied) = routed.route.rules.permits(caller.identity(), caller.user()) else {
        return Ok(Permit::new(routed, Caller::Authenticated(caller), place));
    };
    let page = pages.refused(PageDenial::NotPermitted, &routed.route);
    let refused = Refusal::on(routed, Reason::Denied(denied)).of(&caller);
    Err(match page {
        Some(page) => refused.with_page(page),
        None => refused,
    })
}

/// Which page explains a refusal that a sign-in does not mend.
const fn page_reason(refusal: authn::AuthnError) -> Option<PageDenial> {
    match refusal {
        authn::AuthnError::StoreUnavailable => Some(PageDenial::StoreUnavailable),
        authn::AuthnError::Blocked => Some(PageDenial::Blocked),
        authn::AuthnError::AppNotPermitted => Some(PageDenial::NotPermitted),
        _ => None,
    }
}

/// What a person who opens a page is shown instead of it. Other clients get a document.
struct RefusalPages<'r> {
    request: &'r RequestHeader,
    current: &'r Current,
    arrival: &'r RequestArrival,
}

impl RefusalPages<'_> {
    /// Whether the sign-in page does not work at the host of the request.
    fn are_at_unknown_origin(&self, route: &Route) -> bool {
        self.current.runtime().sign_in.is_at_unknown_origin(self.request, &route.sign_in)
    }

    /// Redirects to the sign-in page, and back afterwards.
    fn sign_in(&self, route: &Route) -> Option<Response<Bytes>> {
        if route.sign_in.is_empty() {
            return None;
        }
        let sign_in = &self.current.runtime().sign_in;
        Some(sign_in.sign_in_redirect(self.request, &route.sign_in)?.response)
    }

    /// Explains why the person may not see the page.
    fn refused(&self, why: PageDenial, route: &Route) -> Option<Response<Bytes>> {
        if route.sign_in.is_empty() {
            return None;
        }
        let sign_in = &self.current.runtime().sign_in;
        let request_id = self.arrival.request_id.as_str();
        Some(sign_in.denial_page(why, self.request, &route.sign_in, request_id)?.response)
    }
}

#[cfg(test)]
mod tests;
