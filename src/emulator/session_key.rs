//! Session keys: at any time one for each person in each app.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::entropy::{Entropy, NoEntropy};

use super::config::{self, Rotate};
use super::identifier;

/// The current key of every person who has logged in, by openid.
#[derive(Debug)]
pub(super) struct SessionKeys {
    settings: config::SessionKeys,
    by_openid: HashMap<String, EmulatedSessionKey>,
}

#[derive(Debug)]
struct EmulatedSessionKey {
    appid: String,
    text: String,
    issued: Timestamp,
}

impl SessionKeys {
    pub(super) fn new(settings: config::SessionKeys) -> Self {
        Self { settings, by_openid: HashMap::new() }
    }

    /// Records a login: the person's key is created, kept or replaced, as the rotation says.
    pub(super) fn log_in(
        &mut self,
        appid: &str,
        openid: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), NoEntropy> {
        let replaced = match self.live(openid, now) {
            None => true,
            Some(key) => match self.settings.rotate {
                Rotate::Always => true,
                Rotate::Never => false,
                Rotate::MinInterval(interval) => now.since(key.issued) >= *interval,
            },
        };
        if replaced {
            let key = identifier::session_key(entropy)?;
            let key = EmulatedSessionKey { appid: appid.into(), text: key, issued: now };
            self.by_openid.insert(openid.into(), key);
        }
        Ok(())
    }

    /// The current key.
    pub(super) fn current(&self, openid: &str, now: Timestamp) -> Option<&str> {
        self.live(openid, now).map(|key| key.text.as_str())
    }

    /// The last key of every person.
    pub(super) fn all(&self) -> Vec<String> {
        self.by_openid.values().map(|key| key.text.clone()).collect()
    }

    /// The current key, or a new one if the last one expired between the login and the exchange.
    pub(super) fn current_or_new(
        &mut self,
        appid: &str,
        openid: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<String, NoEntropy> {
        if self.current(openid, now).is_none() {
            self.log_in(appid, openid, now, entropy)?;
        }
        self.current(openid, now).map(str::to_owned).ok_or(NoEntropy)
    }

    /// Whether this openid belongs to the app and to a person who has logged in.
    pub(super) fn has_seen(&self, appid: &str, openid: &str) -> bool {
        self.by_openid.get(openid).is_some_and(|key| key.appid == appid)
    }

    fn live(&self, openid: &str, now: Timestamp) -> Option<&EmulatedSessionKey> {
        self.by_openid.get(openid).filter(|key| now.since(key.issued) < *self.settings.lifetime)
    }
}
