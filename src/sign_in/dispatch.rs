//! Gives a request to the handler of its endpoint.

use std::sync::Arc;

use super::answer::SignInAnswer;
use super::call::{BodyLimit, ReadBody, SignInCall};
use super::endpoint::Endpoint;
use super::facade::{self, Facade};
use super::service::SignInService;
use crate::path::AmbiguousPath;

impl SignInService {
    /// Finds the endpoint of a canonical path; `None` leaves the path to the routes.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        let is_asked = |facade: &Facade| facade.path == path;
        Endpoint::find(path, &self.settings.path_prefix)
            .or_else(|| self.settings.facades.iter().position(is_asked).map(Endpoint::Facade))
    }

    /// Whether some backend may read this path as a path of an endpoint.
    pub fn is_in_a_reading_of(&self, path: &AmbiguousPath) -> bool {
        // Few requests come here, so nothing is kept for them.
        let mut own = Endpoint::own_paths(&self.settings.path_prefix);
        self.settings.facades.iter().for_each(|facade| facade.note_path(&mut own));
        own.find_in_every_reading(path) != Ok(Some(&false))
    }

    /// Decides by the header alone whether a request is worth reading; returns the limits of the
    /// body to read before [`SignInService::respond`], or `None` if the endpoint reads no body.
    ///
    /// # Errors
    /// The answer to give instead.
    #[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
    pub fn precheck(
        &self,
        endpoint: Endpoint,
        call: SignInCall<'_>,
    ) -> Result<Option<BodyLimit>, SignInAnswer> {
        match (self.facade(endpoint), endpoint.spec()) {
            (Some(facade), _) => facade::precheck(self, facade, call),
            (None, Some(spec)) => (spec.precheck)(self, call, spec.allow),
            (None, None) => Err(SignInAnswer::not_found(call.request_id)),
        }
    }

    /// Answers a request that passed [`SignInService::precheck`]; `body` is what that asked for.
    ///
    /// An exchange that was begun goes on when the future is dropped: a mini program in the
    /// background loses the reply and sends the same code again.
    pub async fn respond(
        self: &Arc<Self>,
        endpoint: Endpoint,
        call: SignInCall<'_>,
        body: ReadBody,
    ) -> SignInAnswer {
        match (self.facade(endpoint), endpoint.spec()) {
            (Some(facade), _) => facade::respond(self, facade, call, body).await,
            (None, Some(spec)) => (spec.respond)(self, call, body).await,
            (None, None) => SignInAnswer::not_found(call.request_id),
        }
    }

    fn facade(&self, endpoint: Endpoint) -> Option<&Facade> {
        match endpoint {
            Endpoint::Facade(position) => self.settings.facades.get(position),
            _ => None,
        }
    }
}
