//! Decides again, after a reload, whether a request under way may go on: all that the new
//! configuration says of such a request, from its host to the rules of people.

use std::sync::Arc;

use http::Method;
use http::uri::PathAndQuery;

use super::admission::AdmissionError;
use super::current::Current;
use super::reason::Reason;
use super::routing::find_in_every_reading;
use crate::authn::AuthnError;
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
}

/// A person whom a request was forwarded for, as the store knows them now.
#[derive(Clone, Copy)]
pub(super) struct ReviewedPerson<'p> {
    pub(super) identity: &'p Identity,
    pub(super) user: Option<&'p User>,
}

impl ReviewedRequest {
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// Whether a configuration would forward this request for this person, and let it be a tunnel
    /// if it is one. Where it is forwarded to does not matter.
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
        match (route.access, person) {
            (Access::Public, _) | (Access::Optional, None) => Ok(()),
            (Access::Authenticated, None) => Err(Reason::Authentication(AuthnError::NoToken)),
            (Access::Optional | Access::Authenticated, Some(person)) => permits(route, current, person),
        }
    }
}

impl ReviewedRequest {
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
}

/// Whether a route permits a person, as `permit` decides it.
fn permits(route: &Route, current: &Current, person: ReviewedPerson<'_>) -> Result<(), Reason> {
    let refused = |error| Err(Reason::Authentication(error));
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
