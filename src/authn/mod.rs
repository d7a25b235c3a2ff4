//! Who is calling: a credential in a request becomes proof of who signed in, or a refusal.
//!
//! [`Authenticator::credential`] finds the token, [`Authenticator::remembered`] knows it where it was judged before, and
//! [`Authenticator::verify`] judges it: its signature, what it says, and whether its session goes on. Which apps a route admits is the route's to say, for each request anew: an [`Authenticated`] says who calls,
//! never that they may.

mod authenticated;
mod credential;
mod cross_site;
mod flight;
mod refusal;
mod subject_hash;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use prometheus::{IntCounter, IntGauge};
use siphasher::sip128::SipHasher24;

use self::authenticated::ConfiguredApp;
pub use self::authenticated::{Authenticated, HeaderValues};
pub use self::credential::{
    Credential, OWN_COOKIES, SESSION_COOKIE, Source, TokenSources, cookie_without, query_without,
};
pub use self::cross_site::CrossSite;
use self::flight::Flights;
pub use self::refusal::Refusal;
pub use self::subject_hash::SubjectHasher;
use crate::clock::Timestamp;
use crate::config::{self, Findings};
use crate::entropy::{self, Entropy};
use crate::identity::AppId;
use crate::session::{Checked, SessionError, Sessions};
use crate::telemetry::metrics::Metrics;
use crate::token::{Claims, Tokens, VerifyError};

/// Longest a refusal may be remembered.
const MAX_REFUSED_FOR: Duration = Duration::from_secs(3600);

/// Finds tokens in requests and judges them.
pub struct Authenticator {
    sources: TokenSources,
    tokens: Arc<Tokens>,
    sessions: Arc<Sessions>,
    apps: BTreeMap<AppId, ConfiguredApp>,
    /// Keyed, so that nobody can search for two tokens that share an entry.
    token_hasher: SipHasher24,
    subject_hasher: SubjectHasher,
    verified: Cache<u128, Authenticated, BuildHasherDefault<Prehashed>>,
    refused: Cache<u128, Refusal, BuildHasherDefault<Prehashed>>,
    look_ups: Flights<Result<Checked, SessionError>>,
    counters: Counters,
}

/// What a token is judged by.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// Verifies signatures and claims.
    pub tokens: Arc<Tokens>,
    /// Knows which sessions go on.
    pub sessions: Arc<Sessions>,
}

impl Authenticator {
    /// Checks the sources and takes the apps whose users may be authenticated.
    pub fn build(
        config: &config::Tokens,
        apps: &BTreeMap<String, config::App>,
        parts: Dependencies,
        metrics: &Metrics,
        subject_hasher: SubjectHasher,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        let sources = TokenSources::build(&config.sources, findings);
        let apps = configured_apps(apps);
        let cache = &config.cache;
        let is_brief = *cache.refused_for <= MAX_REFUSED_FOR;
        if !is_brief {
            findings
                .error("tokens.cache.refused_for", format!("`{}` is too long", cache.refused_for))
                .hint("write `1h` or less");
        }
        let token_hasher = token_hasher(entropy, findings);

        let (sources, apps) = (sources?, apps?);
        let token_hasher = token_hasher?;
        is_brief.then(|| Self {
            sources,
            tokens: parts.tokens,
            sessions: parts.sessions,
            apps,
            token_hasher,
            subject_hasher,
            verified: verified_cache(cache.capacity),
            refused: refused_cache(cache.refused_capacity, *cache.refused_for),
            look_ups: Flights::new(),
            counters: Counters::new(metrics),
        })
    }

    /// The places a token is read from, for removing it before a request is forwarded.
    pub fn sources(&self) -> &TokenSources {
        &self.sources
    }

    /// How a person is named in logs.
    pub const fn subject_hasher(&self) -> &SubjectHasher {
        &self.subject_hasher
    }

    /// Finds the token of a request; `None` where it carries none.
    ///
    /// # Errors
    /// [`Refusal::SeveralTokens`] and [`VerifyError::Malformed`]: a request that carries two is not asked which it meant.
    pub fn credential<'a>(
        &self,
        request: &'a Parts,
        is_websocket: bool,
    ) -> Result<Option<Credential<'a>>, Refusal> {
        self.sources.find(request, is_websocket).inspect_err(|refusal| self.counters.refused(*refusal))
    }

    /// What is known of a token without asking anybody; `None` where it must be judged with [`Authenticator::verify`].
    ///
    /// # Errors
    /// [`Refusal`]: of one that expired, and of forgeries and ended sessions for a while.
    pub fn remembered(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Option<Result<Authenticated, Refusal>> {
        let verdict = self.recall(self.hash(credential), now)?;
        self.counters.judged(verdict.as_ref());
        Some(verdict)
    }

    /// Judges a token: from memory, or with a look at its session.
    ///
    /// # Errors
    /// [`Refusal`], by variant; the caller answers 503 to [`Refusal::StoreUnavailable`] and 401 to any other.
    pub async fn verify(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, Refusal> {
        let hash = self.hash(credential);
        let verdict = match self.recall(hash, now) {
            Some(verdict) => verdict,
            None => self.judge(credential.token(), hash, now).await,
        };
        self.counters.judged(verdict.as_ref());
        verdict
    }

    /// Sets the metric of how many tokens are remembered: for whoever is about to read it, since the cache itself
    /// counts late.
    pub fn count_remembered(&self) {
        self.verified.run_pending_tasks();
        self.counters.entries.set(i64::try_from(self.verified.entry_count()).unwrap_or(i64::MAX));
    }

    fn hash(&self, credential: &Credential<'_>) -> u128 {
        self.token_hasher.hash(credential.token().as_bytes()).as_u128()
    }

    fn recall(&self, hash: u128, now: Timestamp) -> Option<Result<Authenticated, Refusal>> {
        if let Some(authenticated) = self.verified.get(&hash) {
            let verdict = if now >= authenticated.expires_at() {
                Err(Refusal::Token(VerifyError::Expired))
            } else if authenticated.is_believed(now) {
                Ok(authenticated)
            } else {
                return None;
            };
            self.counters.hits.inc();
            return Some(verdict);
        }
        let refusal = self.refused.get(&hash)?;
        self.counters.misses.inc();
        Some(Err(refusal))
    }

    async fn judge(&self, token: &str, hash: u128, now: Timestamp) -> Result<Authenticated, Refusal> {
        self.counters.misses.inc();
        let verdict = self.authenticate(token, hash, now).await;
        match &verdict {
            Ok(authenticated) => {
                self.verified.insert(hash, authenticated.clone());
            }
            Err(refusal) if refusal.is_worth_remembering() => {
                self.verified.invalidate(&hash);
                self.refused.insert(hash, *refusal);
            }
            Err(_) => {}
        }
        verdict
    }

    async fn authenticate(&self, token: &str, hash: u128, now: Timestamp) -> Result<Authenticated, Refusal> {
        let claims = self.tokens.verify(token, now)?;
        let subject = &claims.identity().subject;
        let app = self.apps.get(&subject.appid).ok_or(Refusal::UnknownApp)?;
        let checked = self.look_up(&claims, hash, now).await?;
        Authenticated::new(&claims, checked, app, self.subject_hasher.hash(subject))
            .map_err(|_| Refusal::Token(VerifyError::InvalidClaims))
    }

    /// Looks the token's session up, once for all who show the token at the same time.
    async fn look_up(&self, claims: &Claims, hash: u128, now: Timestamp) -> Result<Checked, SessionError> {
        let look = || self.sessions.check(&claims.identity().subject, claims.session(), now);
        match self.look_ups.join(hash, look).await {
            // The look began before something ended, and this request perhaps after it: the row may say otherwise now.
            Ok(checked) if !checked.lease.is_current() => look().await,
            answer => answer,
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("sources", &self.sources)
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}

/// The least recently used go first. Expired tokens are not used any more, so they go before any that are; a time to live
/// would have every look-up read the clock (PERF: 461 ns against 303) for entries that memory bounds anyway.
fn verified_cache(capacity: u64) -> Cache<u128, Authenticated, BuildHasherDefault<Prehashed>> {
    Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(BuildHasherDefault::default())
}

fn refused_cache(
    capacity: u64,
    time_to_live: Duration,
) -> Cache<u128, Refusal, BuildHasherDefault<Prehashed>> {
    Cache::builder()
        .max_capacity(capacity)
        .time_to_live(time_to_live)
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(BuildHasherDefault::default())
}

/// The apps by the id that tokens name; `None` where two share one.
fn configured_apps(apps: &BTreeMap<String, config::App>) -> Option<BTreeMap<AppId, ConfiguredApp>> {
    let mut by_appid: BTreeMap<AppId, ConfiguredApp> = BTreeMap::new();
    for (name, app) in apps {
        // What is no appid, or is another's, is reported where WeChat is called; no token can be of it.
        let Ok(appid) = AppId::parse(&app.appid) else { continue };
        if by_appid.insert(appid, ConfiguredApp::new(name, app.kind)).is_some() {
            return None;
        }
    }
    Some(by_appid)
}

fn token_hasher(entropy: &dyn Entropy, findings: &mut Findings) -> Option<SipHasher24> {
    match entropy::bytes::<16>(entropy) {
        Ok(key) => Some(SipHasher24::new_with_key(&key)),
        Err(error) => {
            findings.error("", error.to_string());
            None
        }
    }
}

/// The metrics, resolved once.
struct Counters {
    valid: IntCounter,
    /// In the order of [`Refusal::ALL`].
    refused: [IntCounter; Refusal::ALL.len()],
    hits: IntCounter,
    misses: IntCounter,
    entries: IntGauge,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let outcome = |word| metrics.token_verifications.with_label_values(&[word]);
        Self {
            valid: outcome("valid"),
            refused: Refusal::ALL.map(|refusal| outcome(refusal.reason())),
            hits: metrics.token_cache_hits.clone(),
            misses: metrics.token_cache_misses.clone(),
            entries: metrics.token_cache_entries.clone(),
        }
    }

    fn judged(&self, verdict: Result<&Authenticated, &Refusal>) {
        match verdict {
            Ok(_) => self.valid.inc(),
            Err(refusal) => self.refused(*refusal),
        }
    }

    fn refused(&self, refusal: Refusal) {
        let counters = Refusal::ALL.iter().zip(&self.refused);
        for (_, counter) in counters.filter(|(known, _)| **known == refusal) {
            counter.inc();
        }
    }
}

/// Takes the low half of a key that is a keyed hash already.
#[derive(Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    /// Not called for a `u128`; right all the same.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}
