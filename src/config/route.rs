//! Which requests go where, and who may make them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration, Rate};

/// `routes[]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name in logs and metrics; must be unique. Default: the path, or host and path.
    #[serde(default)]
    pub name: Option<String>,
    /// Hosts it serves: exact names, or `*.example.com` for every name below. Empty: every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefix, matched on segment boundaries: `/api` serves `/api` and `/api/x`, never `/apix`. Case matters: where the
    /// backend reads `/API` as `/api`, let no shorter public path serve it.
    pub path: String,
    /// Methods it serves. Empty: every method the gateway admits.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Who may call.
    pub access: Access,
    /// Apps whose users may call, by their names under `apps`. Empty: every app.
    #[serde(default)]
    pub apps: Vec<String>,
    /// Lists of people, by their names under `lists`, of whom one must have the caller. Empty: everybody may call.
    #[serde(default)]
    pub allow_lists: Vec<String>,
    /// Lists of people whose members may not call, whatever other lists say.
    #[serde(default)]
    pub deny_lists: Vec<String>,
    /// Whether the caller's unionid must be known.
    #[serde(default)]
    pub require_unionid: bool,
    /// Whether the caller must be bound to a user of the business's own.
    #[serde(default)]
    pub require_user: bool,
    /// Claims that the caller's user must have: for each name the values of which it must have one. Empty: none.
    #[serde(default)]
    pub require_claims: BTreeMap<String, Vec<String>>,
    /// How many requests are let through, of whom. Each limit counts by itself; a request must pass all. At most 4, each of which
    /// takes 18 bytes for each of `throttle.capacity` at start; twice that by subject where access is optional.
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    /// Apps that a browser without a session may sign in to, by their names under `apps`, the preferred one first. Empty:
    /// every website and official account that the route admits.
    #[serde(default)]
    pub sign_in: Vec<String>,
    /// Whether a request that a page of another site made may use the session cookie, other than to read.
    #[serde(default)]
    pub allow_cross_site: bool,
    /// Where requests go: a name under `upstreams`.
    pub upstream: String,
    /// Longest silence of the upstream on this route, instead of the upstream's own `read_timeout`.
    #[serde(default)]
    pub read_timeout: Option<Duration>,
    /// Least bytes a second of a request's body here, instead of `limits.min_body_rate`; `0B` for bodies that are streams, such as
    /// those of gRPC.
    #[serde(default)]
    pub min_body_rate: Option<ByteSize>,
    /// Whether WebSocket connections are let through.
    #[serde(default)]
    pub websocket: bool,
    /// How a request without a valid token is refused.
    #[serde(default)]
    pub reject: RejectShape,
    /// Whether the client's token is passed on to the backend. By default it is removed.
    #[serde(default)]
    pub forward_token: bool,
}

impl Route {
    /// Its name in logs and metrics.
    pub fn full_name(&self) -> String {
        let first_host = self.hosts.first().map_or("", String::as_str);
        self.name.clone().unwrap_or_else(|| format!("{first_host}{}", self.path))
    }
}

/// `routes[].rate_limits[]`: a rate with room for a burst; what is beyond it is answered 429.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Whose requests count together.
    pub by: RateLimitKey,
    /// How many, in the long run.
    pub rate: Rate,
    /// How many at once after a quiet time. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// Whose requests count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// One client address, or one network of `throttle.ipv6_prefix`.
    Address,
    /// One person in one app; whoever is nobody counts by address.
    Subject,
    /// One app; whoever is nobody counts by address.
    App,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only with a valid token.
    Authenticated,
    /// Anybody; tokens are not looked at and no identity is passed on.
    Public,
    /// Anybody; with a valid token or session the identity is passed on. A token that is not valid is refused; a session cookie
    /// whose session has ended is as none, since browsers go on sending it.
    Optional,
}

/// How a request without a valid token is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectShape {
    /// 401 with `WWW-Authenticate` and a problem document.
    #[default]
    Problem,
    /// 200 with `{"code":401,"message":...}`, for clients that look at the body alone.
    #[serde(rename = "code_200")]
    Code200,
}
