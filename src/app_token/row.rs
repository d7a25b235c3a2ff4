//! The row of an app's token in the store: data and codecs, and what may be asked by what it says.

use std::time::Duration;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Timestamp;
use crate::config::AppTokenApi;
use crate::digest::sha256;
use crate::identity::AppId;
use crate::store::{Key, Space};

/// How far back early replacements are counted.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the store has of an app's token.
#[derive(Clone, Default, Encode, Decode)]
pub(super) struct AppTokenRow {
    #[n(0)]
    pub(super) token: Option<StoredToken>,
    /// When the token was replaced before its time because WeChat refused it, in milliseconds,
    /// oldest first; of the last day.
    #[n(1)]
    replaced_early: Vec<u64>,
}

/// A token and its end.
#[derive(Clone, Encode, Decode)]
pub(super) struct StoredToken {
    #[n(0)]
    pub(super) text: TokenText,
    /// Milliseconds since the epoch.
    #[n(1)]
    expires_at: u64,
}

/// The text of a token, which nothing shows.
#[derive(Clone)]
pub(super) struct TokenText(pub(super) SecretString);

impl<C> Encode<C> for TokenText {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        encoder.str(self.0.expose_secret())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for TokenText {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        decoder.str().map(|text| Self(text.into()))
    }
}

impl StoredToken {
    pub(super) fn new(text: SecretString, expires_at: Timestamp) -> Self {
        Self { text: TokenText(text), expires_at: expires_at.millis() }
    }

    pub(super) const fn expires_at(&self) -> Timestamp {
        Timestamp::from_millis(self.expires_at)
    }
}

/// How often a token may be replaced before its time.
#[derive(Clone, Copy, Debug)]
struct ReplacementQuota {
    per_day: usize,
    apart: Duration,
}

impl ReplacementQuota {
    /// `stable_token` permits a forced refresh 20 times a day, 30 s apart. `token` permits 2000
    /// calls a day in all; most of them are left to the programs that share them.
    const fn of(api: AppTokenApi) -> Self {
        match api {
            AppTokenApi::StableToken => Self { per_day: 20, apart: Duration::from_secs(30) },
            AppTokenApi::Token => Self { per_day: 500, apart: Duration::from_secs(30) },
        }
    }
}

impl AppTokenRow {
    /// Counts a replacement before the token's time; `false` if the quota has none left.
    ///
    /// The day is the last 24 hours, which is at least as strict as WeChat's calendar day.
    pub(super) fn count_early_replacement(&mut self, api: AppTokenApi, now: Timestamp) -> bool {
        let ReplacementQuota { per_day, apart } = ReplacementQuota::of(api);
        self.replaced_early.retain(|at| now.since(Timestamp::from_millis(*at)) < DAY);
        let is_soon = |at: &u64| now.since(Timestamp::from_millis(*at)) < apart;
        if self.replaced_early.len() >= per_day || self.replaced_early.last().is_some_and(is_soon) {
            return false;
        }
        self.replaced_early.push(now.millis());
        true
    }

    /// How long the row must live: until the token and the counts have ended.
    pub(super) fn lasts(&self, now: Timestamp) -> Duration {
        let token = self.token.as_ref().map_or(Duration::ZERO, |token| token.expires_at().since(now));
        token.max(DAY)
    }
}

/// The key of the row. The two APIs have tokens that do not affect each other.
pub(super) fn token_key(appid: &AppId, api: AppTokenApi) -> Key {
    key(b"token", appid, api)
}

/// The key of the row that one gateway writes while it asks WeChat.
pub(super) fn lease_key(appid: &AppId, api: AppTokenApi) -> Key {
    key(b"lease", appid, api)
}

fn key(what: &[u8], appid: &AppId, api: AppTokenApi) -> Key {
    let api: &[u8] = match api {
        AppTokenApi::StableToken => b"stable_token",
        AppTokenApi::Token => b"token",
    };
    let hash = sha256(&[b"menshen app token v1 ", what, b" ", api, b" ", appid.as_str().as_bytes()]);
    Key { space: Space::AppToken, name: hash.first_chunk().copied().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_before_their_time_stay_within_the_quota() {
        let start = Timestamp::from_seconds(1_800_000_000);
        let at = |seconds| start.plus(Duration::from_secs(seconds));
        let mut row = AppTokenRow::default();
        let api = AppTokenApi::StableToken;

        assert!(row.count_early_replacement(api, at(0)));
        assert!(!row.count_early_replacement(api, at(29)), "30 s apart");
        for number in 1..20 {
            assert!(row.count_early_replacement(api, at(30 * number)), "{number}");
        }
        assert!(!row.count_early_replacement(api, at(600)), "20 a day");
        assert!(!row.count_early_replacement(api, at(24 * 3600 - 1)));
        assert!(row.count_early_replacement(api, at(24 * 3600)));
        assert!(!row.count_early_replacement(api, at(24 * 3600 + 29)), "the second of the day before");
    }

    #[test]
    fn each_app_and_api_has_rows_of_its_own() {
        let [one, other] = ["wx1", "wx2"].map(|appid| AppId::parse(appid).unwrap());
        let apis = [AppTokenApi::StableToken, AppTokenApi::Token];
        let mut keys = Vec::new();
        for api in apis {
            keys.extend([&one, &other].map(|appid| token_key(appid, api)));
            keys.extend([&one, &other].map(|appid| lease_key(appid, api)));
        }

        keys.sort();
        keys.dedup();

        assert_eq!(keys.len(), 8);
    }
}
