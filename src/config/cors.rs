//! Which pages of other origins may read answers (CORS).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// `cors` and `routes[].cors`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins whose pages may read answers, such as `https://h5.example.com`. At least one.
    /// Write scheme, host and port, without a path. `"*"` alone: every origin. `null` and patterns
    /// such as `https://*.example.com` are refused. See docs/cors.md.
    #[schemars(length(min = 1))]
    pub origins: Vec<String>,
    /// Methods that pages may use. A browser never asks about `GET`, `HEAD` and `POST`, so these
    /// are always allowed. Empty: on a route, every method of the route; for the gateway's own
    /// endpoints, `GET`, `HEAD` and `POST`.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Request headers that pages may set, besides those that browsers never ask about. `"*"`:
    /// every header.
    #[serde(default = "default_headers")]
    pub headers: Vec<String>,
    /// Headers of answers that pages may read, besides those that browsers always show. `"*"`:
    /// every header. If the gateway itself answers, pages can read its own headers too, such as
    /// `Retry-After`.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// Whether pages may send and read requests with the browser's cookies. The listed origins of
    /// the same site may then also change something with the session cookie. Requests with a token
    /// in `Authorization` do not need it. Not together with `"*"`.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight. 0s to 1d. Browsers have limits
    /// of their own, of 10 minutes to a day.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// Who answers preflights.
    #[serde(default)]
    pub preflight: Preflight,
}

/// Who answers preflights: the `OPTIONS` requests by which a browser asks whether a page of another
/// origin may send a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preflight {
    /// The gateway, from this section. No preflight reaches the backend.
    #[default]
    Answer,
    /// The backend. A preflight of a listed origin is forwarded without an identity, also on a
    /// route that requires one, because browsers send no token with it. Only on routes.
    Backend,
}

fn default_headers() -> Vec<String> {
    vec!["Authorization".into(), "Content-Type".into()]
}

const fn default_max_age() -> Duration {
    Duration::from_secs(600)
}
