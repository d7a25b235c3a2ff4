//! Quotas: how many calls an app or a user has left in this minute or on this day.

use std::collections::HashMap;

use crate::clock::Timestamp;

use super::config;
use super::errcode::{self, WeChatRefusal};

/// Counters of the current minute and the current day; older ones are removed.
#[derive(Debug)]
pub(super) struct Quotas {
    limits: config::Quotas,
    minute: Window<(String, Option<String>)>,
    day: Window<String>,
}

#[derive(Debug)]
struct Window<K> {
    seconds: u64,
    number: u64,
    counts: HashMap<K, u32>,
}

impl Quotas {
    pub(super) fn new(limits: config::Quotas) -> Self {
        Self { limits, minute: Window::of(60), day: Window::of(86_400) }
    }

    /// Counts a code exchange of an app, and of a user if the code is known.
    pub(super) fn exchange(
        &mut self,
        appid: &str,
        wxid: Option<&str>,
        now: Timestamp,
    ) -> Result<(), WeChatRefusal> {
        let app = self.limits.app_per_minute.map(|limit| (limit, None));
        let user = self.limits.user_per_minute.zip(wxid).map(|(limit, wxid)| (limit, Some(wxid.to_owned())));
        for (limit, wxid) in app.into_iter().chain(user) {
            if self.minute.count((appid.into(), wxid), now) > limit {
                return Err(errcode::MINUTE_QUOTA);
            }
        }
        Ok(())
    }

    /// Counts a call of `/cgi-bin/token`.
    pub(super) fn token(&mut self, appid: &str, now: Timestamp) -> Result<(), WeChatRefusal> {
        let count = self.day.count(appid.into(), now);
        if count > self.limits.tokens_per_day { Err(errcode::DAILY_QUOTA) } else { Ok(()) }
    }
}

impl<K: Eq + std::hash::Hash> Window<K> {
    fn of(seconds: u64) -> Self {
        Self { seconds, number: 0, counts: HashMap::new() }
    }

    fn count(&mut self, key: K, now: Timestamp) -> u32 {
        let number = now.seconds() / self.seconds;
        if number != self.number {
            self.number = number;
            self.counts.clear();
        }
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        *count
    }
}
