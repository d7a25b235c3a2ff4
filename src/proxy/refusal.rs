//! A request that the gateway refuses before it chooses a server: what a step of the decision
//! returns instead of going on.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};

use super::reason::Reason;
use super::routed::Routed;
use crate::authn::Authenticated;

/// A refused request.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Why.
    pub(super) reason: Reason,
    /// How the client is answered.
    pub(super) answer: RefusalAnswer,
    /// The route that the request took, if it came so far. The route says in which shape it
    /// refuses.
    pub(super) routed: Option<Routed>,
    /// Who was refused, if that is known.
    pub(super) person: Option<Box<LoggedPerson>>,
}

/// How the client of a refused request is answered.
#[derive(Debug)]
pub(super) enum RefusalAnswer {
    /// By a document, in the route's shape.
    Document,
    /// By the same, with the wait in whole seconds until the client may try again.
    RetryAfter(u64),
    /// By the same, with the methods that the path has, for `Allow`.
    Allow(Box<HeaderValue>),
    /// By a page for a person who opens a page, or by a redirect to one.
    Page(Box<Response<Bytes>>),
}

/// A person who calls no backend, as the logs name them.
#[derive(Debug)]
pub(super) struct LoggedPerson {
    pub(super) app: Option<Arc<str>>,
    pub(super) subject_hash: Option<String>,
}

impl Refusal {
    /// Refuses a request that has no route.
    pub(super) const fn without_route(reason: Reason) -> Self {
        Self { reason, answer: RefusalAnswer::Document, routed: None, person: None }
    }

    /// Refuses a request on its route.
    pub(super) const fn on(routed: Routed, reason: Reason) -> Self {
        Self { reason, answer: RefusalAnswer::Document, routed: Some(routed), person: None }
    }

    /// Says which methods the path has.
    pub(super) fn with_allow(self, methods: HeaderValue) -> Self {
        Self { answer: RefusalAnswer::Allow(Box::new(methods)), ..self }
    }

    /// Answers with a page instead of a document.
    pub(super) fn with_page(self, page: Response<Bytes>) -> Self {
        Self { answer: RefusalAnswer::Page(Box::new(page)), ..self }
    }

    /// Names who was refused, for the logs.
    pub(super) fn of(self, authenticated: &Authenticated) -> Self {
        Self { person: Some(Box::new(LoggedPerson::from(authenticated))), ..self }
    }
}

impl From<&Authenticated> for LoggedPerson {
    fn from(authenticated: &Authenticated) -> Self {
        Self {
            app: Some(Arc::clone(authenticated.app())),
            subject_hash: Some(authenticated.subject_hash().to_owned()),
        }
    }
}
