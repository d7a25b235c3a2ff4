//! What the emulated WeChat remembers, all of it behind one lock.

use std::collections::{BTreeMap, HashMap};

use super::access_token::AccessTokens;
use super::call::Calls;
use super::code::Codes;
use super::config::{App, Config, User};
use super::fault::Faults;
use super::identifier::Identifiers;
use super::quota::Quotas;
use super::session_key::SessionKeys;

/// Everything that a call may read or change.
#[derive(Debug)]
pub(super) struct State {
    pub(super) identifiers: Identifiers,
    pub(super) grant_type_required: bool,
    pub(super) apps: BTreeMap<String, App>,
    /// Those of the configuration; anyone else is a plain user.
    pub(super) users: HashMap<String, User>,
    pub(super) codes: Codes,
    pub(super) session_keys: SessionKeys,
    pub(super) tokens: AccessTokens,
    pub(super) quotas: Quotas,
    pub(super) faults: Faults,
    pub(super) calls: Calls,
}

impl State {
    pub(super) fn new(config: Config) -> Self {
        Self {
            identifiers: Identifiers::new(&config.seed),
            grant_type_required: config.grant_type_required,
            apps: config.apps.into_iter().map(|app| (app.appid.clone(), app)).collect(),
            users: config.users.into_iter().map(|user| (user.wxid.clone(), user)).collect(),
            codes: Codes::default(),
            session_keys: SessionKeys::new(config.session_keys),
            tokens: AccessTokens::default(),
            quotas: Quotas::new(config.quotas),
            faults: Faults::default(),
            calls: Calls::new(config.logged_calls),
        }
    }

    /// The person's unionid, if the app is bound to an Open Platform account.
    pub(super) fn unionid(&self, appid: &str, wxid: &str) -> Option<String> {
        let platform = self.apps.get(appid)?.open_platform.as_deref()?;
        Some(self.identifiers.unionid(wxid, platform))
    }

    /// The person's mobile number.
    pub(super) fn phone(&self, wxid: &str) -> String {
        let given = self.users.get(wxid).and_then(|user| user.phone.clone());
        given.unwrap_or_else(|| self.identifiers.phone(wxid))
    }

    /// What the person calls themselves.
    pub(super) fn nickname(&self, wxid: &str) -> String {
        let given = self.users.get(wxid).and_then(|user| user.nickname.clone());
        given.unwrap_or_else(|| wxid.to_owned())
    }
}
