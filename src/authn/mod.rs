//! Authentication: turns a credential of a request into proof of who signed in, or into an error.
//!
//! [`Authenticator::credential`] finds the token. [`Authenticator::cached`] returns the verdict
//! of an earlier check. [`Authenticator::verify`] checks the token: its signature, its claims, and
//! its session. A session cookie is checked the same way, except for the signature.
//!
//! An [`Authenticated`] proves who the caller is, not that the caller may call: each route decides
//! that for each request.

mod authenticated;
mod credential;
mod cross_site;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod internal_client;
mod subject_hash;
#[cfg(test)]
mod tests;
mod wechat_api;

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
pub use self::authenticated::{Authenticated, HeaderValues, ProfileValues};
pub(crate) use self::credential::is_token_byte;
pub use self::credential::{Credential, CredentialPlaces, Source, TokenSources};
pub use self::cross_site::{CrossSite, is_cross_site, is_cross_site_change};
pub use self::error::AuthnError;
pub use self::internal_client::{InternalClient, InternalClients};
pub use self::subject_hash::SubjectHasher;
pub use self::wechat_api::WeChatApiAccess;
use crate::clock::Timestamp;
use crate::config::{self, Findings};
use crate::entropy::{self, Entropy};
use crate::identity::{AppId, Subject};
use crate::session::{CheckedSession, SessionCookie, SessionError, Sessions};
use crate::single_flight::SingleFlight;
use crate::telemetry::metrics::Metrics;
use crate::token::{Tokens, VerifyError};

/// Longest time that an error may be cached.
const MAX_REFUSED_FOR: Duration = Duration::from_secs(3600);

/// Finds tokens and session cookies in requests and judges them.
pub struct Authenticator {
    sources: TokenSources,
    tokens: Arc<Tokens>,
    sessions: Arc<Sessions>,
    apps: BTreeMap<AppId, ConfiguredApp>,
    hashers: Hashers,
    subject_hasher: SubjectHasher,
    tells_profile: bool,
    verified: Cache<u128, Authenticated, BuildHasherDefault<Prehashed>>,
    refused: Cache<u128, AuthnError, BuildHasherDefault<Prehashed>>,
    /// Separate from `refused`: it costs nothing to make up a cookie, and a flood of them must not
    /// evict forged tokens, whose signature check is expensive.
    refused_cookies: Cache<u128, AuthnError, BuildHasherDefault<Prehashed>>,
    look_ups: SingleFlight<Result<CheckedSession, SessionError>>,
    counters: Counters,
}

/// What a token is checked with.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// Verifies signatures and claims.
    pub tokens: Arc<Tokens>,
    /// Looks sessions up.
    pub sessions: Arc<Sessions>,
    /// Whether backends receive nickname and avatar.
    pub tells_profile: bool,
}

/// Hash credentials to the keys of the caches. The hashes have secret keys, so that an attacker
/// cannot search for two tokens with the same hash. Tokens and cookies have different keys, so that
/// a token is never mistaken for a cookie of the same text.
struct Hashers {
    tokens: SipHasher24,
    cookies: SipHasher24,
}

impl Authenticator {
    /// Checks the token sources, and keeps the apps whose users can be authenticated.
    pub fn build(
        config: &config::Tokens,
        apps: &BTreeMap<String, config::App>,
        deps: Dependencies,
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
        let hashers = Hashers::draw(entropy, findings);

        let (sources, apps, hashers) = (sources?, apps?, hashers?);
        is_brief.then(|| Self {
            sources,
            tokens: deps.tokens,
            sessions: deps.sessions,
            apps,
            hashers,
            subject_hasher,
            tells_profile: deps.tells_profile,
            verified: verified_cache(cache.capacity),
            refused: refused_cache(cache.refused_capacity, *cache.refused_for),
            refused_cookies: refused_cache(cache.refused_capacity, *cache.refused_for),
            look_ups: SingleFlight::new(),
            counters: Counters::new(metrics),
        })
    }

    /// The places that a token is read from. It is removed from them before a request is forwarded.
    pub fn sources(&self) -> &TokenSources {
        &self.sources
    }

    /// Hashes subjects for logs.
    pub const fn subject_hasher(&self) -> &SubjectHasher {
        &self.subject_hasher
    }

    /// Finds the token or session cookie of a request; `None` if there is none.
    ///
    /// # Errors
    /// [`AuthnError::SeveralTokens`] if the request carries two, and [`VerifyError::Malformed`].
    /// [`AuthnError::CrossSite`] if only a cookie carries it and a page of another site made the
    /// request.
    pub fn credential<'a>(
        &self,
        request: &'a Parts,
        is_websocket: bool,
        cross_site: CrossSite,
    ) -> Result<Option<Credential<'a>>, AuthnError> {
        self.credential_on_route(request, is_websocket, false, cross_site)
    }

    /// As [`Authenticator::credential`], on a route that may read tokens in the query.
    ///
    /// # Errors
    /// As [`Authenticator::credential`].
    pub fn credential_on_route<'a>(
        &self,
        request: &'a Parts,
        is_websocket: bool,
        reads_query: bool,
        cross_site: CrossSite,
    ) -> Result<Option<Credential<'a>>, AuthnError> {
        let is_forged = |credential: &Credential<'_>| {
            cross_site != CrossSite::Allow
                && credential.is_in_cookies_alone()
                && is_cross_site(request, is_websocket, cross_site)
        };
        let found = match self.sources.find(request, is_websocket, reads_query) {
            Ok(Some(credential)) if is_forged(&credential) => Err(AuthnError::CrossSite),
            found => found,
        };
        found.inspect_err(|error| self.counters.count_error(*error))
    }

    /// Returns the verdict of an earlier check; `None` if [`Authenticator::verify`] must check the
    /// credential.
    ///
    /// # Errors
    /// [`AuthnError`] for an expired token, and for a limited time for forgeries and ended
    /// sessions.
    pub fn cached(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Option<Result<Authenticated, AuthnError>> {
        let verdict = self.find_cached(credential, self.hash(credential), now)?;
        self.counters.count(verdict.as_ref());
        Some(verdict)
    }

    /// Checks a credential: from memory, or with a lookup of its session.
    ///
    /// # Errors
    /// [`AuthnError`], by variant; the caller answers 503 to [`AuthnError::StoreUnavailable`] and
    /// 401 to any other.
    pub async fn verify(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, AuthnError> {
        let hash = self.hash(credential);
        let verdict = match self.find_cached(credential, hash, now) {
            Some(verdict) => verdict,
            None => self.check(credential, hash, now).await,
        };
        self.counters.count(verdict.as_ref());
        verdict
    }

    /// Checks an access token that a program of the business was given. It is no request of the
    /// token's owner: it is not counted as one.
    ///
    /// # Errors
    /// As [`Authenticator::verify`].
    pub async fn introspect(&self, token: &str, now: Timestamp) -> Result<Authenticated, AuthnError> {
        let hash = self.hashers.tokens.hash(token.as_bytes()).as_u128();
        self.authenticate_token(token, hash, now).await
    }

    /// The app and the hash of a person whose credential was refused because the person is blocked,
    /// for the logs. It admits no request.
    pub async fn blocked_person(&self, credential: &Credential<'_>) -> Option<(Arc<str>, String)> {
        let subject = if credential.is_session_cookie() {
            self.sessions.subject_of_cookie(&SessionCookie::parse(credential.token()).ok()?).await?
        } else {
            self.tokens.past_subject(credential.token()).ok()?
        };
        let app = self.app(&subject).ok()?;
        Some((Arc::clone(&app.name), self.subject_hasher.hash(&subject)))
    }

    /// Whether a credential in these places, which `before` found and accepted, would be found on a
    /// route that reads tokens in the query, or does not.
    pub fn finds_also(&self, before: &Self, places: CredentialPlaces, reads_query: bool) -> bool {
        self.sources.find_also(&before.sources, places, reads_query)
    }

    /// Checks whether a token that `before` accepted would be accepted, its times and its session
    /// aside. A session cookie would.
    ///
    /// # Errors
    /// [`AuthnError::Token`], as for the token.
    pub fn accept_also(&self, before: &Self, authenticated: &Authenticated) -> Result<(), AuthnError> {
        let Some(kid) = authenticated.kid() else { return Ok(()) };
        Ok(self.tokens.verify_also(&before.tokens, kid)?)
    }

    /// Updates the metric of cached tokens. Call it before the metric is read, because the cache
    /// counts with a delay.
    pub fn update_cache_metric(&self) {
        self.verified.run_pending_tasks();
        self.counters.entries.set(i64::try_from(self.verified.entry_count()).unwrap_or(i64::MAX));
    }

    fn hash(&self, credential: &Credential<'_>) -> u128 {
        let Hashers { tokens, cookies } = &self.hashers;
        let hasher = if credential.is_session_cookie() { cookies } else { tokens };
        hasher.hash(credential.token().as_bytes()).as_u128()
    }

    fn find_cached(
        &self,
        credential: &Credential<'_>,
        hash: u128,
        now: Timestamp,
    ) -> Option<Result<Authenticated, AuthnError>> {
        if let Some(authenticated) = self.verified.get(&hash) {
            let verdict = if authenticated.is_current(now) {
                Ok(authenticated)
            } else if now >= authenticated.expires_at() && !credential.is_session_cookie() {
                Err(AuthnError::Token(VerifyError::Expired))
            } else {
                return None;
            };
            self.counters.hits.inc();
            return Some(verdict);
        }
        let error = self.error_cache(credential).get(&hash)?;
        self.counters.misses.inc();
        Some(Err(error))
    }

    fn error_cache(
        &self,
        credential: &Credential<'_>,
    ) -> &Cache<u128, AuthnError, BuildHasherDefault<Prehashed>> {
        if credential.is_session_cookie() { &self.refused_cookies } else { &self.refused }
    }

    async fn check(
        &self,
        credential: &Credential<'_>,
        hash: u128,
        now: Timestamp,
    ) -> Result<Authenticated, AuthnError> {
        self.counters.misses.inc();
        let verdict = if credential.is_session_cookie() {
            self.authenticate_cookie(credential.token(), hash, now).await
        } else {
            self.authenticate_token(credential.token(), hash, now).await
        };
        match &verdict {
            Ok(authenticated) => {
                self.verified.insert(hash, authenticated.clone());
            }
            Err(error) if error.is_cacheable() => {
                self.verified.invalidate(&hash);
                self.error_cache(credential).insert(hash, *error);
            }
            Err(_) => {}
        }
        verdict
    }

    async fn authenticate_token(
        &self,
        token: &str,
        hash: u128,
        now: Timestamp,
    ) -> Result<Authenticated, AuthnError> {
        let claims = self.tokens.verify(token, now)?;
        let subject = &claims.identity().subject;
        // Before the lookup, which reads the store.
        self.app(subject)?;
        let checked = self.look_up(hash, || self.sessions.check(subject, claims.session(), now)).await?;
        self.authenticated(checked, Some(Arc::clone(claims.kid())), claims.expires_at())
    }

    /// A client cannot make up a valid cookie, but it can make up one that looks valid. Such a
    /// cookie costs a read of one row, of two if bindings exist, and less when it is shown again.
    async fn authenticate_cookie(
        &self,
        text: &str,
        hash: u128,
        now: Timestamp,
    ) -> Result<Authenticated, AuthnError> {
        let cookie = SessionCookie::parse(text).map_err(|_| AuthnError::Token(VerifyError::Malformed))?;
        let checked = self.look_up(hash, || self.sessions.check_cookie(&cookie, now)).await?;
        let expires_at = checked.expires_at;
        self.authenticated(checked, None, expires_at)
    }

    fn authenticated(
        &self,
        checked: CheckedSession,
        kid: Option<Arc<str>>,
        expires_at: Timestamp,
    ) -> Result<Authenticated, AuthnError> {
        let subject = &checked.identity.subject;
        let (app, subject_hash) = (self.app(subject)?, self.subject_hasher.hash(subject));
        Authenticated::new(checked, kid, expires_at, app, subject_hash, self.tells_profile)
            .map_err(|_| AuthnError::Token(VerifyError::InvalidClaims))
    }

    fn app(&self, subject: &Subject) -> Result<&ConfiguredApp, AuthnError> {
        self.apps.get(&subject.appid).ok_or(AuthnError::UnknownApp)
    }

    /// Looks a session up, once for all requests that show the same credential at the same time.
    async fn look_up<F: Future<Output = Result<CheckedSession, SessionError>>>(
        &self,
        hash: u128,
        read: impl Fn() -> F,
    ) -> Result<CheckedSession, SessionError> {
        match self.look_ups.join(hash, &read).await {
            // The lease ended during the lookup, and this request may have come after that: the row
            // may have changed.
            Ok(checked) if !checked.lease.is_current() => read().await,
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

/// Evicts the least recently used entries first. Expired tokens are no longer used, so they go
/// before valid ones. With a time to live every lookup would read the clock (461 ns instead of
/// 303), although the capacity bounds the memory already.
fn verified_cache(capacity: u64) -> Cache<u128, Authenticated, BuildHasherDefault<Prehashed>> {
    Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(BuildHasherDefault::default())
}

fn refused_cache(
    capacity: u64,
    time_to_live: Duration,
) -> Cache<u128, AuthnError, BuildHasherDefault<Prehashed>> {
    Cache::builder()
        .max_capacity(capacity)
        .time_to_live(time_to_live)
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(BuildHasherDefault::default())
}

/// The apps by their appid; `None` if two apps have the same one.
fn configured_apps(apps: &BTreeMap<String, config::App>) -> Option<BTreeMap<AppId, ConfiguredApp>> {
    let mut by_appid: BTreeMap<AppId, ConfiguredApp> = BTreeMap::new();
    for (name, app) in apps {
        // `wechat` reports an invalid or repeated appid; no token can name it.
        let Ok(appid) = AppId::parse(&app.appid) else { continue };
        if by_appid.insert(appid, ConfiguredApp::new(name, app.kind)).is_some() {
            return None;
        }
    }
    Some(by_appid)
}

impl Hashers {
    fn draw(entropy: &dyn Entropy, findings: &mut Findings) -> Option<Self> {
        let draw = || entropy::bytes::<16>(entropy).map(|key| SipHasher24::new_with_key(&key));
        let drawn = draw().and_then(|tokens| Ok(Self { tokens, cookies: draw()? }));
        drawn.map_err(|error| findings.error("", error.to_string())).ok()
    }
}

/// The metrics, resolved once.
struct Counters {
    valid: IntCounter,
    /// In the order of [`AuthnError::ALL`].
    refused: [IntCounter; AuthnError::ALL.len()],
    hits: IntCounter,
    misses: IntCounter,
    entries: IntGauge,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let outcome = |word| metrics.token_verifications.with_label_values(&[word]);
        Self {
            valid: outcome("valid"),
            refused: AuthnError::ALL.map(|error| outcome(error.reason())),
            hits: metrics.token_cache_hits.clone(),
            misses: metrics.token_cache_misses.clone(),
            entries: metrics.token_cache_entries.clone(),
        }
    }

    fn count(&self, verdict: Result<&Authenticated, &AuthnError>) {
        match verdict {
            Ok(_) => self.valid.inc(),
            Err(error) => self.count_error(*error),
        }
    }

    fn count_error(&self, error: AuthnError) {
        let counters = AuthnError::ALL.iter().zip(&self.refused);
        for (_, counter) in counters.filter(|(known, _)| **known == error) {
            counter.inc();
        }
    }
}

/// Returns the low half of a key that is a keyed hash already.
#[derive(Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    /// Not called for a `u128`, but correct.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}
