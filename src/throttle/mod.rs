//! Limits on logins, requests and errors, in memory of fixed size.
//!
//! Decides whether a client may try a login, whether the gateway may call WeChat, and how long a
//! refused client must wait. One client has limits on logins, refreshes and started sign-ins (GCRA:
//! a burst and then a steady rate). Sign-ins that a page of another site may have started are
//! counted separately. A client also has a limit on failed logins (a lock-out that doubles). All
//! clients together have limits on started sign-ins and on exchanges with WeChat (GCRA, below
//! WeChat's quota). Two limits apply to all requests: those of a route ([`RequestLimits`]), and one
//! on 4xx responses to one client (a lock-out). Other modules decide who the client is, what counts
//! as a failed login and what a refusal looks like.
//!
//! If nodes share a store, they also count together the logins and exchanges that a single node has
//! let pass. Each node counts refreshes, failures, errors and requests by itself.

mod client;
mod errors;
mod lockout;
mod rate;
mod requests;
mod session;
mod shared;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use crate::clock::{Clock, seconds_rounded_up};
use crate::config::{self, Findings};
use crate::entropy::Entropy;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use client::ClientKeys;
use lockout::{LockoutPolicy, Lockouts};
use rate::{ClientRate, GlobalRate};
use session::SessionRate;
use shared::SharedBuckets;

pub use requests::{Allowance, Exceeded, RateLimitCaller, RequestLimits};

/// The limits on logins, and the one on errors.
///
/// It holds its counts itself. A rebuild forgets every lock-out, so a reload keeps the existing one
/// if the configuration is the same.
pub struct Throttle {
    clients: ClientKeys,
    login: ClientRate,
    refresh: ClientRate,
    sign_in: ClientRate,
    cross_site: ClientRate,
    all_sign_ins: GlobalRate,
    failed_login: Lockouts,
    client_errors: Option<Lockouts>,
    wechat: GlobalRate,
    session: SessionRate,
    shared: Option<SharedBuckets>,
    refused: RefusedCounters,
}

/// A limit refused the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit `{}` refused, for {} s", .limit.as_str(), .retry_after.as_secs_f64())]
pub struct Throttled {
    /// The limit.
    pub limit: Limit,
    /// How long until the limit may let a client pass again.
    pub retry_after: Duration,
}

/// Why a check across all nodes refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThrottleError {
    /// A limit refused the client.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The store did not answer. No user can sign in without the store, so the check denies.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Throttled {
    /// The wait in whole seconds, rounded up, at least 1: the value of a `Retry-After` header.
    ///
    /// See RFC 9110 §10.2.3.
    pub fn retry_after_seconds(self) -> u64 {
        seconds_to_wait(self.retry_after)
    }
}

/// Returns a wait in whole seconds, rounded up, at least 1.
fn seconds_to_wait(wait: Duration) -> u64 {
    seconds_rounded_up(wait).max(1)
}

/// The limits, as the metric `menshen_throttled_total` and the access log name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Logins of one client address.
    Login,
    /// Refreshes of one client address.
    Refresh,
    /// Sign-ins begun in a browser by one client address.
    SignIn,
    /// Sign-ins begun in browsers by all clients together.
    AllSignIns,
    /// Failed logins and refreshes of one client address.
    FailedLogin,
    /// 4xx responses to one client address.
    ClientError,
    /// Requests to one route, by one of the route's limits.
    Request,
    /// Exchanges with WeChat of all clients together.
    WeChat,
    /// Questions of one session who it is.
    Session,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 9] = [
        Self::Login,
        Self::Refresh,
        Self::SignIn,
        Self::AllSignIns,
        Self::FailedLogin,
        Self::ClientError,
        Self::Request,
        Self::WeChat,
        Self::Session,
    ];

    /// The limit's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::SignIn => "sign_in",
            Self::AllSignIns => "all_sign_ins",
            Self::FailedLogin => "failed_login",
            Self::ClientError => "client_error",
            Self::Request => "request",
            Self::WeChat => "wechat",
            Self::Session => "session",
        }
    }
}

impl Throttle {
    /// Builds the limits and allocates all the memory they will ever use; problems go to
    /// `findings`.
    pub fn build(
        config: &config::Throttle,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        let capacity = table::Capacity::build(config.capacity, findings);
        let clients = ClientKeys::build(config.ipv6_prefix, entropy, findings);
        let login = rate::quota(&config.login, "throttle.login", findings);
        let sign_in = rate::quota(&config.sign_in, "throttle.sign_in", findings);
        let all_sign_ins = rate::quota(&config.all_sign_ins, "throttle.all_sign_ins", findings);
        let failed_login = LockoutPolicy::build(&config.failed_login, "throttle.failed_login", findings);
        let client_errors = config.client_errors.as_ref();
        let client_errors =
            client_errors.map(|limit| LockoutPolicy::build(limit, "throttle.client_errors", findings));
        let wechat = rate::quota(&config.wechat, "throttle.wechat", findings);
        let session = SessionRate::build(&config.session, capacity, Arc::clone(&clock), entropy, findings);

        let capacity = capacity?;
        Some(Self {
            clients: clients?,
            login: ClientRate::new(login?, capacity, Arc::clone(&clock)),
            refresh: ClientRate::new(login?, capacity, Arc::clone(&clock)),
            sign_in: ClientRate::new(sign_in?, capacity, Arc::clone(&clock)),
            cross_site: ClientRate::new(sign_in?, capacity, Arc::clone(&clock)),
            all_sign_ins: GlobalRate::new(all_sign_ins?, Arc::clone(&clock)),
            failed_login: Lockouts::new(failed_login?, capacity, Arc::clone(&clock)),
            client_errors: match client_errors {
                Some(rule) => Some(Lockouts::new(rule?, capacity, Arc::clone(&clock))),
                None => None,
            },
            wechat: GlobalRate::new(wechat?, clock),
            session: session?,
            shared: None,
            refused: RefusedCounters::new(metrics),
        })
    }

    /// Also counts together with the other nodes that write to this store, if the store is shared.
    #[must_use]
    pub fn shared_in(self, store: Arc<dyn Store>, config: &config::Throttle) -> Self {
        Self { shared: SharedBuckets::new(store, &config.login, &config.wechat), ..self }
    }

    /// Checks the limits of this node for one login of this client.
    ///
    /// # Errors
    /// [`Throttled`] while the client is locked out, or when it logs in too often.
    pub fn check_login(&self, client: IpAddr) -> Result<(), Throttled> {
        self.check_client(client, &self.login, Limit::Login)
    }

    /// Checks the limits for one refresh of this client.
    ///
    /// The rate is that of logins, but refreshes are counted separately: many users may share an
    /// address, and refreshes of one must not stop another from signing in. Failures lock out as
    /// those of logins do, so that made-up tokens do not load the store.
    ///
    /// # Errors
    /// [`Throttled`] while the client is locked out, or when it refreshes too often.
    pub fn check_refresh(&self, client: IpAddr) -> Result<(), Throttled> {
        self.check_client(client, &self.refresh, Limit::Refresh)
    }

    /// Checks the limits for one sign-in that this client starts in a browser.
    ///
    /// # Errors
    /// [`Throttled`] while the client is locked out, when it starts too many sign-ins, or when all
    /// clients together do: each sign-in takes room in the store until it ends or expires.
    pub fn check_sign_in(&self, client: IpAddr) -> Result<(), Throttled> {
        self.check_client(client, &self.sign_in, Limit::SignIn)?;
        self.check_all_sign_ins()
    }

    /// Checks the limits for one step of a sign-in that a page of another site may have started in
    /// this client's browser.
    ///
    /// The rate is that of [`Throttle::check_sign_in`], but these steps are counted separately: a
    /// hostile site that makes its visitors' browsers take such steps must not use up the sign-ins
    /// that the users at those addresses start themselves.
    ///
    /// # Errors
    /// As [`Throttle::check_sign_in`].
    pub fn check_cross_site(&self, client: IpAddr) -> Result<(), Throttled> {
        self.check_client(client, &self.cross_site, Limit::SignIn)
    }

    /// As [`Throttle::check_cross_site`], for a step that starts a sign-in and takes room in the
    /// store.
    ///
    /// # Errors
    /// As [`Throttle::check_sign_in`].
    pub fn check_cross_site_sign_in(&self, client: IpAddr) -> Result<(), Throttled> {
        self.check_cross_site(client)?;
        self.check_all_sign_ins()
    }

    /// Checks the limit of all nodes together for a login that passed [`Throttle::check_login`].
    ///
    /// # Errors
    /// [`ThrottleError`]
    pub async fn check_login_across_nodes(&self, client: IpAddr) -> Result<(), ThrottleError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let result = shared.check_login(self.clients.network(client)).await?;
        result.map_err(|wait| self.refuse(Limit::Login, wait).into())
    }

    /// Checks the limit for one exchange with WeChat by any client: on this node, then on all nodes
    /// together.
    ///
    /// # Errors
    /// [`ThrottleError`], when all clients together would exceed the quota or the store does not
    /// answer.
    pub async fn check_exchange(&self) -> Result<(), ThrottleError> {
        self.check_exchange_here()?;
        let Some(shared) = &self.shared else { return Ok(()) };
        shared.check_exchange().await?.map_err(|wait| self.refuse(Limit::WeChat, wait).into())
    }

    /// Checks one action of this client against its rate, unless the client is locked out.
    fn check_client(&self, client: IpAddr, rate: &ClientRate, limit: Limit) -> Result<(), Throttled> {
        let client = self.clients.key(client);
        if let Some(remaining) = self.failed_login.remaining(client) {
            return Err(self.refuse(Limit::FailedLogin, remaining));
        }
        rate.check(client).map(drop).map_err(|wait| self.refuse(limit, wait))
    }

    /// Checks the limit for one question of a session who it is.
    ///
    /// # Errors
    /// [`Throttled`], when it asks too often.
    pub fn check_session(&self, session: &str) -> Result<(), Throttled> {
        self.session.check(session).map_err(|wait| self.refuse(Limit::Session, wait))
    }

    fn check_all_sign_ins(&self) -> Result<(), Throttled> {
        self.all_sign_ins.check().map_err(|wait| self.refuse(Limit::AllSignIns, wait))
    }

    fn check_exchange_here(&self) -> Result<(), Throttled> {
        self.wechat.check().map_err(|wait| self.refuse(Limit::WeChat, wait))
    }

    /// Counts a login or refresh that failed because of the client.
    pub fn record_login_failure(&self, client: IpAddr) {
        self.failed_login.record_failure(self.clients.key(client));
    }

    /// Removes one counted failure.
    ///
    /// It removes one, not all: otherwise an attacker with one good account clears its failures
    /// with every tenth try. An address shared by many users still stays far from a lock-out, since
    /// few of their logins fail.
    pub fn record_login_success(&self, client: IpAddr) {
        self.failed_login.record_success(self.clients.key(client));
    }

    fn refuse(&self, limit: Limit, retry_after: Duration) -> Throttled {
        self.refused.of(limit).inc();
        Throttled { limit, retry_after }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").finish_non_exhaustive()
    }
}

/// `menshen_throttled_total`, with one counter resolved for each limit.
struct RefusedCounters {
    login: IntCounter,
    refresh: IntCounter,
    sign_in: IntCounter,
    all_sign_ins: IntCounter,
    failed_login: IntCounter,
    client_error: IntCounter,
    request: IntCounter,
    wechat: IntCounter,
    session: IntCounter,
}

impl RefusedCounters {
    fn new(metrics: &Metrics) -> Self {
        let child = |limit: Limit| metrics.throttled.with_label_values(&[limit.as_str()]);
        Self {
            login: child(Limit::Login),
            refresh: child(Limit::Refresh),
            sign_in: child(Limit::SignIn),
            all_sign_ins: child(Limit::AllSignIns),
            failed_login: child(Limit::FailedLogin),
            client_error: child(Limit::ClientError),
            request: child(Limit::Request),
            wechat: child(Limit::WeChat),
            session: child(Limit::Session),
        }
    }

    fn of(&self, limit: Limit) -> &IntCounter {
        match limit {
            Limit::Login => &self.login,
            Limit::Refresh => &self.refresh,
            Limit::SignIn => &self.sign_in,
            Limit::AllSignIns => &self.all_sign_ins,
            Limit::FailedLogin => &self.failed_login,
            Limit::ClientError => &self.client_error,
            Limit::Request => &self.request,
            Limit::WeChat => &self.wechat,
            Limit::Session => &self.session,
        }
    }
}
