//! Looks for an app's token in the store, or asks WeChat for it under a lease.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tracing::{info, warn};

use super::row::{AppTokenRow, StoredToken};
use super::{AppToken, AppTokenError, AppTokens, HeldToken, WantedToken};
use crate::clock::Timestamp;
use crate::config::AppTokenApi;
use crate::entropy;
use crate::store::{StoreError, Write};
use crate::wechat::{App, IssuedAppToken};

/// How often the store is looked at while another gateway asks WeChat.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How much longer the lease is than one call to WeChat: the time to read and write the row.
const LEASE_SPARE: Duration = Duration::from_secs(2);
/// How many leases of other gateways are waited for.
const LEASES_WAITED: u32 = 3;

/// A row as it was read.
struct ReadRow {
    row: AppTokenRow,
    /// As it is in the store; `None` if there is none.
    bytes: Option<Bytes>,
}

/// The right to ask WeChat for this app, until it ends by the store's clock.
struct FetchLease(Bytes);

impl AppTokens {
    /// Looks for the wanted token in the store until it is there, or this gateway may ask WeChat.
    pub(super) async fn look_or_fetch(
        &self,
        app: &App,
        held: &HeldToken,
        wanted: &WantedToken,
    ) -> Result<AppToken, AppTokenError> {
        let looks = self.lease_time().as_millis() / LOOK_INTERVAL.as_millis() * u128::from(LEASES_WAITED);
        for _ in 0..looks.max(1) {
            if let Some(token) = self.acceptable(&self.read(held).await?.row, wanted) {
                return Ok(token);
            }
            if let Some(lease) = self.take_lease(held).await? {
                let fetched = self.fetch(app, held, wanted, &lease).await;
                // If this fails, the lease ends by itself.
                let _ = self.core.store().compare_and_delete(&held.lease_key, &lease.0).await;
                return fetched;
            }
            sleep(LOOK_INTERVAL).await;
        }
        Err(AppTokenError::Busy)
    }

    /// Asks WeChat, with the lease.
    async fn fetch(
        &self,
        app: &App,
        held: &HeldToken,
        wanted: &WantedToken,
        lease: &FetchLease,
    ) -> Result<AppToken, AppTokenError> {
        // Another gateway may have written one between the look and the lease.
        let mut read = self.read(held).await?;
        if let Some(token) = self.acceptable(&read.row, wanted) {
            return Ok(token);
        }
        let refused = if let WantedToken::InPlaceOf(token) = wanted { Some(token) } else { None };
        if refused.is_some() && app.token_api() == AppTokenApi::Token {
            // Each call makes a new token: nothing is asked first.
            self.count_early_replacement(app, held, &mut read).await?;
        }
        let mut asked_at = self.clock.now();
        self.count_fetch(app, wanted.reason());
        let mut issued = self.wechat.issue_app_token(app, false).await?;
        if refused.is_some_and(|refused| is_same(refused, &issued)) {
            self.count_early_replacement(app, held, &mut read).await?;
            self.prolong(held, lease).await;
            asked_at = self.clock.now();
            self.count_fetch(app, "forced");
            issued = self.wechat.issue_app_token(app, true).await?;
            if refused.is_some_and(|refused| is_same(refused, &issued)) {
                return Err(AppTokenError::StillRefused);
            }
        }
        Ok(self.keep(app, held, read, issued, asked_at).await)
    }

    /// Writes a token to the store, and returns the token to use. If the store fails, or another
    /// gateway was faster, this one uses its own: WeChat gave both.
    async fn keep(
        &self,
        app: &App,
        held: &HeldToken,
        mut read: ReadRow,
        issued: IssuedAppToken,
        asked_at: Timestamp,
    ) -> AppToken {
        let IssuedAppToken { token, lifetime } = issued;
        let expires_at = asked_at.plus(lifetime);
        read.row.token = Some(StoredToken::new(token.clone(), expires_at));
        let name = &*app.name;
        match self.write(held, &read).await {
            Ok(Some(_)) => {
                info!(app.name = name, "wechat gave an access token to app {name}, valid until {expires_at}");
            }
            Ok(None) => info!(app.name = name, "another gateway stored an access token of app {name} too"),
            Err(error) => warn!(app.name = name, "the access token of app {name} is not stored: {error}"),
        }
        self.in_use(token, expires_at)
    }

    /// Takes a replacement before the token's time from the quota, before the call: it counts even
    /// if the answer is lost.
    async fn count_early_replacement(
        &self,
        app: &App,
        held: &HeldToken,
        read: &mut ReadRow,
    ) -> Result<(), AppTokenError> {
        if !read.row.count_early_replacement(app.token_api(), self.clock.now()) {
            return Err(AppTokenError::StillRefused);
        }
        let written = self.write(held, read).await?;
        // The lease has ended meanwhile, and another gateway has it.
        read.bytes = Some(written.ok_or(AppTokenError::Busy)?);
        Ok(())
    }

    /// The token of the row, if it is one that is wanted.
    fn acceptable(&self, row: &AppTokenRow, wanted: &WantedToken) -> Option<AppToken> {
        let stored = row.token.as_ref()?;
        let token = self.in_use(stored.text.0.clone(), stored.expires_at());
        let is_wanted = match wanted {
            WantedToken::Any => true,
            WantedToken::After(other) | WantedToken::InPlaceOf(other) => !token.is_same(other),
        };
        (is_wanted && token.is_valid(self.clock.now())).then_some(token)
    }

    async fn read(&self, held: &HeldToken) -> Result<ReadRow, AppTokenError> {
        let key = &held.token_key;
        let Some(bytes) = self.core.store().get(key).await? else {
            return Ok(ReadRow { row: AppTokenRow::default(), bytes: None });
        };
        match self.core.open_row(key, &bytes).await {
            Ok(row) => Ok(ReadRow { row, bytes: Some(bytes) }),
            // It is written again: WeChat gives another token.
            Err(StoreError::Damaged(why)) => {
                warn!("the row of an access token cannot be read, and is replaced: {why}");
                Ok(ReadRow { row: AppTokenRow::default(), bytes: Some(bytes) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the row if it is still what was read. Returns what was written.
    async fn write(&self, held: &HeldToken, read: &ReadRow) -> Result<Option<Bytes>, StoreError> {
        let key = &held.token_key;
        let value = self.core.seal_row(key, &read.row).await?;
        let write = Write {
            key: key.clone(),
            expected: read.bytes.clone(),
            value: value.clone(),
            ttl: read.row.lasts(self.clock.now()),
        };
        Ok(self.core.store().write(write).await?.then_some(value))
    }

    async fn take_lease(&self, held: &HeldToken) -> Result<Option<FetchLease>, AppTokenError> {
        let holder = entropy::bytes::<16>(&*self.entropy)
            .map_err(|_| AppTokenError::Internal("the operating system gave no random bytes"))?;
        let value = Bytes::copy_from_slice(&holder);
        let store = self.core.store();
        let is_taken = store.put_if_absent(&held.lease_key, value.clone(), self.lease_time()).await?;
        Ok(is_taken.then_some(FetchLease(value)))
    }

    /// Begins the time of the lease again. If it has ended, the row says who was faster.
    async fn prolong(&self, held: &HeldToken, FetchLease(value): &FetchLease) {
        let store = self.core.store();
        let _ = store.compare_and_set(&held.lease_key, value, value.clone(), self.lease_time()).await;
    }

    /// The longest time of one call to WeChat, and some to spare.
    fn lease_time(&self) -> Duration {
        self.wechat.timeout() + LEASE_SPARE
    }

    fn count_fetch(&self, app: &App, reason: &'static str) {
        self.fetches.with_label_values(&[&*app.name, reason]).inc();
    }
}

impl WantedToken {
    /// The word in metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Any => "missing",
            Self::After(_) => "ending",
            Self::InPlaceOf(_) => "refused",
        }
    }
}

fn is_same(token: &AppToken, issued: &IssuedAppToken) -> bool {
    use secrecy::ExposeSecret as _;

    token.expose() == issued.token.expose_secret()
}
