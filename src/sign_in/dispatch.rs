//! Gives a request to the handler of its endpoint.

use std::sync::Arc;

use super::answer::SignInAnswer;
use super::call::{BodyLimit, ReadBody, SignInCall};
use super::endpoint::Endpoint;
use super::service::SignInService;
use crate::path::AmbiguousPath;

impl SignInService {
    /// Finds the endpoint of a canonical path; `None` leaves the path to the routes.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        Endpoint::find(path, &self.settings.path_prefix)
    }

    /// Whether some backend may read this path as a path of an endpoint.
    pub fn is_in_a_reading_of(&self, path: &AmbiguousPath) -> bool {
        // Few requests come here, so nothing is kept for them.
        Endpoint::own_paths(&self.settings.path_prefix).find_in_every_reading(path) != Ok(Some(&false))
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
        match endpoint.spec() {
            Some(spec) => (spec.precheck)(self, call, spec.allow),
            None => Err(SignInAnswer::not_found(call.request_id)),
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
        match endpoint.spec() {
            Some(spec) => (spec.respond)(self, call, body).await,
            None => SignInAnswer::not_found(call.request_id),
        }
    }
}
