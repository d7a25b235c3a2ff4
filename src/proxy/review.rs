//! Decides again, after a reload, whether a request under way may go on: all that the new
//! configuration says of such a request, from its host and its token to the rules of people.

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::admission::AdmissionError;
use super::credential::{CredentialPlace, cross_site_on};
use super::current::Current;
use super::reason::Reason;
use super::routing::find_in_every_reading;
use crate::authn::{self, Authenticated, AuthnError};
use crate::config::Access;
use crate::identity::{Identity, User};
use crate::path::{AmbiguousPath, canonicalise};
use crate::route::Route;
use crate::runtime::Runtime;

/// What is kept of a request for this.
#[derive(Clone, Debug)]
pub(super) struct ReviewedRequest {
    pub(super) method: Method,
    pub(super) host: Arc<str>,
    /// Canonical, or with an ambiguous path that a route accepted.
    pub(super) target: PathAndQuery,
    /// Without its credential, if it is permitted only because the route allows requests of other
    /// sites.
    pub(super) cross_site: Option<Box<Parts>>,
}

/// A person whom a request was forwarded for.
#[derive(Clone, Copy)]
pub(super) struct ReviewedPerson<'p> {
    /// As the store knows the person now.
    pub(super) identity: &'p Identity,
    pub(super) user: Option<&'p User>,
    pub(super) credential: ReviewedCredential<'p>,
}

/// What a request showed of its caller.
#[derive(Clone, Copy)]
pub(super) struct ReviewedCredential<'p> {
    /// The configuration that accepted it.
    pub(super) decided_by: &'p Current,
    pub(super) authenticated: &'p Authenticated,
    pub(super) place: CredentialPlace,
}

impl ReviewedRequest {
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// Whether a configuration would forward this request for this person, and let it be a tunnel
    /// if it is one. Where it is forwarded to does not matter, nor that a token has expired since.
    ///
    /// # Errors
    /// [`Reason`], as for a new request.
    pub(super) fn review(
        &self,
        current: &Current,
        person: Option<ReviewedPerson<'_>>,
        is_tunnel: bool,
    ) -> Result<(), Reason> {
        let route = self.route(current.runtime())?;
        if is_tunnel && !route.websocket {
            return Err(Reason::WebSocketNotAllowed);
        }
        // A request whose credential would not be found is one without.
        let found = person.filter(|person| person.credential.is_found_by(current, route));
        match (route.access, found) {
            (Access::Public, _) | (Access::Optional, None) => Ok(()),
            (Access::Authenticated, None) => Err(Reason::Authentication(AuthnError::NoToken)),
            (Access::Optional | Access::Authenticated, Some(person)) => {
                if self.is_refused_cross_site(route, is_tunnel) {
                    return Err(Reason::Authentication(AuthnError::CrossSite));
                }
                permits(route, current, person)
            }
        }
    }

    fn route<'r>(&self, runtime: &'r Runtime) -> Result<&'r Arc<Route>, Reason> {
        if canonicalise(self.path()).is_err() {
            // It was forwarded as it came, because a route accepted it.
            let path = AmbiguousPath::parse(self.path()).map_err(AdmissionError::Path);
            let path = path.map_err(Reason::Admission)?;
            return Ok(find_in_every_reading(runtime, &self.host, &path, &self.method)?);
        }
        if runtime.sign_in.endpoint(self.path()).is_some() {
            // The gateway answers it now.
            return Err(Reason::RouteUnknown);
        }
        Ok(runtime.routes.find(&self.host, self.path(), &self.method)?)
    }

    fn is_refused_cross_site(&self, route: &Route, is_tunnel: bool) -> bool {
        let refuses = |sent: &Parts| authn::is_cross_site(sent, is_tunnel, cross_site_on(route, sent));
        self.cross_site.as_deref().is_some_and(refuses)
    }
}

impl ReviewedCredential<'_> {
    fn is_found_by(&self, current: &Current, route: &Route) -> bool {
        let authenticator = &current.runtime().authenticator;
        let before = &self.decided_by.runtime().authenticator;
        authenticator.finds_also(before, self.place.all, route.token_in_query)
    }
}

/// Whether a route permits a person, as `permit` decides it.
fn permits(route: &Route, current: &Current, person: ReviewedPerson<'_>) -> Result<(), Reason> {
    let refused = |error| Err(Reason::Authentication(error));
    let ReviewedCredential { decided_by, authenticated, .. } = person.credential;
    let authenticator = &current.runtime().authenticator;
    authenticator
        .accept_also(&decided_by.runtime().authenticator, authenticated)
        .map_err(Reason::Authentication)?;
    let Some(app) = current.runtime().app_name(&person.identity.subject.appid) else {
        return refused(AuthnError::UnknownApp);
    };
    if !route.permits_app(app) {
        return refused(AuthnError::AppNotPermitted);
    }
    route.rules.permits(person.identity, person.user).map_err(Reason::Denied)
}

#[cfg(test)]
mod tests;
