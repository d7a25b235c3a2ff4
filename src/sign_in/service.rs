//! The sign-in service: its configuration, what it remembers, and the services that it works with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;

use super::browser::{BrowserGrant, Origin, Origins};
use super::build::SignInSettings;
use super::deps::SignInDependencies;
use super::error::SignInError;
use super::once::CodeMemory;
use super::program::grant::TokenGrant;
use crate::authn::{Authenticated, Credential, CrossSite};
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::wechat::App;

/// The login endpoints.
pub struct SignInService {
    pub(super) path_prefix: String,
    pub(super) max_body_bytes: usize,
    pub(super) body_timeout: Duration,
    /// Where browsers reach the gateway.
    pub(super) origins: Origins,
    /// Origins of other sites that a sign-in may redirect to.
    pub(super) return_to: Vec<Origin>,
    pub(super) program_codes: Arc<CodeMemory<TokenGrant>>,
    pub(super) browser_codes: Arc<CodeMemory<BrowserGrant>>,
    pub(super) deps: Arc<SignInDependencies>,
}

impl SignInService {
    /// The endpoints, with what they work with.
    pub fn new(settings: SignInSettings, deps: SignInDependencies) -> Self {
        let SignInSettings {
            path_prefix,
            max_body_bytes,
            body_timeout,
            origins,
            return_to,
            program_codes,
            browser_codes,
        } = settings;
        Self {
            path_prefix,
            max_body_bytes,
            body_timeout,
            origins,
            return_to,
            program_codes,
            browser_codes,
            deps: Arc::new(deps),
        }
    }

    /// Keeps the codes that the service of the previous configuration remembers, so that a reload
    /// loses no answer. If the limits changed, the memory starts empty.
    #[must_use]
    pub fn with_codes_of(mut self, previous: &Self) -> Self {
        if self.program_codes.has_limits_of(&previous.program_codes) {
            self.program_codes = Arc::clone(&previous.program_codes);
            self.browser_codes = Arc::clone(&previous.browser_codes);
        }
        self
    }

    /// The token or session cookie of a request, from every place where a route accepts one.
    /// Refuses a cookie that a page of another site sent.
    pub(super) fn credential<'a>(&self, request: &'a Parts) -> Result<Option<Credential<'a>>, SignInError> {
        Ok(self.deps.authenticator.credential(request, false, CrossSite::Refuse)?)
    }

    /// Identifies the caller.
    pub(super) async fn authenticate(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, SignInError> {
        Ok(self.deps.authenticator.verify(credential, now).await?)
    }

    /// The configured app of this id.
    pub(super) fn app_of(&self, appid: &AppId) -> Option<&App> {
        self.deps.wechat.apps().find(|app| app.appid == *appid)
    }
}

impl fmt::Debug for SignInService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInService").field("path_prefix", &self.path_prefix).finish_non_exhaustive()
    }
}
