//! Limits on logins, requests and errors, in memory of fixed size.
//!
//! Decides whether a client may try a login, whether the gateway may call WeChat, and how long a
//! refused client must wait. The rule is that a client cannot keep others from signing in:
//!
//! - What can be judged without WeChat is judged first. A good refresh token is never refused
//!   because of other clients at its address; only refreshes that fail are counted by address,
//!   separately from logins. A good one is counted by its user.
//! - A login takes from a bucket of its address and gives it back unless it fails because of the
//!   client ([`LoginCharge`]). A full bucket slows the next logins and locks no client out.
//! - An IPv6 address counts in its own network and in the wider ones around it.
//! - Of what all clients together may do, a share is kept for addresses from which users signed in
//!   lately ([`Standing`]).
//! - If a table is full, a new client is not counted, rather than refused.
//!
//! Sign-ins that a browser starts have a rate by address, and one of all clients together. Those
//! that a page of another site may have started are counted separately. Two limits apply to all
//! requests: those of a route ([`RequestLimits`]), and one on 4xx responses to one client (a
//! lock-out, if configured). Other modules decide who the client is, what counts as a failed login
//! and what a refusal looks like.
//!
//! If nodes share a store, they count together the failed logins, and the exchanges that a single
//! node has let pass. Each node counts the rest by itself.

mod bucket;
mod client;
mod errors;
mod global;
mod lift;
mod listing;
mod lockout;
mod login;
mod rate;
mod requests;
mod session;
mod shared;
mod standing;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use tracing::warn;

use crate::clock::{Clock, seconds_rounded_up};
use crate::config::{self, Findings};
use crate::entropy::Entropy;
use crate::identity::Subject;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use bucket::{Buckets, FullBucket};
use client::{ClientKey, ClientKeys, NameKeys, NetworkName};
use global::GlobalRate;
use listing::Listing;
use lockout::{LockoutPolicy, Lockouts};
use login::Logins;
use rate::ClientRate;
use session::SessionRate;
use shared::SharedBuckets;
use standing::Standings;

pub use listing::ThrottledAddress;
pub use login::LoginCharge;
pub use requests::{Allowance, Exceeded, RateLimitCaller, RequestLimits};
pub use standing::Standing;

/// The limits on logins, and the one on errors.
///
/// It holds its counts itself. A rebuild forgets them, so a reload keeps the existing one if the
/// configuration is the same.
pub struct Throttle {
    clients: ClientKeys,
    names: NameKeys,
    logins: Logins,
    /// Sign-ins and refreshes of users who show a credential, by user.
    known: ClientRate,
    /// Refreshes with a good token, by user, and tickets by user.
    refresh: ClientRate,
    failed_refresh: Buckets,
    sign_in: Buckets,
    cross_site: Buckets,
    all_sign_ins: GlobalRate,
    client_errors: Option<Lockouts>,
    wechat: GlobalRate,
    session: SessionRate,
    standings: Standings,
    listing: Listing,
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
    /// Logins of one client address: failed ones, and those under way.
    Login,
    /// Refreshes of one user, and failed ones of one client address.
    Refresh,
    /// Sign-ins begun in a browser by one client address.
    SignIn,
    /// Sign-ins begun in browsers by all clients together.
    AllSignIns,
    /// 4xx responses to one client address.
    ClientError,
    /// Requests to one route, by one of the route's limits.
    Request,
    /// Exchanges with WeChat of all clients together.
    WeChat,
    /// Requests of one session for `/auth/session`.
    Session,
    /// Tickets of one user.
    Ticket,
    /// Sealed user data of one session that did not open.
    UserData,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 10] = [
        Self::Login,
        Self::Refresh,
        Self::SignIn,
        Self::AllSignIns,
        Self::ClientError,
        Self::Request,
        Self::WeChat,
        Self::Session,
        Self::Ticket,
        Self::UserData,
    ];

    /// The limit's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::SignIn => "sign_in",
            Self::AllSignIns => "all_sign_ins",
            Self::ClientError => "client_error",
            Self::Request => "request",
            Self::WeChat => "wechat",
            Self::Session => "session",
            Self::Ticket => "ticket",
            Self::UserData => "user_data",
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
        let known = rate::quota(&config.known_user, "throttle.known_user", findings);
        let sign_in = rate::quota(&config.sign_in, "throttle.sign_in", findings);
        let all_sign_ins = rate::quota(&config.all_sign_ins, "throttle.all_sign_ins", findings);
        let client_errors = config.client_errors.as_ref();
        let client_errors =
            client_errors.map(|limit| LockoutPolicy::build(limit, "throttle.client_errors", findings));
        let wechat = rate::quota(&config.wechat, "throttle.wechat", findings);
        let session = SessionRate::build(&config.session, capacity, Arc::clone(&clock), entropy, findings);
        warn_of_failed_login(config, findings)?;

        let (capacity, login, sign_in) = (capacity?, login?, sign_in?);
        let buckets = |quota| Buckets::new(quota, capacity, Arc::clone(&clock));
        let by_user = |quota| ClientRate::new(quota, capacity, Arc::clone(&clock));
        Some(Self {
            clients: clients?,
            names: NameKeys::new(entropy).ok()?,
            logins: Logins::new(login, capacity, Arc::clone(&clock)),
            known: by_user(known?),
            refresh: by_user(login),
            failed_refresh: buckets(login),
            sign_in: buckets(sign_in),
            cross_site: buckets(sign_in),
            all_sign_ins: GlobalRate::new(all_sign_ins?, Arc::clone(&clock)),
            client_errors: match client_errors {
                Some(rule) => Some(Lockouts::new(rule?, capacity, Arc::clone(&clock))),
                None => None,
            },
            wechat: GlobalRate::new(wechat?, Arc::clone(&clock)),
            session: session?,
            standings: Standings::new(capacity, Arc::clone(&clock)),
            listing: Listing::new(clock),
            shared: None,
            refused: RefusedCounters::new(metrics),
        })
    }

    /// Also counts together with the other nodes that write to this store, if the store is shared.
    #[must_use]
    pub fn shared_in(self, store: Arc<dyn Store>, config: &config::Throttle) -> Self {
        Self { shared: SharedBuckets::new(store, &config.login, &config.wechat), ..self }
    }

    /// Counts a refresh that failed because its token is not good.
    ///
    /// # Errors
    /// [`Throttled`] if too many refreshes of this client failed. Good tokens are not refused.
    pub fn charge_failed_refresh(&self, client: IpAddr) -> Result<(), Throttled> {
        let taken = self.failed_refresh.take(&self.clients.networks(client));
        taken.map_err(|full| self.refuse_network(Limit::Refresh, &full))
    }

    /// Checks the limit on refreshes of one user, for one with a good token.
    ///
    /// The rate is that of the logins of one address.
    ///
    /// # Errors
    /// [`Throttled`] if the user refreshes too often.
    pub fn check_refresh_of(&self, user: &Subject) -> Result<(), Throttled> {
        let taken = self.refresh.check(self.subject_key(user));
        taken.map(drop).map_err(|wait| self.refuse(Limit::Refresh, wait))
    }

    /// Checks the limits for one sign-in that this client starts in a browser. `known` is the user
    /// that the request shows a credential of: this user has a rate of their own.
    ///
    /// # Errors
    /// [`Throttled`] when the client starts too many sign-ins, or when all clients together do:
    /// each sign-in takes room in the store until it ends or expires.
    pub fn check_sign_in(&self, client: IpAddr, known: Option<&Subject>) -> Result<(), Throttled> {
        let networks = self.clients.networks(client);
        let standing = match self.sign_in.take(&networks) {
            Ok(()) => self.standings.of(&networks),
            Err(_) if known.is_some_and(|known| self.take_of_known_user(known)) => Standing::Known,
            Err(full) => return Err(self.refuse_network(Limit::SignIn, &full)),
        };
        self.check_all_sign_ins(standing)
    }

    /// Whether this client has to wait for its next sign-in in a browser.
    pub fn is_slowing_sign_ins(&self, client: IpAddr) -> bool {
        self.sign_in.full(&self.clients.networks(client)).is_some()
    }

    /// Gives back what the start of a sign-in took from the limit of its address, when the sign-in
    /// has succeeded.
    pub fn give_back_sign_in(&self, client: IpAddr) {
        self.sign_in.give_back(&self.clients.networks(client));
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
        let taken = self.cross_site.take(&self.clients.networks(client));
        taken.map_err(|full| self.refuse_network(Limit::SignIn, &full))
    }

    /// As [`Throttle::check_cross_site`], for a step that starts a sign-in and takes room in the
    /// store.
    ///
    /// # Errors
    /// As [`Throttle::check_sign_in`].
    pub fn check_cross_site_sign_in(&self, client: IpAddr) -> Result<(), Throttled> {
        self.check_cross_site(client)?;
        self.check_all_sign_ins(self.standing(client))
    }

    /// How this client ranks where all clients share a budget.
    pub fn standing(&self, client: IpAddr) -> Standing {
        self.standings.of(&self.clients.networks(client))
    }

    /// Checks the limit for one exchange with WeChat by a client of this standing: on this node,
    /// then on all nodes together.
    ///
    /// # Errors
    /// [`ThrottleError`], when all clients together would exceed the quota or the store does not
    /// answer.
    pub async fn check_exchange(&self, standing: Standing) -> Result<(), ThrottleError> {
        self.wechat.take(standing).map_err(|wait| self.refuse(Limit::WeChat, wait))?;
        let Some(shared) = &self.shared else { return Ok(()) };
        shared.check_exchange(standing).await?.map_err(|wait| self.refuse(Limit::WeChat, wait).into())
    }

    /// Checks the limit for one question of a session who it is.
    ///
    /// # Errors
    /// [`Throttled`], when it asks too often.
    pub fn check_session(&self, session: &str) -> Result<(), Throttled> {
        self.session.check(session).map_err(|wait| self.refuse(Limit::Session, wait))
    }

    /// Checks the limit for one ticket of a user, who is signed in. Each takes room in the store.
    ///
    /// The rate is that of the logins of one address.
    ///
    /// # Errors
    /// [`Throttled`] if the user asks for too many.
    pub fn check_ticket_of(&self, user: &Subject) -> Result<(), Throttled> {
        // Of the refreshes of the user it is apart: no two lists of words have one key.
        let key = self.names.key(&["ticket", user.appid.as_str(), user.openid.as_str()]);
        self.refresh.check(key).map(drop).map_err(|wait| self.refuse(Limit::Ticket, wait))
    }

    /// Counts sealed user data of a session that did not open.
    ///
    /// The rate is that of [`Throttle::check_session`], counted apart. Data that open are not
    /// refused.
    ///
    /// # Errors
    /// [`Throttled`] if too many of this session did not open.
    pub fn charge_stale_user_data(&self, session: &str) -> Result<(), Throttled> {
        self.session.check_apart("user_data", session).map_err(|wait| self.refuse(Limit::UserData, wait))
    }

    fn check_all_sign_ins(&self, standing: Standing) -> Result<(), Throttled> {
        self.all_sign_ins.take(standing).map_err(|wait| self.refuse(Limit::AllSignIns, wait))
    }

    fn subject_key(&self, user: &Subject) -> ClientKey {
        self.names.key(&[user.appid.as_str(), user.openid.as_str()])
    }

    fn refuse_network(&self, limit: Limit, full: &FullBucket) -> Throttled {
        self.refuse_named(limit, full.network.name, full.wait)
    }

    /// Refuses a client by a limit of its own, and names it in the log if that is new.
    fn refuse_named(&self, limit: Limit, name: NetworkName, retry_after: Duration) -> Throttled {
        if self.listing.note(name, limit, retry_after) {
            warn!(
                client.address = %name,
                throttle.limit = limit.as_str(),
                "{name} is throttled by the limit `{}`: `menshen throttle list` shows it, `menshen throttle lift {name}` lifts it",
                limit.as_str()
            );
        }
        self.refuse(limit, retry_after)
    }

    fn refuse(&self, limit: Limit, retry_after: Duration) -> Throttled {
        self.refused.of(limit).inc();
        Throttled { limit, retry_after }
    }
}

/// Warns of a section that has no effect any longer. What is wrong in it is an error nevertheless.
fn warn_of_failed_login(config: &config::Throttle, findings: &mut Findings) -> Option<()> {
    let Some(section) = &config.failed_login else { return Some(()) };
    findings
        .warning(
            "throttle.failed_login",
            "no address is locked out any longer: a failed login takes from `throttle.login`, and one that succeeds gives back what it took",
        )
        .hint("remove the section");
    LockoutPolicy::build(section, "throttle.failed_login", findings).map(drop)
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
    client_error: IntCounter,
    request: IntCounter,
    wechat: IntCounter,
    session: IntCounter,
    ticket: IntCounter,
    user_data: IntCounter,
}

impl RefusedCounters {
    fn new(metrics: &Metrics) -> Self {
        let child = |limit: Limit| metrics.throttled.with_label_values(&[limit.as_str()]);
        Self {
            login: child(Limit::Login),
            refresh: child(Limit::Refresh),
            sign_in: child(Limit::SignIn),
            all_sign_ins: child(Limit::AllSignIns),
            client_error: child(Limit::ClientError),
            request: child(Limit::Request),
            wechat: child(Limit::WeChat),
            session: child(Limit::Session),
            ticket: child(Limit::Ticket),
            user_data: child(Limit::UserData),
        }
    }

    fn of(&self, limit: Limit) -> &IntCounter {
        match limit {
            Limit::Login => &self.login,
            Limit::Refresh => &self.refresh,
            Limit::SignIn => &self.sign_in,
            Limit::AllSignIns => &self.all_sign_ins,
            Limit::ClientError => &self.client_error,
            Limit::Request => &self.request,
            Limit::WeChat => &self.wechat,
            Limit::Session => &self.session,
            Limit::Ticket => &self.ticket,
            Limit::UserData => &self.user_data,
        }
    }
}
