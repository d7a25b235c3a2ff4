//! The door of the programs of the business: a listener of its own, off by default.
//!
//! Decides which program asks, whether it may, and what is answered. Each program has a token and a
//! list of what it may; the audit log has its name.

mod introspect;
mod serve;
mod wechat_api;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

pub use self::serve::{InternalListener, serve};
use self::wechat_api::{CallForm, WeChatApi};
use crate::authn::InternalClient;
use crate::config::InternalPermission;
use crate::management::{Door, Management, ManagementAnswer, ManagementBodyError, ManagementPage, Requester};
use crate::wechat::RelayBodyError;

/// The body of an answer: a document, or what WeChat answers, as it comes.
type InternalBody = UnsyncBoxBody<Bytes, RelayBodyError>;

/// Answers the programs of the business.
pub struct Internal {
    management: Arc<Management>,
    wechat_api: WeChatApi,
}

/// A page of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InternalPage {
    Introspect,
    Management(ManagementPage),
}

impl InternalPage {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/introspect" => Some(Self::Introspect),
            _ => ManagementPage::at(path).map(Self::Management),
        }
    }

    /// What a client must be permitted.
    const fn permission(self) -> InternalPermission {
        match self {
            Self::Introspect => InternalPermission::Introspect,
            Self::Management(page) => page.permission(),
        }
    }
}

impl Internal {
    /// Makes the service.
    pub fn new(management: Arc<Management>) -> Self {
        Self { wechat_api: WeChatApi::new(Arc::clone(&management)), management }
    }

    /// Answers a request from an address.
    async fn answer(
        &self,
        request: &Parts,
        client: SocketAddr,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Response<InternalBody> {
        let runtime = self.management.runtime();
        let program = runtime.internal_clients.find(&request.headers);
        let answer = self.answer_page(request, client, program, body).await;
        let response = answer.unwrap_or_else(|refused| refused).into_response(&request.method);
        self.count(program, response.status());
        response.map(whole)
    }

    /// Answers a call of WeChat's API.
    async fn answer_call(
        &self,
        form: CallForm,
        request: &Parts,
        client: SocketAddr,
        incoming: Incoming,
    ) -> Response<InternalBody> {
        let runtime = self.management.runtime();
        let clients = &runtime.internal_clients;
        let program = match form {
            CallForm::Path => clients.find(&request.headers),
            CallForm::Proxy => clients.find_proxied(&request.headers),
            CallForm::Alias => clients.of_alias(),
        };
        let answer = self.wechat_api.answer(form, request, (program, client), incoming).await;
        let response = answer.unwrap_or_else(|refused| refused.into_response(&request.method).map(whole));
        self.count(program, response.status());
        response
    }

    fn count(&self, program: Option<&InternalClient>, status: StatusCode) {
        let name = program.map(InternalClient::name).unwrap_or_default();
        let requests = &self.management.shared().metrics.internal_requests;
        requests.with_label_values(&[name, status.as_str()]).inc();
    }

    async fn answer_page(
        &self,
        request: &Parts,
        address: SocketAddr,
        program: Option<&InternalClient>,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let page = InternalPage::at(request.uri.path())
            .ok_or_else(|| ManagementAnswer::problem(StatusCode::NOT_FOUND, "not_found", None))?;
        let client = program.ok_or_else(|| {
            let detail = "send the token of a client: `Authorization: Bearer …`";
            ManagementAnswer::problem(StatusCode::UNAUTHORIZED, "client_unknown", Some(detail))
                .with_bearer_challenge()
        })?;
        let name = client.name().to_owned();
        let requester = Requester { door: Door::Internal, name, address: Some(address.ip().to_canonical()) };
        if !client.may(page.permission()) {
            self.management.audit_refusal(&requester);
            let detail =
                format!("`may` of the client `{}` does not have what this page needs", requester.name);
            return Err(ManagementAnswer::problem(StatusCode::FORBIDDEN, "not_permitted", Some(&detail)));
        }
        match page {
            InternalPage::Introspect => introspect::answer(&self.management, request, body).await,
            InternalPage::Management(page) => self.management.answer(page, request, &requester, body).await,
        }
    }
}

fn whole(body: Vec<u8>) -> InternalBody {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync()
}

impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Internal").finish_non_exhaustive()
    }
}
