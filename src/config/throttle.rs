//! Limits on logins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Rate};

/// `throttle`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Logins of one client address that failed or are under way: a login that succeeds gives back
    /// what it took. If none is left, the next login waits. A code that was answered 429 and is
    /// sent again after the wait has a second limit of the same size. Refreshes that fail have one
    /// too, and so have the refreshes of one user, and the tickets of one user. For IPv6, the /56
    /// around a client has twice as much, and the /48 four times as much.
    pub login: LoginLimit,
    /// Sign-ins of one user whose address has nothing left. The user is known by an access token of
    /// the gateway, expired or not, or by a live refresh token or session cookie. A code of another
    /// user is refused.
    pub known_user: LoginLimit,
    /// Sign-ins that one client address begins in a browser: sign-in pages and redirects to WeChat.
    /// A sign-in that succeeds gives back what it took. Requests that pages of other sites may have
    /// caused have a second limit of the same size. For IPv6, the /56 around a client has twice as
    /// much, and the /48 four times as much.
    pub sign_in: LoginLimit,
    /// Sign-ins that all clients together begin in browsers, at this gateway. Each takes up to 2.4
    /// KB of the store for twenty minutes. With the defaults, sign-ins that never end take at most
    /// 146 MB. A quarter of the burst is kept for addresses from which users signed in lately.
    /// Addresses that failed often may use only half of the burst.
    pub all_sign_ins: LoginLimit,
    /// Has no effect any more, and is accepted with a warning: failures take from `login`.
    pub failed_login: Option<FailedLoginLimit>,
    /// Answers with a status 4xx to one client address, from the gateway or a backend. Each other
    /// answer cancels one of them. While an address is locked out, every request is answered 429.
    /// Not set: not counted. Set `trusted_proxies` first: otherwise all clients behind one proxy
    /// count as one. A page can make the browsers of its visitors ask for paths that do not exist,
    /// so choose a high limit if many users share an address.
    pub client_errors: Option<FailedLoginLimit>,
    /// Calls to WeChat for all clients together. Keep it below the quota of your apps. A quarter of
    /// the burst is kept for addresses from which users signed in lately. Addresses that failed
    /// often may use only half of the burst.
    pub wechat: LoginLimit,
    /// Requests for `GET /auth/session` with one session.
    pub session: LoginLimit,
    /// IPv6 clients with the same leading bits count as one client. This is the number of bits. 32
    /// to 128. Logins and sign-ins also count in the /64, the /56 and the /48 around it.
    #[schemars(range(min = 32, max = 128))]
    pub ipv6_prefix: u8,
    /// Maximum number of client addresses that each limit remembers. An entry takes 17 bytes, or 25
    /// in a limit with lock-outs. When all places are taken, a new address replaces the one with
    /// the lowest count. The memory is allocated at start. 1024 to 16777216.
    pub capacity: usize,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            login: LoginLimit { rate: Rate::per_minute(200), burst: 300 },
            known_user: LoginLimit { rate: Rate::per_minute(10), burst: 10 },
            sign_in: LoginLimit { rate: Rate::per_minute(200), burst: 300 },
            all_sign_ins: LoginLimit { rate: Rate::per_minute(3000), burst: 1000 },
            failed_login: None,
            client_errors: None,
            wechat: LoginLimit { rate: Rate::per_minute(4000), burst: 1000 },
            session: LoginLimit { rate: Rate::per_minute(60), burst: 60 },
            ipv6_prefix: 64,
            capacity: 262_144,
        }
    }
}

/// A rate and a burst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginLimit {
    /// Average rate.
    pub rate: Rate,
    /// Maximum number at once after a quiet time. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// `throttle.client_errors`: each failure after the first `allowed` ones locks the address out.
/// Each lock-out is twice as long as the one before, up to `max_lockout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailedLoginLimit {
    /// Failures without a lock-out. At least 1.
    #[schemars(range(min = 1))]
    pub allowed: u32,
    /// Length of the first lock-out.
    pub lockout: Duration,
    /// Length of the longest lock-out. At least `lockout`.
    pub max_lockout: Duration,
    /// How long after the last failure all failures are forgotten. At least `max_lockout`.
    pub forget_after: Duration,
}

impl Default for FailedLoginLimit {
    fn default() -> Self {
        Self {
            allowed: 10,
            lockout: Duration::from_secs(10),
            max_lockout: Duration::from_secs(900),
            forget_after: Duration::from_secs(1800),
        }
    }
}
