//! `POST /auth/ticket`: a program asks for a ticket, with which a web-view gets a session of its
//! own.

use std::sync::Arc;

use tracing::debug;

use crate::authn::AuthnError;
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::browser::{TICKET_LIFETIME, Ticket, TicketRecord};
use crate::sign_in::call::SignInCall;
use crate::sign_in::error::SignInError;
use crate::sign_in::service::SignInService;

/// Answers a request for a ticket.
pub(in crate::sign_in) async fn respond(service: &Arc<SignInService>, call: SignInCall<'_>) -> SignInAnswer {
    let answer = match give_ticket(service, call).await {
        Ok(answer) => answer,
        Err(error) => SignInAnswer::refused_as_problem(&error.reply(), call.request_id),
    };
    let outcome = answer.outcome;
    debug!(ticket.outcome = outcome, http.request.id = call.request_id, "a ticket was answered: {outcome}");
    answer
}

async fn give_ticket(service: &SignInService, call: SignInCall<'_>) -> Result<SignInAnswer, SignInError> {
    let SignInCall { request, now, cross_site, .. } = call;
    let deps = &service.deps;
    let credential = service.credential(request, cross_site)?;
    // A program shows a token. A browser adds a cookie by itself, and has a session already.
    let credential =
        credential.filter(|credential| !credential.is_session_cookie() && !credential.is_in_cookies_alone());
    let credential = credential.ok_or(AuthnError::NoToken)?;
    let caller = service.authenticate(&credential, now).await?;
    let subject = &caller.identity().subject;
    let app = service.app_of(&subject.appid).ok_or(SignInError::Internal)?;
    if !app.hands_over || service.settings.origins.is_empty() {
        return Err(SignInError::HandOverRefused);
    }
    // After the caller is known: no other user can use the limit up.
    deps.throttle.check_ticket_of(subject)?;
    if !deps.store_health.is_available() {
        return Err(SignInError::StoreUnavailable);
    }
    let ticket = Ticket::draw(&*deps.entropy)?;
    TicketRecord::new(caller.session(), now).insert(&*deps.store, &ticket).await?;
    let answer = SignInAnswer::ticket(ticket.expose(), TICKET_LIFETIME.as_secs());
    Ok(answer.of(&app.name, caller.identity()))
}
