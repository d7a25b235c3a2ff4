//! Users' access tokens: a sign-in gives them to a server for two hours, or for thirty days if they
//! are refreshed.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::entropy::Entropy;

use super::access_token;
use super::authorization::Scope;
use super::errcode::{self, WeChatRefusal};
use super::identifier;

/// How long an access token lives after it was issued or refreshed.
pub(super) const ACCESS_LIFE: Duration = Duration::from_secs(7200);
/// How long a refresh token lives; nothing prolongs it.
const REFRESH_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How long an expired grant is remembered, and so distinguished from an unknown one.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// What a person allowed an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) appid: String,
    pub(super) wxid: String,
    pub(super) openid: String,
    pub(super) scope: Scope,
    /// Whether the openid is made up, for a visitor of a snapshot page.
    pub(super) is_snapshot: bool,
}

/// The two tokens of a grant.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
}

/// Every grant that still matters.
#[derive(Debug, Default)]
pub(super) struct Grants {
    by_refresh: HashMap<String, HeldGrant>,
    by_access: HashMap<String, GrantedAccess>,
    in_order: VecDeque<String>,
}

#[derive(Debug)]
struct HeldGrant {
    grant: Grant,
    issued: Timestamp,
    /// All that were issued, the current one last.
    access: Vec<String>,
}

#[derive(Debug)]
struct GrantedAccess {
    refresh: String,
    expires: Timestamp,
    is_void: bool,
}

impl Grants {
    /// Makes tokens for a grant.
    pub(super) fn issue(
        &mut self,
        grant: Grant,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Tokens, WeChatRefusal> {
        self.forget(now);
        let refresh = identifier::access_token(entropy).map_err(|_| errcode::SYSTEM_ERROR)?;
        let access = self.issue_access(&refresh, now, entropy)?;
        let held = HeldGrant { grant, issued: now, access: vec![access.clone()] };
        self.by_refresh.insert(refresh.clone(), held);
        self.in_order.push_back(refresh.clone());
        Ok(Tokens { access, refresh })
    }

    /// `refresh_token`: the same access token with a new lifetime, or another one if it has
    /// expired.
    pub(super) fn refresh(
        &mut self,
        appid: &str,
        refresh: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(Tokens, Grant), WeChatRefusal> {
        let held = self.by_refresh.get(refresh).filter(|held| held.grant.appid == appid);
        let held = held.ok_or(errcode::INVALID_REFRESH_TOKEN)?;
        if now.since(held.issued) >= REFRESH_LIFE {
            return Err(errcode::REFRESH_TOKEN_EXPIRED);
        }
        let grant = held.grant.clone();
        let current = held.access.last().cloned().unwrap_or_default();
        let access = match self.by_access.get_mut(&current) {
            Some(access) if !access.is_void && access.expires > now => {
                access.expires = now.plus(ACCESS_LIFE);
                current
            }
            _ => self.issue_access(refresh, now, entropy)?,
        };
        if let Some(held) =
            self.by_refresh.get_mut(refresh).filter(|held| held.access.last() != Some(&access))
        {
            held.access.push(access.clone());
        }
        Ok((Tokens { access, refresh: refresh.into() }, grant))
    }

    /// Every token, dead or alive, of the grants that are remembered.
    pub(super) fn all(&self) -> Vec<String> {
        self.by_refresh.keys().chain(self.by_access.keys()).cloned().collect()
    }

    /// The grant of an access token, if the token is valid.
    pub(super) fn of(&self, access: &str, now: Timestamp) -> Result<&Grant, WeChatRefusal> {
        let token = self.by_access.get(access).ok_or_else(|| access_token::unknown(access))?;
        if token.is_void {
            return Err(errcode::NOT_LATEST);
        }
        if token.expires <= now {
            return Err(errcode::ACCESS_TOKEN_EXPIRED);
        }
        self.by_refresh.get(&token.refresh).map(|held| &held.grant).ok_or(errcode::NOT_LATEST)
    }

    /// Revokes every access token of an app; the refresh tokens stay valid.
    pub(super) fn revoke(&mut self, appid: &str) {
        for held in self.by_refresh.values().filter(|held| held.grant.appid == appid) {
            for text in &held.access {
                if let Some(access) = self.by_access.get_mut(text) {
                    access.is_void = true;
                }
            }
        }
    }

    fn issue_access(
        &mut self,
        refresh: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<String, WeChatRefusal> {
        let text = identifier::access_token(entropy).map_err(|_| errcode::SYSTEM_ERROR)?;
        let access =
            GrantedAccess { refresh: refresh.into(), expires: now.plus(ACCESS_LIFE), is_void: false };
        self.by_access.insert(text.clone(), access);
        Ok(text)
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(refresh) = self.in_order.front() {
            let matters = |held: &HeldGrant| now.since(held.issued) < REFRESH_LIFE + REMEMBERED;
            if self.by_refresh.get(refresh).is_some_and(matters) {
                return;
            }
            for access in self.by_refresh.remove(refresh).into_iter().flat_map(|held| held.access) {
                self.by_access.remove(&access);
            }
            self.in_order.pop_front();
        }
    }
}
