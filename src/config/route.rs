//! Which requests go to which backend, and who may send them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Cors, Duration, Rate, Template, UnknownUnionId};

/// `routes[]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name in logs and metrics. It must be unique. Default: the path, or host and path.
    #[serde(default)]
    pub name: Option<String>,
    /// Hosts of this route: exact names, or `*.example.com` for every name below it. Empty: every
    /// host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefix in whole segments: `/api` matches `/api` and `/api/x`, but not `/apix`. Letter
    /// case matters. If the backend reads `/API` as `/api`, make sure that no shorter public path
    /// matches `/API`. On Windows the same is true of `/api.` and `/api%20`: it drops trailing dots
    /// and blanks. A pattern such as `/api/*` is refused. For a path with the character `*`, write
    /// the escape `%2A`.
    pub path: String,
    /// Methods of this route. Empty: GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS. Only a route
    /// that names them serves QUERY and the methods of WebDAV, such as PROPFIND, MKCOL, COPY, MOVE,
    /// LOCK, UNLOCK, REPORT and SEARCH. A COPY or MOVE must stay on this route.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Who may call this route.
    pub access: Access,
    /// Apps whose users may call, by their names under `apps`. Empty: every app.
    #[serde(default)]
    pub apps: Vec<String>,
    /// Names under `lists`. The caller must be on one of these lists. Empty: every caller is
    /// allowed.
    #[serde(default)]
    pub allow_lists: Vec<String>,
    /// Names under `lists`. A caller who is on one of these lists is refused, even if another list
    /// allows them.
    #[serde(default)]
    pub deny_lists: Vec<String>,
    /// Whether a caller whose unionid is not known is accepted if a list in `deny_lists` has
    /// unionids. The gateway cannot know whether such a caller is on the list. Default: `refuse`.
    #[serde(default)]
    pub unknown_unionid: Option<UnknownUnionId>,
    /// Whether the caller's unionid must be known.
    #[serde(default)]
    pub require_unionid: bool,
    /// Whether the caller must be bound to a user of your own.
    #[serde(default)]
    pub require_user: bool,
    /// Claims that the caller's user must have. The user must have one of the values listed for
    /// each name. Empty: none.
    #[serde(default)]
    pub require_claims: BTreeMap<String, Vec<String>>,
    /// Limits on the rate of requests. A request must pass all of them. At most 4. Each takes 17
    /// bytes times `throttle.capacity` of memory at start; a limit by subject takes twice that if
    /// access is optional.
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    /// Apps where a browser without a session can sign in, by their names under `apps`. The first
    /// is preferred. Empty: every website and official account that this route allows.
    #[serde(default)]
    pub sign_in: Vec<String>,
    /// Whether a page of another site can use the session cookie for requests other than reads.
    #[serde(default)]
    pub allow_cross_site: bool,
    /// Which pages of other origins may read answers on this route. The backend's own
    /// `Access-Control-*` headers are then replaced. Not set: answers pass as the backend writes
    /// them.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// Whether shared caches can keep answers to signed-in users for as long as the backend says.
    /// By default the gateway makes such an answer `private`, unless the user was identified by
    /// `Authorization`, or the backend says `public` or `s-maxage`. In any case `Vary` names the
    /// header that identified the user, so that a cache keeps one answer for each user.
    #[serde(default)]
    pub allow_shared_caching: bool,
    /// Which paths are accepted although backends read them in different ways.
    #[serde(default)]
    pub paths: Paths,
    /// The backend of this route: a name under `upstreams`.
    pub upstream: String,
    /// Longest pause of the upstream on this route. `0s`: no limit, for streams of events and long
    /// polls. Default: the upstream's own `read_timeout`.
    #[serde(default)]
    pub read_timeout: Option<Duration>,
    /// Lowest rate of a request's body on this route, in bytes per second. `0B`: no limit. Default:
    /// `limits.min_body_rate`, or no limit if the upstream speaks HTTP/2.
    #[serde(default)]
    pub min_body_rate: Option<ByteSize>,
    /// Whether WebSocket connections are allowed. Otherwise a request for one is answered 403.
    /// Needs an upstream of HTTP/1.
    #[serde(default)]
    pub websocket: bool,
    /// How a request without a valid token is refused: a word, or a template.
    #[serde(default)]
    pub reject: Reject,
    /// Whether a token is also read from the query parameters of `tokens.sources.query`. URLs stand
    /// in logs of proxies, in histories, and in the `Referer` of later requests: set it only for
    /// clients that cannot send a header.
    #[serde(default)]
    pub token_in_query: bool,
    /// Whether the backend receives the client's token. By default the gateway removes it.
    #[serde(default)]
    pub forward_token: bool,
}

impl Route {
    /// The route's name in logs and metrics.
    pub fn full_name(&self) -> String {
        let first_host = self.hosts.first().map_or("", String::as_str);
        self.name.clone().unwrap_or_else(|| format!("{first_host}{}", self.path))
    }
}

/// `routes[].paths`: which paths are accepted although backends read them in different ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Spellings that are accepted on this route: `semicolon`, `empty_segment`, `encoded_slash`,
    /// `encoded_reserved`, `brackets`, `raw_utf8`, `legacy_escapes`. The path must be a path of
    /// this route in every reading, and is forwarded byte for byte. See [paths](paths.md). Empty:
    /// none.
    #[serde(default)]
    pub allow: Vec<PathSpelling>,
}

/// A spelling of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathSpelling {
    /// `;`, as in `/shop/cart;jsessionid=1`.
    Semicolon,
    /// `//`, as in `/api//orders`.
    EmptySegment,
    /// `%2F`, as in `/objects/a%2Fb`.
    EncodedSlash,
    /// `%23`, `%3F` and `%3B`: an escaped `#`, `?` or `;`.
    EncodedReserved,
    /// `[` and `]`. They are accepted on every route, because all backends read them in the same
    /// way.
    Brackets,
    /// UTF-8 without escapes.
    RawUtf8,
    /// Escapes that are not UTF-8, such as those of GBK.
    LegacyEscapes,
}

/// `routes[].rate_limits[]`: a rate and a burst. Requests beyond it are answered 429.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Which requests count together.
    pub by: RateLimitKey,
    /// Average rate.
    pub rate: Rate,
    /// Maximum number of requests at once after a quiet time. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// Which requests count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// Requests of one client address, or of one IPv6 network of `throttle.ipv6_prefix`.
    Address,
    /// Requests of one user in one app. Requests without a user count by address.
    Subject,
    /// Requests of one app. Requests without a user count by address.
    App,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A caller with a valid token or session.
    Authenticated,
    /// Any client. The gateway does not look at tokens and passes on no identity.
    Public,
    /// Any client. The gateway passes on the identity of a valid token or session. It refuses an
    /// invalid token. It ignores the cookie of a session that has ended, because browsers go on
    /// sending it.
    Optional,
}

/// `routes[].reject`: how a request without a valid token is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reject {
    /// One of the shapes that have a name.
    Named(RejectShape),
    /// A shape of the operator's own.
    Template(RejectTemplate),
}

impl Default for Reject {
    fn default() -> Self {
        Self::Named(RejectShape::Problem)
    }
}

/// `routes[].reject` as a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectTemplate {
    /// HTTP status of refusals: 200, or 400 to 599. Default: the status of the refusal.
    #[serde(default)]
    pub status: Option<u16>,
    /// The JSON of refusals. In a text, `{code}`, `{message}`, `{status}` and `{request_id}` stand
    /// for values. A text that is only `{status}` becomes a number. Write `{{` for a brace.
    pub body: Template,
}

/// How a request without a valid token is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectShape {
    /// 401 with `WWW-Authenticate` and a problem document.
    #[default]
    Problem,
    /// 200 with `{"code":401,"message":...}`, for clients that only look at the body.
    #[serde(rename = "code_200")]
    Code200,
}
