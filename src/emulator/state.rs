//! The state of the emulated WeChat, behind one lock.

use std::collections::{BTreeMap, HashMap};

use super::access_token::AccessTokens;
use super::call::Calls;
use super::code::Codes;
use super::config::{App, Config, RefusedSignIn, User};
use super::fault::Faults;
use super::grant::Grants;
use super::identifier::Identifiers;
use super::media_file::MediaFiles;
use super::qr_code::QrCodes;
use super::quota::Quotas;
use super::session_key::SessionKeys;

/// Everything that a call may read or change.
#[derive(Debug)]
pub(super) struct EmulatorState {
    pub(super) identifiers: Identifiers,
    pub(super) grant_type_required: bool,
    /// The person whose codes all unknown ones are; `None` if they are refused.
    pub(super) owner_of_any_code: Option<String>,
    pub(super) refused_sign_in: RefusedSignIn,
    pub(super) apps: BTreeMap<String, App>,
    /// The users of the configuration; any other wxid is a default user.
    pub(super) users: HashMap<String, User>,
    /// Their names in the order of the configuration, as the phone offers them.
    pub(super) people: Vec<String>,
    pub(super) codes: Codes,
    pub(super) qr_codes: QrCodes,
    pub(super) grants: Grants,
    pub(super) session_keys: SessionKeys,
    pub(super) tokens: AccessTokens,
    pub(super) media: MediaFiles,
    pub(super) quotas: Quotas,
    pub(super) faults: Faults,
    pub(super) calls: Calls,
}

impl EmulatorState {
    pub(super) fn new(config: Config) -> Self {
        Self {
            identifiers: Identifiers::new(&config.seed),
            grant_type_required: config.grant_type_required,
            owner_of_any_code: config.accept_any_code.wxid().map(str::to_owned),
            refused_sign_in: config.refused_sign_in,
            apps: config.apps.into_iter().map(|app| (app.appid.clone(), app)).collect(),
            people: config.users.iter().map(|user| user.wxid.clone()).collect(),
            users: config.users.into_iter().map(|user| (user.wxid.clone(), user)).collect(),
            codes: Codes::default(),
            qr_codes: QrCodes::new(config.qr_codes.lifetime),
            grants: Grants::default(),
            session_keys: SessionKeys::new(config.session_keys),
            tokens: AccessTokens::default(),
            media: MediaFiles::default(),
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

    /// The address of the person's picture.
    pub(super) fn avatar(&self, wxid: &str) -> String {
        let given = self.users.get(wxid).and_then(|user| user.avatar.clone());
        given.unwrap_or_else(|| self.identifiers.avatar(wxid))
    }

    /// The person's nickname.
    pub(super) fn nickname(&self, wxid: &str) -> String {
        let given = self.users.get(wxid).and_then(|user| user.nickname.clone());
        given.unwrap_or_else(|| wxid.to_owned())
    }

    /// What a person of the phone does, in one line.
    pub(super) fn caption(&self, wxid: &str) -> &str {
        match self.users.get(wxid) {
            Some(User { caption: Some(caption), .. }) => caption,
            Some(User { risk: true, .. }) => "被微信限制，登录失败 · WeChat refuses every sign-in (40226)",
            Some(User { snapshot: true, .. }) => {
                "在公众号里只看到快照页 · gets no identity from official accounts"
            }
            _ => "普通用户 · an ordinary user",
        }
    }
}
