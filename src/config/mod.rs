//! The configuration file: plain types, one file for each section, and how they are loaded.
//!
//! A section has values and no behaviour. The module that uses a section builds itself from it, and
//! refuses values that make no sense there. This module imports no other module of ours.

mod admin;
mod app;
mod characters;
mod cors;
mod document;
mod draft;
mod exposure;
mod finding;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod identity_headers;
mod internal;
mod limits;
mod list;
mod listener;
mod login;
mod paths;
mod repair;
mod report;
mod route;
mod rules;
mod schema;
mod secret;
mod session;
mod slips;
mod store;
mod structure;
mod syntax;
mod telemetry;
mod template;
mod throttle;
mod token;
mod tree;
mod trusted_proxy;
mod upstream;
mod user_data;
pub mod value;
mod wechat;
mod wechat_api;
mod wording;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use admin::Admin;
pub use app::{App, AppKind, AppTokenApi, BrowserCheck, OAuthScope, UnknownUnionId};
pub use cors::{Cors, Preflight};
pub use document::Document;
pub use draft::Draft;
pub use exposure::{FileAccess, warn_of_exposed_file};
pub use finding::{Finding, Findings, Severity};
pub use identity_headers::IdentityHeaders;
pub use internal::{Internal, InternalClient, InternalPermission, InternalTls};
pub use limits::{H2Limits, HeaderNames, Limits};
pub use list::List;
pub use listener::{Certificate, Listener, ListenerTls};
pub use login::{CodePlace, Facade, Login, LoginPage};
pub use report::Report;
pub use route::{
    Access, PathSpelling, Paths, RateLimit, RateLimitKey, Reject, RejectShape, RejectTemplate, Route,
};
pub use schema::{schema, static_changes};
pub use secret::placeholder;
pub use session::{RetryNetwork, SealKey, Sessions};
pub use store::{EmbeddedStore, RedisDurability, RedisStore, RedisTls, RedisTopology, Store, StoreEngine};
pub use telemetry::{AccessLog, AccessLogTarget, AuditLog, Log, LogFormat, Telemetry, UserHashKey};
pub use template::Template;
pub use throttle::{FailedLoginLimit, LoginLimit, Throttle};
pub use token::{KeyAlgorithm, SigningKey, TokenCache, TokenSources, TokenType, Tokens};
pub use trusted_proxy::TrustedProxy;
pub use upstream::{Balance, Server, Upstream, UpstreamProtocol, UpstreamTls};
pub use user_data::UserData;
pub use value::{ByteSize, Duration, FilePath, Rate, SecretSource};
pub use wechat::{Breaker, WeChat};
pub use wechat_api::{WeChatAlias, WeChatApiAccess};

/// The whole configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Menshen configuration")]
pub struct Config {
    /// Folder of the gateway's keys and sessions, and of the operators' socket. The gateway makes
    /// it at the first start, with mode 0700. It must belong to root or to the gateway's user, and
    /// not every user may write there. Not set: the folder that systemd names in
    /// `$STATE_DIRECTORY`; without systemd, `data` in the working directory.
    #[serde(default = "default_data_dir")]
    #[schemars(extend("x-static" = true))]
    pub data_dir: FilePath,
    /// Number of threads that serve requests. 0: one thread for each core.
    #[serde(default)]
    #[schemars(range(max = 1024), extend("x-static" = true))]
    pub worker_threads: usize,
    /// How long a gateway that stops waits for the requests under way.
    #[serde(default = "default_drain_timeout")]
    #[schemars(extend("x-static" = true))]
    pub drain_timeout: Duration,
    /// Addresses where clients connect. At least one.
    #[schemars(length(min = 1), extend("x-static" = true))]
    pub listeners: Vec<Listener>,
    /// The admin listener: metrics and health.
    #[serde(default)]
    #[schemars(extend("x-static" = true))]
    pub admin: Admin,
    /// The internal listener, for programs of the business. Not set: there is none.
    #[serde(default)]
    pub internal: Option<Internal>,
    /// Proxies in front of the gateway: addresses, CIDR blocks, or objects that name the headers to
    /// believe. From an address or a block the gateway believes `X-Forwarded-For` and
    /// `X-Forwarded-Proto`. From all other peers, and by default, it believes nothing. See
    /// docs/headers.md.
    #[serde(default)]
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The WeChat apps whose users sign in. Each has a name of your choice.
    #[schemars(extend("minProperties" = 1))]
    pub apps: BTreeMap<String, App>,
    /// How the gateway calls WeChat.
    #[serde(default)]
    pub wechat: WeChat,
    /// Backend servers. Each set of servers has a name of your choice.
    #[schemars(extend("minProperties" = 1))]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Lists of people, for `allow_lists` and `deny_lists` of routes. Each has a name of your
    /// choice.
    #[serde(default)]
    pub lists: BTreeMap<String, List>,
    /// Which requests go to which backend, and who may send them. If several paths match, the
    /// longest path wins.
    #[schemars(length(min = 1))]
    pub routes: Vec<Route>,
    /// Which pages of other origins may read what the gateway itself answers: its own endpoints,
    /// and refusals of requests that match no route, or a route without `cors`. Not set: none.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// Names of the headers that carry the user's identity to the backend.
    #[serde(default)]
    pub identity_headers: IdentityHeaders,
    /// The access tokens that the gateway issues and accepts.
    #[serde(default)]
    pub tokens: Tokens,
    /// Sessions: how long they live, and how many there can be.
    #[serde(default)]
    pub sessions: Sessions,
    /// Where the gateway stores sessions.
    #[serde(default)]
    #[schemars(extend("x-static" = true))]
    pub store: Store,
    /// The login endpoints.
    #[serde(default)]
    pub login: Login,
    /// WeChat's sealed user data, which mini programs send to `POST /auth/wechat/decrypt`. Not set:
    /// none is opened, and no `session_key` is kept.
    #[serde(default)]
    pub user_data: Option<UserData>,
    /// Limits on logins.
    #[serde(default)]
    pub throttle: Throttle,
    /// Limits on connections and requests.
    #[serde(default)]
    pub limits: Limits,
    /// Logs.
    #[serde(default)]
    #[schemars(extend("x-static" = true))]
    pub telemetry: Telemetry,
}

fn default_data_dir() -> FilePath {
    "data".into()
}

const fn default_drain_timeout() -> Duration {
    Duration::from_secs(30)
}

#[cfg(test)]
mod tests;
