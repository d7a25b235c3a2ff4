//! The page that a web-view opens with a ticket: the browser gets a session that ends with the
//! session of the program, and goes on to the page that it wanted.
//!
//! A ticket says whose session it is, not whose browser it is. An attacker can send their own
//! ticket to a victim, who would then work in the attacker's account. So a browser is asked first
//! if another user is signed in to it, or if a page of another site led it here; the answer is a
//! form that no page of another site can send.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use secrecy::ExposeSecret as _;
use tracing::info;

use super::endpoint::{Parameter, Query};
use super::ticket::{StoredTicket, Ticket};
use super::{BrowserError, Origin, ReturnTo, is_led_by_other_site, session_cookie};
use crate::authn::{CrossSite, is_cross_site};
use crate::clock::Timestamp;
use crate::cookie::{self, OwnCookie};
use crate::identity::{Identity, SessionId};
use crate::page::{Action, HandOverDoubt, HandOverPage, Language, Message, Notice};
use crate::session::{CheckedSession, SessionError};
use crate::sign_in::error::SignInError;
use crate::sign_in::program::body::{BodyFormat, HandOverBody};
use crate::sign_in::program::request::read_body;
use crate::sign_in::{ReadBody, SignInAnswer, SignInCall, SignInService};

/// What the browser holds before the hand-over.
enum Holder {
    /// No session.
    Nobody,
    /// A session of a user.
    User(Box<CheckedSession>),
    /// Something that cannot be judged: two cookies, or that of a blocked user.
    Unclear,
}

/// A ticket and the place that the browser goes to.
struct HandOverRequest {
    ticket: Ticket,
    return_to: ReturnTo,
}

/// Answers `GET /auth/ticket`.
pub(in crate::sign_in) async fn respond(service: &Arc<SignInService>, call: SignInCall<'_>) -> SignInAnswer {
    let result = open_page(service, call).await;
    answer(service, result, call)
}

/// Answers `POST /auth/ticket/confirm`: the user was asked, and wants to go on.
pub(in crate::sign_in) async fn confirm(
    service: &Arc<SignInService>,
    call: SignInCall<'_>,
    body: ReadBody,
) -> SignInAnswer {
    let result = confirmed(service, call, body).await;
    answer(service, result, call)
}

fn answer(
    service: &SignInService,
    result: Result<SignInAnswer, BrowserError>,
    call: SignInCall<'_>,
) -> SignInAnswer {
    let SignInCall { request, request_id, .. } = call;
    let answer = result.unwrap_or_else(|error| {
        // A session that has ended since is to the user as a ticket that is too old: both begin
        // again in the mini program.
        let error = match error {
            BrowserError::SignIn(SignInError::SessionEnded) => BrowserError::TicketUnknown,
            error => error,
        };
        service.error_page(error, Action::Nothing, request, request_id)
    });
    let outcome = answer.outcome;
    service.deps.metrics.hand_overs.with_label_values(&[outcome]).inc();
    info!(hand_over.outcome = outcome, http.request.id = request_id, "a hand-over was answered: {outcome}");
    answer
}

async fn open_page(service: &SignInService, call: SignInCall<'_>) -> Result<SignInAnswer, BrowserError> {
    let SignInCall { request, now, .. } = call;
    let own = own_origin(service, request)?;
    let query = Query::of(request);
    let ticket = match query.one("t") {
        Parameter::One(text) => Ticket::parse(text).ok_or(BrowserError::TicketUnknown)?,
        Parameter::Missing | Parameter::Several => return Err(BrowserError::TicketMalformed),
    };
    let asked = HandOverRequest { ticket, return_to: service.return_to(query.return_to(), own) };

    let stored = look_up(service, &asked.ticket, now).await?;
    let holder = holder(service, request, now).await?;
    if stored.is_spent() {
        // The page is loaded again. Only the browser that spent the ticket holds such a session.
        return match &holder {
            Holder::User(held) if held.parent.as_ref() == Some(&stored.session) => {
                Ok(SignInAnswer::see_other("signed_in_already", asked.return_to.location())?)
            }
            _ => Err(BrowserError::TicketUnknown),
        };
    }
    let identity = service.deps.sessions.identity_to_hand_over(&stored.session, now).await;
    let identity = identity.map_err(SignInError::from)?;
    match doubt(&holder, &identity, request) {
        Some(doubt) => Ok(ask(service, &asked, doubt, request)),
        None => {
            let answer = SignInAnswer::see_other("ok", asked.return_to.location())?;
            hand_over(service, stored, &identity, holder.session(), answer, call).await
        }
    }
}

async fn confirmed(
    service: &SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> Result<SignInAnswer, BrowserError> {
    let SignInCall { request, now, request_id, .. } = call;
    let own = own_origin(service, request)?;
    // Whatever `cors` lists: only the gateway's own page asks the user.
    if is_cross_site(request, false, CrossSite::Refuse) {
        return Err(SignInError::CrossSite.into());
    }
    let (format, body) = read_body(service, request, body)?;
    if format != BodyFormat::Form {
        return Err(SignInError::MediaTypeUnsupported.into());
    }
    let HandOverBody { ticket, return_to } = format.read_hand_over(&body).map_err(SignInError::from)?;
    let ticket = Ticket::parse(ticket.expose_secret()).ok_or(BrowserError::TicketUnknown)?;
    let return_to = service.return_to(return_to.as_deref(), own);

    let stored = look_up(service, &ticket, now).await?;
    let holder = holder(service, request, now).await?;
    let identity = service.deps.sessions.identity_to_hand_over(&stored.session, now).await;
    let identity = identity.map_err(SignInError::from)?;
    let answer = match service.form_target(&return_to, request) {
        Some(place) => SignInAnswer::see_other("ok", place)?,
        // The policy of the page would stop the redirect of its form.
        None => {
            let message = Message::new(Notice::HandedOver, Action::Link(return_to.location()), request_id);
            service.message_page(StatusCode::OK, "ok", &message, request)
        }
    };
    hand_over(service, stored, &identity, holder.session(), answer, call).await
}

fn own_origin<'a>(service: &'a SignInService, request: &Parts) -> Result<&'a Origin, BrowserError> {
    service.settings.origins.of(request).ok_or(BrowserError::NothingToSignInTo)
}

async fn look_up(
    service: &SignInService,
    ticket: &Ticket,
    now: Timestamp,
) -> Result<StoredTicket, BrowserError> {
    if !service.deps.store_health.is_available() {
        return Err(SignInError::StoreUnavailable.into());
    }
    StoredTicket::look_up(&*service.deps.store, ticket, now).await
}

/// Whose session the browser holds.
async fn holder(service: &SignInService, request: &Parts, now: Timestamp) -> Result<Holder, SignInError> {
    let Some(cookie) = session_cookie::of(&request.headers) else {
        return Ok(match OwnCookie::of(&request.headers, cookie::SESSION) {
            OwnCookie::Several => Holder::Unclear,
            // A text that no gateway set.
            OwnCookie::One(_) | OwnCookie::Absent => Holder::Nobody,
        });
    };
    match service.deps.sessions.check_cookie(&cookie, now).await {
        Ok(session) => Ok(Holder::User(Box::new(session))),
        Err(SessionError::Ended) => Ok(Holder::Nobody),
        Err(SessionError::Blocked) => Ok(Holder::Unclear),
        Err(error) => Err(error.into()),
    }
}

impl Holder {
    fn session(&self) -> Option<&SessionId> {
        match self {
            Self::User(held) => Some(&held.id),
            Self::Nobody | Self::Unclear => None,
        }
    }
}

/// Why the user is asked first; `None` if it is clear that the browser is the person's own.
fn doubt(holder: &Holder, identity: &Identity, request: &Parts) -> Option<HandOverDoubt> {
    let is_theirs = match holder {
        Holder::Nobody => true,
        Holder::User(held) => is_same_person(&held.identity, identity),
        Holder::Unclear => false,
    };
    if !is_theirs {
        return Some(HandOverDoubt::OtherUser);
    }
    is_led_by_other_site(&request.headers).then_some(HandOverDoubt::OtherSite)
}

fn is_same_person(one: &Identity, other: &Identity) -> bool {
    one.subject == other.subject || one.unionid.is_some() && one.unionid == other.unionid
}

fn ask(
    service: &SignInService,
    asked: &HandOverRequest,
    doubt: HandOverDoubt,
    request: &Parts,
) -> SignInAnswer {
    let path = service.hand_over_confirm_path();
    let page = HandOverPage {
        doubt,
        path: &path,
        ticket: asked.ticket.expose(),
        return_to: asked.return_to.location(),
    };
    let language = Language::of(&request.headers);
    let page = service.deps.pages.hand_over(&page, language);
    // The form must show its origin, and the address of the page has the ticket.
    SignInAnswer::page(StatusCode::OK, "hand_over_asked", page, language)
        .with_referrer_policy("strict-origin")
}

/// Spends the ticket, and gives the browser its session.
async fn hand_over(
    service: &SignInService,
    stored: StoredTicket,
    identity: &Identity,
    before: Option<&SessionId>,
    answer: SignInAnswer,
    call: SignInCall<'_>,
) -> Result<SignInAnswer, BrowserError> {
    let SignInCall { request, now, .. } = call;
    let deps = &service.deps;
    // The configuration may have changed since the ticket was given.
    let app = service.app_of(&identity.subject.appid).filter(|app| app.hands_over);
    let app = app.ok_or(BrowserError::TicketUnknown)?;
    let parent = stored.spend(&*deps.store, now).await?;
    let user_agent = request.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let handed_over = deps.sessions.hand_over(&parent, before, user_agent, now).await;
    let handed_over = handed_over.map_err(SignInError::from)?;
    let session = &handed_over.session;
    let cookie =
        session_cookie::set(&session.cookie, session.expires_at, now).ok_or(SignInError::Internal)?;
    Ok(answer.with_cookie(cookie).of(&app.name, &handed_over.identity))
}
