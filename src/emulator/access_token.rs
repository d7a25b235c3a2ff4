//! Servers' access tokens: `/cgi-bin/token` and `stable_token` each keep one current token for
//! every app, independently.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::entropy::Entropy;

use super::errcode::{self, WeChatRefusal};
use super::identifier;

/// How long a token lives.
pub(super) const LIFE: Duration = Duration::from_secs(7200);
/// How long a token replaced by `/cgi-bin/token` still works, and how early `stable_token` replaces
/// its own.
const OVERLAP: Duration = Duration::from_secs(300);
/// Shortest time between two forced refreshes of a stable token.
const FORCED_INTERVAL: Duration = Duration::from_secs(30);
const FORCED_PER_DAY: u32 = 20;
const DAY_SECONDS: u64 = 86_400;

/// Every token that still matters.
#[derive(Debug, Default)]
pub(super) struct AccessTokens {
    by_text: HashMap<String, AccessToken>,
    in_order: VecDeque<String>,
    by_app: HashMap<String, CurrentTokens>,
}

#[derive(Debug)]
struct AccessToken {
    appid: String,
    expires: Timestamp,
    void_from: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct CurrentTokens {
    classic: Option<String>,
    stable: Option<String>,
    last_forced: Option<Timestamp>,
    forced_day: u64,
    forced_today: u32,
}

impl AccessTokens {
    /// `/cgi-bin/token`: a new token every time; the one before works for five minutes more.
    pub(super) fn mint(
        &mut self,
        appid: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<String, WeChatRefusal> {
        let text = self.issue(appid, now, entropy)?;
        let previous = self.current(appid).classic.replace(text.clone());
        self.void(previous, now.plus(OVERLAP));
        Ok(text)
    }

    /// `stable_token`: the same token and what is left of its life, until five minutes before its
    /// end.
    pub(super) fn stable(
        &mut self,
        appid: &str,
        force_refresh: bool,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(String, Duration), WeChatRefusal> {
        let forced = force_refresh && self.may_force(appid, now)?;
        let kept = self.current(appid).stable.clone().filter(|_| !forced);
        if let Some(text) = kept {
            let left = self.by_text.get(&text).map_or(Duration::ZERO, |token| token.expires.since(now));
            if left > OVERLAP {
                return Ok((text, left));
            }
        }
        let text = self.issue(appid, now, entropy)?;
        let previous = self.current(appid).stable.replace(text.clone());
        if forced {
            self.void(previous, now);
        }
        Ok((text, LIFE))
    }

    /// The app of a token, if the token is valid.
    pub(super) fn app_of(&self, text: &str, now: Timestamp) -> Result<String, WeChatRefusal> {
        let token = self.by_text.get(text).ok_or_else(|| unknown(text))?;
        if token.void_from.is_some_and(|from| from <= now) {
            return Err(errcode::NOT_LATEST);
        }
        if token.expires <= now {
            return Err(errcode::ACCESS_TOKEN_EXPIRED);
        }
        Ok(token.appid.clone())
    }

    /// Revokes every token of an app at once, as if another server had requested one and the
    /// overlap had passed.
    pub(super) fn revoke(&mut self, appid: &str, now: Timestamp) {
        for token in self.by_text.values_mut().filter(|token| token.appid == appid) {
            token.void_from = Some(token.void_from.map_or(now, |from| from.min(now)));
        }
        let current = self.current(appid);
        current.classic = None;
        current.stable = None;
    }

    /// Every token that was issued and is remembered.
    pub(super) fn all(&self) -> Vec<String> {
        self.by_text.keys().cloned().collect()
    }

    /// Whether a forced refresh takes place now; one that comes too soon is answered with the
    /// current token.
    fn may_force(&mut self, appid: &str, now: Timestamp) -> Result<bool, WeChatRefusal> {
        let current = self.current(appid);
        if current.last_forced.is_some_and(|last| now.since(last) < FORCED_INTERVAL) {
            return Ok(false);
        }
        let today = now.seconds() / DAY_SECONDS;
        if current.forced_day != today {
            current.forced_day = today;
            current.forced_today = 0;
        }
        if current.forced_today >= FORCED_PER_DAY {
            return Err(errcode::DAILY_QUOTA);
        }
        current.forced_today += 1;
        current.last_forced = Some(now);
        Ok(true)
    }

    fn issue(&mut self, appid: &str, now: Timestamp, entropy: &dyn Entropy) -> Result<String, WeChatRefusal> {
        self.forget(now);
        let text = identifier::access_token(entropy).map_err(|_| errcode::SYSTEM_ERROR)?;
        let token = AccessToken { appid: appid.into(), expires: now.plus(LIFE), void_from: None };
        self.by_text.insert(text.clone(), token);
        self.in_order.push_back(text.clone());
        Ok(text)
    }

    fn void(&mut self, text: Option<String>, from: Timestamp) {
        if let Some(token) = text.and_then(|text| self.by_text.get_mut(&text)) {
            token.void_from = Some(from);
        }
    }

    /// Forgets tokens a day after their end; until then they answer "expired", not "unknown".
    fn forget(&mut self, now: Timestamp) {
        while let Some(text) = self.in_order.front() {
            let day = Duration::from_secs(DAY_SECONDS);
            if self.by_text.get(text).is_some_and(|token| now.since(token.expires) < day) {
                return;
            }
            self.by_text.remove(text);
            self.in_order.pop_front();
        }
    }

    fn current(&mut self, appid: &str) -> &mut CurrentTokens {
        self.by_app.entry(appid.into()).or_default()
    }
}

/// WeChat's answer to an unknown token.
pub(super) fn unknown(text: &str) -> WeChatRefusal {
    let well_formed = text.split_once('_').is_some_and(|(number, rest)| {
        matches!(number.len(), 2 | 3) && number.bytes().all(|b| b.is_ascii_digit()) && rest.len() >= 100
    });
    if well_formed { errcode::NOT_LATEST } else { errcode::INVALID_ACCESS_TOKEN }
}
