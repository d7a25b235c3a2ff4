//! The limit on logins of one address: what a login takes, and when it is given back.
//!
//! A code cannot be judged without WeChat. So each login takes one from the bucket of its address,
//! and gives it back unless it fails because of the client: a bucket that is full holds failures,
//! and logins that are under way. If it is full, a login must wait. If another client at the
//! address fills the bucket with made-up codes, a login can still succeed in two ways:
//!
//! - A code that had to wait, and comes back after the wait, takes from a second bucket of the same
//!   size; one that waited twice from a third, and so on. To fill the next bucket, an attacker must
//!   send more codes, and each of them once more: with 20 requests a second the attacker cannot
//!   fill the fourth.
//! - A user who shows a credential of ours has a rate of their own. The code must then be theirs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::Quota;

use super::bucket::{Buckets, FullBucket};
use super::client::{ClientKey, Network};
use super::standing::Standing;
use super::table::{Capacity, ClientTable};
use super::{Limit, Throttle, Throttled, seconds_to_wait};
use crate::clock::Clock;
use crate::identity::Subject;

/// How long a code is remembered that was told to wait: as long as it lives at WeChat.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Most waits that are counted.
const MOST_WAITS: u8 = 8;

/// The buckets of the addresses.
pub(super) struct Logins {
    first: Buckets,
    /// For codes that waited: one bucket for each number of waits.
    returning: Buckets,
    told: ClientTable<Told>,
    clock: Arc<dyn Clock>,
    start: Instant,
}

/// What a login took from the limits. It is given back when the login is over, unless it fails
/// because of the client: see [`LoginCharge::fail`].
#[must_use]
pub struct LoginCharge {
    throttle: Arc<Throttle>,
    networks: Vec<Network>,
    lane: Lane,
    standing: Standing,
    is_settled: bool,
}

/// A code that was told to wait.
#[derive(Clone, Copy, Default)]
struct Told {
    /// When it may come back, in milliseconds since the start; 0 if it did not have to wait.
    due: u64,
    /// How often it came back after its wait.
    waits: u8,
}

/// Where a login took from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    First,
    /// After so many waits.
    Returning(u8),
    Known,
}

impl Lane {
    /// The name of the lane's buckets in a store that nodes share.
    pub(super) fn name(self) -> String {
        match self {
            Self::First | Self::Known => "login".into(),
            Self::Returning(waits) => format!("login {waits}"),
        }
    }

    /// Every lane of an address.
    pub(super) fn of_address() -> impl Iterator<Item = Self> {
        [Self::First].into_iter().chain((1..=MOST_WAITS).map(Self::Returning))
    }
}

impl Throttle {
    /// Takes one for a login with this code.
    ///
    /// `known` is the user that the request shows a credential of. If the address has nothing left,
    /// the login takes from the rate of this user, and the code must be of this user: see
    /// [`LoginCharge::is_for_known_user`].
    ///
    /// # Errors
    /// [`Throttled`] if nothing is left.
    pub fn charge_login(
        self: &Arc<Self>,
        client: IpAddr,
        code: &str,
        known: Option<&Subject>,
    ) -> Result<LoginCharge, Throttled> {
        let networks = self.clients.networks(client);
        let code = networks.first().map(|own| self.clients.code_key(own.key, code));
        let lane = match self.take_of_address(&networks, code) {
            Ok(lane) => lane,
            Err(_) if known.is_some_and(|known| self.take_of_known_user(known)) => Lane::Known,
            Err(full) => return Err(self.refuse_network(Limit::Login, &full)),
        };
        let standing = match lane {
            Lane::Known => Standing::Known,
            Lane::First | Lane::Returning(_) => self.standings.of(&networks),
        };
        Ok(LoginCharge { throttle: Arc::clone(self), networks, lane, standing, is_settled: false })
    }

    /// Whether this client has to wait for its next login. It is then worth the time to find out
    /// who its user is.
    pub fn is_slowing_logins(&self, client: IpAddr) -> bool {
        self.logins.first.full(&self.clients.networks(client)).is_some()
    }

    /// Takes one for a login of an address. A code that has to wait is remembered.
    fn take_of_address(&self, networks: &[Network], code: Option<ClientKey>) -> Result<Lane, FullBucket> {
        let Err(mut full) = self.logins.first.take(networks) else { return Ok(Lane::First) };
        let Some(code) = code else { return Err(full) };
        let lane = self.logins.count_wait(code).map(Lane::Returning);
        if let Some(lane) = lane {
            match self.logins.returning.take(&self.buckets_of(lane, networks)) {
                Ok(()) => return Ok(lane),
                Err(other) => full.wait = full.wait.min(other.wait),
            }
        }
        self.logins.tell(code, full.wait);
        Err(full)
    }

    /// The buckets of a lane: the networks, each with the key of its bucket.
    fn buckets_of(&self, lane: Lane, networks: &[Network]) -> Vec<Network> {
        let key = |network: &Network| match lane {
            Lane::First | Lane::Known => *network,
            Lane::Returning(waits) => self.clients.after_waits(network, waits),
        };
        networks.iter().map(key).collect()
    }

    /// Forgets the failed logins of these networks.
    pub(super) fn clear_logins(&self, networks: &[Network]) {
        for lane in Lane::of_address() {
            self.logins.table(lane).clear(&self.buckets_of(lane, networks));
        }
    }

    pub(super) fn take_of_known_user(&self, user: &Subject) -> bool {
        self.known.check(self.subject_key(user)).is_ok()
    }
}

impl LoginCharge {
    /// How a login of this client ranks where all clients share a budget.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether the login took from the rate of the user that it showed a credential of. A code of
    /// another user is then a failure.
    pub fn is_for_known_user(&self) -> bool {
        self.lane == Lane::Known
    }

    /// A user signed in.
    pub fn succeed(self) {
        self.throttle.standings.record_sign_in(&self.networks);
    }

    /// The login failed because of the client: what it took is not given back, on all nodes.
    pub async fn fail(mut self) {
        self.is_settled = true;
        let Self { throttle, networks, lane, .. } = &self;
        throttle.standings.record_failure(networks);
        if *lane == Lane::Known {
            throttle.logins.first.take_what_is_left(networks);
        }
        let Some(shared) = &throttle.shared else { return };
        for full in shared.record_failure(*lane, &throttle.buckets_of(*lane, networks)).await {
            throttle.logins.table(*lane).fill(&full.network, full.wait);
        }
    }
}

impl Drop for LoginCharge {
    fn drop(&mut self) {
        if !self.is_settled && self.lane != Lane::Known {
            let buckets = self.throttle.buckets_of(self.lane, &self.networks);
            self.throttle.logins.table(self.lane).give_back(&buckets);
        }
    }
}

impl std::fmt::Debug for LoginCharge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginCharge").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl Logins {
    pub(super) fn new(quota: Quota, capacity: Capacity, clock: Arc<dyn Clock>) -> Self {
        Self {
            first: Buckets::new(quota, capacity, Arc::clone(&clock)),
            returning: Buckets::new(quota, capacity, Arc::clone(&clock)),
            told: ClientTable::new(capacity),
            start: clock.instant(),
            clock,
        }
    }

    /// How often a code that is sent now has waited; `None` if it did not wait as it was told.
    fn count_wait(&self, code: ClientKey) -> Option<u8> {
        let now = self.now();
        let told = self.told.read(code);
        let is_due = told.due != 0 && told.due <= now && now - told.due < millis(REMEMBERED);
        if !is_due {
            return None;
        }
        let waits = told.waits.saturating_add(1).min(MOST_WAITS);
        // Not due again until it is told a new wait.
        self.told.update_known(code, |told| *told = Told { due: 0, waits });
        Some(waits)
    }

    /// Remembers that a code was told to wait. One that did not wait is due when it was.
    fn tell(&self, code: ClientKey, wait: Duration) {
        let now = self.now();
        // The client is told whole seconds.
        let due = now.saturating_add(seconds_to_wait(wait).saturating_mul(1000));
        self.told.update(
            code,
            |told| Some(told.due),
            |told| match told.due {
                0 => told.due = due,
                told_due if now.saturating_sub(told_due) >= millis(REMEMBERED) => {
                    *told = Told { due, waits: 0 }
                }
                _ => {}
            },
        );
    }

    const fn table(&self, lane: Lane) -> &Buckets {
        match lane {
            Lane::First | Lane::Known => &self.first,
            Lane::Returning(_) => &self.returning,
        }
    }

    fn now(&self) -> u64 {
        // Never 0, which is the time of a code that was told nothing.
        millis(self.clock.instant().saturating_duration_since(self.start)).saturating_add(1)
    }

    /// Bytes of the tables.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.first.bytes() + self.returning.bytes() + self.told.bytes()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
