//! An app's access token at WeChat, with which the gateway calls WeChat's API. WeChat calls it
//! `access_token`; here it is the app's token, because an access token is a user's.
//!
//! Decides which token is used, when the next one is asked for, and which gateway asks. WeChat is
//! asked for a token only when one is needed. One request asks for all that need one: on this
//! gateway by a single flight, among gateways by a lease in the store. What the calls answer is
//! decided elsewhere; whoever calls reports a token that WeChat refused with [`AppTokens::renew`].

mod error;
mod fetch;
mod relay;
mod row;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec};
use secrecy::{ExposeSecret as _, SecretString};

pub use self::error::AppTokenError;
pub use self::relay::RelayError;
use self::row::{lease_key, token_key};
use crate::clock::{Clock, Timestamp};
use crate::digest::sha256;
use crate::entropy::{self, Entropy};
use crate::session::Core;
use crate::single_flight::SingleFlight;
use crate::store::Key;
use crate::telemetry::metrics::Metrics;
use crate::wechat::{App, WeChat, WeChatError};

/// A token is not used in the last moments of its life: it must reach WeChat before its end.
const MARGIN: Duration = Duration::from_secs(5);
/// When the next token is asked for, before the end of this one. Before that time `stable_token`
/// answers with the same token.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(300 - 5);
/// The longest random delay of it, so that gateways do not ask at the same time.
const JITTER: Duration = Duration::from_secs(60);
/// How long after an attempt the next one is made while the token is still valid.
const NEXT_ATTEMPT_AFTER: Duration = Duration::from_secs(10);
/// How long a failure is the answer to all who ask: one that may pass by itself, one that passes
/// with the minute, one that an operator must end.
const FAILED_FOR: Duration = Duration::from_secs(1);
const LIMITED_FOR: Duration = Duration::from_secs(10);
const MISCONFIGURED_FOR: Duration = Duration::from_secs(30);

/// The tokens of all apps.
pub struct AppTokens {
    wechat: Arc<WeChat>,
    core: Arc<Core>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    held: BTreeMap<Arc<str>, HeldToken>,
    flights: SingleFlight<Result<AppToken, AppTokenError>>,
    fetches: IntCounterVec,
    expiry: IntGaugeVec,
}

/// An app's access token. Only WeChat may see it.
#[derive(Clone)]
pub struct AppToken(Arc<TokenInUse>);

struct TokenInUse {
    text: SecretString,
    expires_at: Timestamp,
    /// When this gateway asks for the next one.
    renewed_at: Timestamp,
}

/// What this gateway knows of one app's token.
struct HeldToken {
    token_key: Key,
    lease_key: Key,
    token: ArcSwapOption<TokenInUse>,
    state: Mutex<HeldState>,
}

#[derive(Default)]
struct HeldState {
    /// Until when each caller gets this error, and WeChat is not asked.
    failure: Option<(Timestamp, AppTokenError)>,
    /// A token that WeChat refuses, and until when it is not asked for another one.
    still_refused: Option<(Timestamp, AppToken)>,
    /// Before this time no attempt is made while the token is valid.
    next_attempt: Timestamp,
}

/// Which token a caller asks for.
#[derive(Clone)]
enum WantedToken {
    /// One that is valid.
    Any,
    /// The one after this one, whose end is near.
    After(AppToken),
    /// Another one than this one, which WeChat refused.
    InPlaceOf(AppToken),
}

impl AppToken {
    /// The token itself, never to be logged or answered. A query takes it as it is.
    pub fn expose(&self) -> &str {
        self.0.text.expose_secret()
    }

    /// Whether both are the same token.
    pub fn is_same(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }

    /// Whether this token was made later. A token that is made later ends later.
    fn is_newer_than(&self, other: &Self) -> bool {
        !self.is_same(other) && self.0.expires_at > other.0.expires_at
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        now.plus(MARGIN) < self.0.expires_at
    }
}

impl fmt::Debug for AppToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppToken([redacted])")
    }
}

impl AppTokens {
    /// Keeps the tokens of the apps that have one. Asks for none.
    pub fn new(
        wechat: Arc<WeChat>,
        core: Arc<Core>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let held = wechat.apps().filter(|app| app.has_token()).map(|app| {
            let held = HeldToken {
                token_key: token_key(&app.appid, app.token_api()),
                lease_key: lease_key(&app.appid, app.token_api()),
                token: ArcSwapOption::empty(),
                state: Mutex::default(),
            };
            (Arc::clone(&app.name), held)
        });
        Arc::new(Self {
            held: held.collect(),
            wechat,
            core,
            clock,
            entropy,
            flights: SingleFlight::new(),
            fetches: metrics.wechat_app_token_fetches.clone(),
            expiry: metrics.wechat_app_token_expiry.clone(),
        })
    }

    /// A token of the app with this name that is valid now. In the last five minutes of its life
    /// the next one is asked for meanwhile; WeChat accepts both for a while.
    ///
    /// # Errors
    /// [`AppTokenError`], by variant.
    pub async fn token(self: &Arc<Self>, app: &str) -> Result<AppToken, AppTokenError> {
        let (app, held) = self.app(app)?;
        let now = self.clock.now();
        if let Some(token) = held.valid(now) {
            if token.0.renewed_at <= now && held.begins_attempt(now) {
                let (tokens, name) = (Arc::clone(self), Arc::clone(&app.name));
                let wanted = WantedToken::After(token.clone());
                // It fails into the log: the token is still valid.
                tokio::spawn(async move { tokens.ask(&name, wanted).await });
            }
            return Ok(token);
        }
        self.ask(&Arc::clone(&app.name), WantedToken::Any).await
    }

    /// Another token than the one that WeChat refused with 40001, 40014 or 42001.
    ///
    /// # Errors
    /// [`AppTokenError`], by variant.
    pub async fn renew(self: &Arc<Self>, app: &str, refused: &AppToken) -> Result<AppToken, AppTokenError> {
        let (app, held) = self.app(app)?;
        let newer = held.valid(self.clock.now()).filter(|token| token.is_newer_than(refused));
        if let Some(token) = newer {
            return Ok(token);
        }
        self.ask(&Arc::clone(&app.name), WantedToken::InPlaceOf(refused.clone())).await
    }

    fn app(&self, name: &str) -> Result<(&App, &HeldToken), AppTokenError> {
        self.wechat.app(name).zip(self.held.get(name)).ok_or(AppTokenError::NoSuchToken)
    }

    /// Looks for a token in the store or asks WeChat, once for all that want the same. It goes on
    /// if the caller hangs up: others wait for it, and it holds the lease.
    async fn ask(self: &Arc<Self>, name: &Arc<str>, wanted: WantedToken) -> Result<AppToken, AppTokenError> {
        let (_, held) = self.app(name)?;
        if let Some(failure) = held.failure(&wanted, self.clock.now()) {
            return Err(failure);
        }
        self.flights
            .join(flight_key(name, &wanted), || async {
                let (tokens, name) = (Arc::clone(self), Arc::clone(name));
                let asked = tokio::spawn(async move { tokens.obtain(&name, &wanted).await });
                asked.await.unwrap_or(Err(AppTokenError::Internal("the task that asks for a token ended")))
            })
            .await
    }

    /// Looks for a token or asks WeChat, and remembers what came of it.
    async fn obtain(&self, name: &str, wanted: &WantedToken) -> Result<AppToken, AppTokenError> {
        let (app, held) = self.app(name)?;
        let result = self.look_or_fetch(app, held, wanted).await;
        match &result {
            Ok(token) => {
                held.use_token(token, wanted);
                held.state.lock().failure = None;
                let expiry = i64::try_from(token.0.expires_at.seconds()).unwrap_or(i64::MAX);
                self.expiry.with_label_values(&[name]).set(expiry);
            }
            Err(error) => {
                if !matches!(error, AppTokenError::WeChat(_)) {
                    tracing::warn!(app.name = name, "app {name} has no access token: {error}");
                }
                // A token that is valid stays in use, so only those who need one get the error.
                held.remember_failure(error, wanted, self.clock.now().plus(failed_for(error)));
            }
        }
        result
    }

    /// The token that the row or WeChat gave, with the time at which this gateway asks for the
    /// next.
    fn in_use(&self, text: SecretString, expires_at: Timestamp) -> AppToken {
        // Without randomness there is no delay; it need not be secret.
        let share = entropy::bytes::<1>(&*self.entropy).map_or(0, |[byte]| byte);
        let delay = JITTER * u32::from(share) / u32::from(u8::MAX);
        let before_end = RENEWED_BEFORE_END.saturating_sub(delay);
        let before_end = u64::try_from(before_end.as_millis()).unwrap_or_default();
        let renewed_at = Timestamp::from_millis(expires_at.millis().saturating_sub(before_end));
        AppToken(Arc::new(TokenInUse { text, expires_at, renewed_at }))
    }
}

impl HeldToken {
    /// The token in use, if it is valid.
    fn valid(&self, now: Timestamp) -> Option<AppToken> {
        self.token.load_full().map(AppToken).filter(|token| token.is_valid(now))
    }

    /// Uses a token from now on, unless a newer one came meanwhile that WeChat has not refused.
    fn use_token(&self, token: &AppToken, wanted: &WantedToken) {
        self.token.rcu(|known| {
            let known = known.as_ref().map(|known| AppToken(Arc::clone(known)));
            let is_refused = |known: &AppToken| {
                matches!(wanted, WantedToken::InPlaceOf(refused) if refused.is_same(known))
            };
            let kept = known.filter(|known| known.is_newer_than(token) && !is_refused(known));
            Some(kept.map_or_else(|| Arc::clone(&token.0), |kept| kept.0))
        });
    }

    fn remember_failure(&self, error: &AppTokenError, wanted: &WantedToken, until: Timestamp) {
        let mut state = self.state.lock();
        match (error, wanted) {
            (AppTokenError::StillRefused, WantedToken::InPlaceOf(token)) => {
                state.still_refused = Some((until, token.clone()));
            }
            _ => state.failure = Some((until, error.clone())),
        }
    }

    /// The error of an attempt that failed a short while ago.
    fn failure(&self, wanted: &WantedToken, now: Timestamp) -> Option<AppTokenError> {
        let state = self.state.lock();
        if let (WantedToken::InPlaceOf(token), Some((until, refused))) = (wanted, &state.still_refused)
            && now < *until
            && token.is_same(refused)
        {
            return Some(AppTokenError::StillRefused);
        }
        state.failure.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error.clone())
    }

    /// Whether an attempt may begin while the token is valid; if so, the next one waits.
    fn begins_attempt(&self, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        let may_begin = state.next_attempt <= now;
        if may_begin {
            state.next_attempt = now.plus(NEXT_ATTEMPT_AFTER);
        }
        may_begin
    }
}

fn failed_for(error: &AppTokenError) -> Duration {
    match error {
        AppTokenError::WeChat(WeChatError::RateLimited) => LIMITED_FOR,
        AppTokenError::WeChat(
            WeChatError::AppMisconfigured { .. }
            | WeChatError::AddressRefused { .. }
            | WeChatError::QuotaExhausted
            | WeChatError::RequestRejected { .. },
        )
        | AppTokenError::StillRefused => MISCONFIGURED_FOR,
        _ => FAILED_FOR,
    }
}

/// The name of a question: who wants another token than a certain one must not get that one, so
/// this is another question than that for any token.
fn flight_key(name: &str, wanted: &WantedToken) -> u128 {
    let (what, token) = match wanted {
        WantedToken::Any => ("any", None),
        WantedToken::After(token) => ("after", Some(token)),
        WantedToken::InPlaceOf(token) => ("in place of", Some(token)),
    };
    let token = token.map_or("", AppToken::expose);
    let hash = sha256(&[what.as_bytes(), b" ", name.as_bytes(), b" ", token.as_bytes()]);
    u128::from_be_bytes(hash.first_chunk().copied().unwrap_or_default())
}

impl fmt::Debug for AppTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppTokens").field("apps", &self.held.keys()).finish_non_exhaustive()
    }
}
