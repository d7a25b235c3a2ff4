//! Limits on logins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Rate};

/// `throttle`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Logins of one client address. Refreshes have a second limit of the same size.
    pub login: LoginLimit,
    /// Sign-ins that one client address begins in a browser: sign-in pages and redirects to WeChat.
    /// Requests that pages of other sites may have caused have a second limit of the same size.
    pub sign_in: LoginLimit,
    /// Sign-ins that all clients together begin in browsers, at this gateway. Each takes up to 2.4
    /// KB of the store for twenty minutes. With the defaults, sign-ins that never end take at most
    /// 146 MB.
    pub all_sign_ins: LoginLimit,
    /// Failed logins and refreshes of one client address.
    pub failed_login: FailedLoginLimit,
    /// Answers with a status 4xx to one client address, from the gateway or a backend. Each other
    /// answer cancels one of them. While an address is locked out, every request is answered 429.
    /// Not set: not counted. Set `trusted_proxies` first: otherwise all clients behind one proxy
    /// count as one. A page can make the browsers of its visitors ask for paths that do not exist,
    /// so choose a high limit if many users share an address.
    pub client_errors: Option<FailedLoginLimit>,
    /// Calls to WeChat for all clients together. Keep it below the quota of your apps.
    pub wechat: LoginLimit,
    /// Requests for `GET /auth/session` with one session.
    pub session: LoginLimit,
    /// IPv6 clients with the same leading bits count as one client. This is the number of bits. 32
    /// to 128.
    #[schemars(range(min = 32, max = 128))]
    pub ipv6_prefix: u8,
    /// Most client addresses that each limit remembers. An entry takes 18 bytes, or 27 in a limit
    /// with lock-outs. The memory is allocated at start. 1024 to 16777216.
    pub capacity: usize,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            login: LoginLimit { rate: Rate::per_minute(10), burst: 20 },
            sign_in: LoginLimit { rate: Rate::per_minute(30), burst: 60 },
            all_sign_ins: LoginLimit { rate: Rate::per_minute(3000), burst: 1000 },
            failed_login: FailedLoginLimit::default(),
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
    /// Most at once after a quiet time. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// `throttle.failed_login`: each failure after the first `allowed` ones locks the address out. Each
/// lock-out is twice as long as the one before.
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
