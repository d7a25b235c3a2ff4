//! Which requests go where, and who may make them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration};

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

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only with a valid token.
    Authenticated,
    /// Anybody; tokens are not looked at and no identity is passed on.
    Public,
    /// Anybody; with a valid token the identity is passed on. A token that is not valid is refused.
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
