//! A named set of backend servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certificate, Duration, FilePath};

/// `upstreams.<name>`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The servers, at least one.
    #[schemars(length(min = 1))]
    pub servers: Vec<Server>,
    /// How the gateway chooses a server.
    #[serde(default)]
    pub balance: Balance,
    /// Protocol of the servers.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS to the servers. The gateway always verifies the certificate.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
    /// Longest wait for a connection, with the TLS handshake.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Duration,
    /// Longest pause while the gateway waits for data of the server.
    #[serde(default = "default_read_timeout")]
    pub read_timeout: Duration,
    /// Longest wait for the server to accept data.
    #[serde(default = "default_write_timeout")]
    pub write_timeout: Duration,
    /// How long an unused connection stays open. Keep it shorter than the keep-alive time of the
    /// servers, which is often 2 to 5 seconds: a request on a connection that the server is closing
    /// fails.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Duration,
    /// How long the gateway avoids a server that it could not connect to, if other servers answer.
    /// Then the gateway itself tries to connect.
    #[serde(default = "default_retry_after")]
    pub failed_for: Duration,
    /// Whether the backend serves `/admin` in this spelling alone, and not also as `/admin.json` or
    /// `/ADMIN`. `true` changes no request: `check` then does not warn of routes that such a
    /// spelling would lead around.
    #[serde(default)]
    pub exact_paths: bool,
    /// Whether a redirect to a server's own address and port leads to where the client came from:
    /// `Location: http://10.0.0.5:9000/x` becomes `https://shop.example.com/x`. Clients cannot
    /// reach the servers themselves. Also for `Content-Location` and `Refresh`.
    #[serde(default = "default_map_redirects")]
    pub map_redirects: bool,
}

/// `upstreams.<name>.servers[]`: `host:port`, or with a weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Server {
    /// `host:port`
    Address(String),
    /// `{ address: host:port, weight: 2 }`
    Weighted(WeightedServer),
}

/// `{ address: host:port, weight: 2 }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedServer {
    /// `host:port`
    pub address: String,
    /// Share of the requests, relative to the other servers. 1 to 1000. A server that is written as
    /// `host:port` alone has weight 1.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u16,
}

impl Server {
    /// The server as `host:port`.
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) | Self::Weighted(WeightedServer { address, .. }) => address,
        }
    }

    /// The server's weight; 1 if none is written.
    pub const fn weight(&self) -> u16 {
        match self {
            Self::Address(_) => 1,
            Self::Weighted(WeightedServer { weight, .. }) => *weight,
        }
    }
}

/// How the gateway chooses a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One server after the other, by weight.
    #[default]
    RoundRobin,
    /// The server with the fewest requests under way, relative to its weight.
    LeastConnections,
    /// The same server for the same user (by openid), or for the same client address if no user is
    /// signed in.
    ConsistentHash,
}

/// Protocol of the servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 only. gRPC needs it. Without `tls`, with prior knowledge (h2c).
    Http2,
}

/// `upstreams.<name>.tls`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Name that the servers' certificate must have. It is also sent as SNI. Required: without a
    /// name, the certificate cannot be verified.
    pub server_name: String,
    /// PEM file of the certificate authority to trust. Default: the system's.
    #[serde(default)]
    pub ca_file: Option<FilePath>,
    /// PEM files of the servers' own certificates. A server must show one of them and have its key.
    /// Nothing else counts: no authority needs to sign it, its names do not matter, it can be
    /// self-signed or one of an authority, and it is accepted until you remove it here, also after
    /// it has expired. To change a certificate, list the old and the new one. Not with `ca_file`.
    #[serde(default)]
    pub pinned_certificates: Vec<FilePath>,
    /// Certificate that the gateway shows to the servers.
    #[serde(default)]
    pub client_certificate: Option<Certificate>,
}

const fn default_map_redirects() -> bool {
    true
}

const fn default_connect_timeout() -> Duration {
    Duration::from_secs(2)
}

const fn default_read_timeout() -> Duration {
    Duration::from_secs(60)
}

const fn default_write_timeout() -> Duration {
    Duration::from_secs(30)
}

const fn default_idle_timeout() -> Duration {
    Duration::from_millis(1500)
}

const fn default_retry_after() -> Duration {
    Duration::from_secs(10)
}
