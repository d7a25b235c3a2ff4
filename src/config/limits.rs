//! Limits on connections and requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration};

/// `limits`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest header block. A larger one is answered 431.
    #[schemars(extend("x-static" = true))]
    pub max_header: ByteSize,
    /// Maximum number of header fields of a request. More are answered 431.
    #[schemars(range(min = 1))]
    pub max_header_fields: usize,
    /// What happens to header names with characters other than letters, digits and `-`. Backends
    /// can take such a name for another one.
    pub header_names: HeaderNames,
    /// Longest request target. A longer one is answered 414.
    pub max_uri: ByteSize,
    /// Longest wait for a whole request header. The time of the first request begins with the
    /// connection and includes the TLS handshake; that of later requests begins with the first
    /// byte.
    #[schemars(extend("x-static" = true))]
    pub header_timeout: Duration,
    /// How long a connection can be idle between requests. Longer than the 60 seconds after which
    /// common load balancers give up an idle connection: the side that sends the next request
    /// should be the one that closes.
    #[schemars(extend("x-static" = true))]
    pub keepalive_timeout: Duration,
    /// Longest pause while a client sends a body.
    pub read_timeout: Duration,
    /// Longest wait for a client to accept data.
    pub write_timeout: Duration,
    /// Maximum number of connections, of all listeners together. `docs/limits.md` says how much
    /// memory and how many open files they need.
    #[schemars(range(min = 1), extend("x-static" = true))]
    pub max_connections: usize,
    /// Maximum number of connections of one client address, or of one /64 network of IPv6.
    /// `trusted_proxies` have no such limit.
    #[schemars(range(min = 1), extend("x-static" = true))]
    pub max_connections_per_address: usize,
    /// Maximum number of TLS handshakes at the same time. A handshake begins when the client's
    /// whole first message has arrived. Beyond this the client with the most handshakes loses its
    /// oldest one.
    #[schemars(range(min = 1), extend("x-static" = true))]
    pub max_handshakes: usize,
    /// Maximum number of forwarded requests under way, of all listeners together. A WebSocket or a
    /// stream of events is one for as long as it lasts. Each can take a connection to a server, so
    /// fewer are forwarded if the process may not open so many files.
    #[schemars(range(min = 1), extend("x-static" = true))]
    pub max_requests: usize,
    /// Maximum number of forwarded requests under way of one client address, or of one /64 network
    /// of IPv6. The more are under way in all, the fewer one address may have.
    #[schemars(range(min = 1), extend("x-static" = true))]
    pub max_requests_per_address: usize,
    /// Longest wait of a request for others to end, if too many are under way. Then it is answered
    /// 503.
    #[schemars(extend("x-static" = true))]
    pub max_request_wait: Duration,
    /// Lowest average rate of a request's body, in bytes per second, after the first 10 seconds. A
    /// slower body is answered 408. `0B`: no limit. Bodies on routes whose upstream speaks HTTP/2
    /// have no such limit: they are often streams, such as those of gRPC.
    pub min_body_rate: ByteSize,
    /// Most bytes of a request's body that are read and discarded after the gateway has answered
    /// without them. Many clients read the answer only when they have sent the body.
    pub linger_bytes: ByteSize,
    /// Longest time for that; it ends earlier if the client is silent for 5 seconds. `0s`: the
    /// connection closes at once, and such clients report an error instead of the answer.
    pub linger_time: Duration,
    /// Whether a client of HTTP/1 that ends its side of the connection after the request still gets
    /// its answer. Otherwise the request is broken off, as if the client had gone away.
    pub half_close: bool,
    /// HTTP/2 of clients.
    #[schemars(extend("x-static" = true))]
    pub h2: H2Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_header: ByteSize::kib(32),
            max_header_fields: 100,
            header_names: HeaderNames::Refuse,
            max_uri: ByteSize::kib(8),
            header_timeout: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(75),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connections: 50_000,
            max_connections_per_address: 1000,
            max_handshakes: 4096,
            max_requests: 25_000,
            max_requests_per_address: 2000,
            max_request_wait: Duration::from_secs(5),
            min_body_rate: ByteSize(100),
            linger_bytes: ByteSize::mib(16),
            linger_time: Duration::from_secs(30),
            half_close: false,
            h2: H2Limits::default(),
        }
    }
}

/// What happens to header names with characters other than letters, digits and `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeaderNames {
    /// The request is answered 400.
    Refuse,
    /// The header is removed.
    Strip,
    /// The header is forwarded, for backends that read names such as `access_token`.
    Pass,
}

/// `limits.h2`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct H2Limits {
    /// Maximum number of requests at the same time on one connection.
    #[schemars(range(min = 1))]
    pub max_concurrent_streams: u32,
    /// How long a connection without requests stays open. Then the client is told of the end, and
    /// knows of a request that is on its way that it was not processed.
    pub idle_timeout: Duration,
}

impl Default for H2Limits {
    fn default() -> Self {
        Self { max_concurrent_streams: 100, idle_timeout: Duration::from_secs(75) }
    }
}
