//! Codes: a phone gives a code to a server, which uses it once. This module checks and consumes a
//! code in one step.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;

use super::authorization::Scope;
use super::errcode::{self, WeChatRefusal};

/// How long a code may be exchanged, and how long WeChat remembers that it was used. Five minutes,
/// per its login guide.
const LIFE: Duration = Duration::from_secs(300);

/// How long the code of a website or a mobile app may be exchanged. Ten minutes, per the Open
/// Platform's guide.
const WEBSITE_LIFE: Duration = Duration::from_secs(600);

/// What a code was issued for; it is valid only for that.
///
/// An endpoint names the kinds it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeKind {
    /// `wx.login`, exchanged for an openid.
    Login,
    /// The `getPhoneNumber` event, exchanged for a phone number.
    Phone,
    /// A sign-in page, exchanged for a person's access token of this scope.
    Page(Scope),
    /// WeChat's SDK in a mobile app, exchanged likewise.
    Sdk,
}

impl CodeKind {
    /// The kinds `/sns/oauth2/access_token` takes.
    pub(super) const PAGE: &[Self] =
        &[Self::Page(Scope::Login), Self::Page(Scope::Base), Self::Page(Scope::UserInfo), Self::Sdk];

    /// How long a code of this kind may be exchanged.
    pub(super) const fn life(self) -> Duration {
        match self {
            Self::Page(Scope::Login) | Self::Sdk => WEBSITE_LIFE,
            Self::Page(Scope::Base | Scope::UserInfo) | Self::Login | Self::Phone => LIFE,
        }
    }
}

/// The record of a code.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) appid: String,
    pub(super) wxid: String,
    pub(super) kind: CodeKind,
    pub(super) issued: Timestamp,
    pub(super) used: Option<Timestamp>,
}

/// Every code that still matters.
#[derive(Debug, Default)]
pub(super) struct Codes {
    by_text: HashMap<String, Code>,
    in_order: VecDeque<String>,
}

impl Codes {
    /// Adds a code, and removes those that now answer like an unknown one.
    pub(super) fn insert(&mut self, text: String, code: Code, now: Timestamp) {
        self.forget(now);
        self.in_order.push_back(text.clone());
        self.by_text.insert(text, code);
    }

    /// The owner of a code, without using it, to count the user's quota.
    pub(super) fn owner(&self, text: &str, appid: &str, kinds: &[CodeKind]) -> Option<&str> {
        self.by_text.get(text).filter(|code| code.belongs_to(appid, kinds)).map(|code| code.wxid.as_str())
    }

    /// Whether the code was issued, and still matters.
    pub(super) fn has(&self, text: &str) -> bool {
        self.by_text.contains_key(text)
    }

    /// Uses a code up and returns its owner and its kind.
    ///
    /// Another app's attempt leaves the code as it is. A used code is distinguished from an unknown
    /// one for five minutes.
    pub(super) fn redeem(
        &mut self,
        text: &str,
        appid: &str,
        kinds: &[CodeKind],
        now: Timestamp,
    ) -> Result<Code, WeChatRefusal> {
        let code = self.by_text.get_mut(text).filter(|code| code.belongs_to(appid, kinds));
        let code = code.ok_or(errcode::INVALID_CODE)?;
        match code.used {
            Some(used) if now.since(used) <= LIFE => Err(errcode::CODE_BEEN_USED),
            Some(_) => Err(errcode::INVALID_CODE),
            None if now.since(code.issued) >= code.kind.life() => Err(errcode::INVALID_CODE),
            None => {
                code.used = Some(now);
                Ok(code.clone())
            }
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(text) = self.in_order.front() {
            // The last moment at which a code can be used, and the time that a use is remembered.
            let matters = |code: &Code| now.since(code.issued) <= code.kind.life() + LIFE;
            if self.by_text.get(text).is_some_and(matters) {
                return;
            }
            self.by_text.remove(text);
            self.in_order.pop_front();
        }
    }
}

impl Code {
    fn belongs_to(&self, appid: &str, kinds: &[CodeKind]) -> bool {
        self.appid == appid && kinds.contains(&self.kind)
    }
}
