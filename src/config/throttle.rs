//! Limits on logins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Rate};

/// `throttle`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Logins of one client address; refreshes as many again.
    pub login: LoginLimit,
    /// Sign-ins begun in a browser by one client address: pages shown, people sent to WeChat. As many again to which pages of other
    /// sites may have led it.
    pub sign_in: LoginLimit,
    /// Sign-ins begun in browsers by all clients together, at this gateway. Each takes up to 2.4 KB of the store for twenty minutes,
    /// so with the defaults those that nobody finishes take 146 MB at most.
    pub all_sign_ins: LoginLimit,
    /// Failed logins and refreshes of one client address.
    pub failed_login: FailedLoginLimit,
    /// Answers 4xx to one client address, whoever gives them; each other answer takes one back. While locked out, the address is
    /// answered 429 to everything. Absent: not counted. Name your `trusted_proxies` first, else all clients behind one are one.
    /// Any page can have its visitors' browsers ask for what is not there: leave room where many people share an address.
    pub client_errors: Option<FailedLoginLimit>,
    /// Exchanges with WeChat of all clients together; keep it below the quota of your apps.
    pub wechat: LoginLimit,
    /// IPv6 clients count together by this many leading bits. 32 to 128.
    #[schemars(range(min = 32, max = 128))]
    pub ipv6_prefix: u8,
    /// Most client addresses remembered, for each limit; 18 bytes each, 27 where lock-outs are remembered, taken at start. 1024 to
    /// 16777216.
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
            ipv6_prefix: 64,
            capacity: 262_144,
        }
    }
}

/// A rate with room for a burst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginLimit {
    /// How many, in the long run.
    pub rate: Rate,
    /// How many at once after a quiet time. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// `throttle.failed_login`: after `allowed` failures each further one locks the address out, twice as long each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailedLoginLimit {
    /// Failures that cost nothing. At least 1.
    #[schemars(range(min = 1))]
    pub allowed: u32,
    /// The first lock-out.
    pub lockout: Duration,
    /// The longest lock-out. At least `lockout`.
    pub max_lockout: Duration,
    /// How long without a failure until all is forgotten. At least `max_lockout`.
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
