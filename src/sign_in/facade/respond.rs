//! The answers of a façade, in its own shape.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::endpoint::Facade;
use crate::config::AppKind;
use crate::identity::User;
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::call::{ReadBody, SignInCall};
use crate::sign_in::deps::SignInDependencies;
use crate::sign_in::error::SignInError;
use crate::sign_in::once::SignInResult;
use crate::sign_in::program::body::LoginBody;
use crate::sign_in::program::grant::TokenGrant;
use crate::sign_in::program::login::{choose_app, sign_in};
use crate::sign_in::record::record_sign_in;
use crate::sign_in::service::SignInService;

/// Answers a request that passed the precheck of a façade.
pub(in crate::sign_in) async fn respond(
    service: &SignInService,
    facade: &Facade,
    call: SignInCall<'_>,
    body: ReadBody,
) -> SignInAnswer {
    let deps = &service.deps;
    let started = deps.clock.instant();
    let app = choose_app(service, facade.app.as_deref());
    let flow = app.as_ref().map_or(AppKind::MiniProgram, |app| app.kind);
    let read = app.and_then(|app| Ok((app, facade.read_code(service, call, body)?)));
    let named = read.as_ref().ok().map(|(app, _)| Arc::clone(&app.name));
    let result = match read {
        Ok((app, code)) => {
            let body = LoginBody { code, app: None, refresh_token: None };
            sign_in(service, call, app, body).await
        }
        Err(error) => Err(error),
    };
    let answered = match result {
        Ok(grant) => facade.grant(service, &grant, call).await,
        Err(error) => Err(error),
    };
    let mut answer = answered.unwrap_or_else(|error| facade.refuse(&error, call));
    answer.app = named;
    record_sign_in(deps, flow, started, &answer, call.request_id);
    answer
}

impl Facade {
    /// The answer to a client that is signed in.
    async fn grant(
        &self,
        service: &SignInService,
        grant: &TokenGrant,
        call: SignInCall<'_>,
    ) -> SignInResult<SignInAnswer> {
        let now = service.deps.clock.now();
        let user = if self.answer.names("user") { user_of(service, grant).await? } else { None };
        let body = self.answer.render(&|name| match name {
            "access_token" => grant.token.expose().into(),
            "refresh_token" => grant.session.refresh_token.expose().into(),
            "expires_in" => grant.token.expires_at.since(now).as_secs().into(),
            "openid" => grant.identity.subject.openid.as_str().into(),
            "unionid" => grant.identity.unionid.as_ref().map(|unionid| unionid.as_str()).into(),
            "user" => user.as_ref().map(|user| user.id().as_str()).into(),
            "request_id" => call.request_id.into(),
            _ => Value::Null,
        });
        let mut answer = SignInAnswer::shaped(StatusCode::OK, "ok", body);
        answer.identity = Some(grant.identity.clone());
        Ok(answer)
    }

    /// The answer to a client that is not signed in.
    pub(super) fn refuse(&self, error: &SignInError, call: SignInCall<'_>) -> SignInAnswer {
        let reply = error.reply();
        let body = self.error.render(&|name| match name {
            "code" => reply.code.into(),
            "message" if *error == SignInError::MethodNotAllowed => {
                "no client signs in with this method".into()
            }
            "message" => reply.description.into(),
            "status" => reply.status.as_u16().into(),
            "request_id" => call.request_id.into(),
            _ => Value::Null,
        });
        if *error == SignInError::MethodNotAllowed {
            // In its own status: 200 without a body would say that a HEAD signs in.
            return SignInAnswer::refused_in_shape(&reply, reply.status, body).with_allow(self.allow.clone());
        }
        SignInAnswer::refused_in_shape(&reply, self.status.unwrap_or(reply.status), body)
    }
}

/// The user of the business to whom the person is bound.
async fn user_of(service: &SignInService, grant: &TokenGrant) -> SignInResult<Option<User>> {
    let SignInDependencies { authenticator, clock, .. } = &*service.deps;
    let caller = authenticator.introspect(grant.token.expose(), clock.now()).await?;
    Ok(caller.user().cloned())
}
