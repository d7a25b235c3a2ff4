//! The sign-in service: its configuration, what it remembers, and the services that it works with.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::request::Parts;

use super::build::SignInSettings;
use super::deps::SignInDependencies;
use super::error::SignInError;
use crate::authn::{Authenticated, Credential, CrossSite};
use crate::clock::Timestamp;
use crate::identity::{AppId, Identity, Subject};
use crate::user_data::UserDataPolicy;
use crate::wechat::App;

/// The login endpoints.
pub struct SignInService {
    pub(super) settings: SignInSettings,
    /// `None` if no sealed user data are opened.
    pub(super) user_data: Option<UserDataPolicy>,
    pub(super) deps: Arc<SignInDependencies>,
}

impl SignInService {
    /// The endpoints, with what they work with.
    pub fn new(settings: SignInSettings, deps: SignInDependencies) -> Self {
        Self { settings, user_data: None, deps: Arc::new(deps) }
    }

    /// Opens sealed user data by this policy.
    #[must_use]
    pub fn opening_user_data(self, user_data: Option<UserDataPolicy>) -> Self {
        Self { user_data, ..self }
    }

    /// Keeps the codes that the service of the previous configuration remembers, so that a reload
    /// loses no answer. If the limits changed, the memory starts empty.
    #[must_use]
    pub fn with_codes_of(mut self, previous: &Self) -> Self {
        let (settings, previous) = (&mut self.settings, &previous.settings);
        if settings.program_codes.has_limits_of(&previous.program_codes) {
            settings.program_codes = Arc::clone(&previous.program_codes);
            settings.browser_codes = Arc::clone(&previous.browser_codes);
        }
        self
    }

    /// Forgets the sign-ins of these subjects that would be answered again.
    pub fn forget(&self, subjects: &BTreeSet<Subject>) {
        let is_meant = |identity: &Identity| subjects.contains(&identity.subject);
        self.settings.program_codes.forget(|grant| is_meant(&grant.identity));
        self.settings.browser_codes.forget(|grant| is_meant(grant.identity()));
    }

    /// The token or session cookie of a request, from every place where a route accepts one.
    /// Refuses a cookie that a page of another site sent.
    pub(super) fn credential<'a>(
        &self,
        request: &'a Parts,
        cross_site: CrossSite,
    ) -> Result<Option<Credential<'a>>, SignInError> {
        Ok(self.deps.authenticator.credential(request, false, cross_site)?)
    }

    /// Identifies the caller.
    pub(super) async fn authenticate(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, SignInError> {
        Ok(self.deps.authenticator.verify(credential, now).await?)
    }

    /// A person with the name of their app, for the logs; `None` if the app is no longer
    /// configured.
    pub(super) fn named(&self, identity: Identity) -> Option<(Arc<str>, Identity)> {
        let app = self.app_of(&identity.subject.appid)?;
        Some((Arc::clone(&app.name), identity))
    }

    /// The configured app of this id.
    pub(super) fn app_of(&self, appid: &AppId) -> Option<&App> {
        self.deps.wechat.apps().find(|app| app.appid == *appid)
    }
}

impl fmt::Debug for SignInService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInService")
            .field("path_prefix", &self.settings.path_prefix)
            .finish_non_exhaustive()
    }
}
