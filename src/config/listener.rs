//! Where clients connect.

use std::net::SocketAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FilePath, value};

/// `listeners[]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port to bind, such as `0.0.0.0:8443` or `[::]:8443`.
    #[schemars(with = "String", extend("format" = "socket-address"))]
    pub address: SocketAddr,
    /// TLS. Not set: the listener speaks plain HTTP.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Whether the listener accepts HTTP/2 without TLS (prior knowledge) as well as HTTP/1.1. Not
    /// with `tls`.
    #[serde(default)]
    pub h2c: bool,
    /// Load balancers, as addresses or CIDR blocks, that begin each connection with a PROXY
    /// protocol header (version 1 or 2). The header says who the client is. If the list is not
    /// empty, connections from other addresses are closed. Empty: no such header is read.
    #[serde(default, deserialize_with = "value::networks")]
    #[schemars(schema_with = "value::networks_schema")]
    pub proxy_protocol: Vec<IpNet>,
    /// Path where the listener answers the probes of load balancers, such as `/healthz`: with 200,
    /// and with 503 while the gateway drains. GET, HEAD and OPTIONS, by every version of HTTP, with
    /// any host or none. No route gets such a request, on any host. Not set: probes are requests
    /// like others.
    #[serde(default)]
    pub health: Option<String>,
}

/// `listeners[].tls`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates. The name that the client asks for (SNI) chooses one. The first is for clients
    /// that ask for no name.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// PEM file of certificate authorities. A client must show a certificate of one of them. Read
    /// at start. Not set: clients show no certificate.
    #[serde(default)]
    pub client_ca_file: Option<FilePath>,
    /// Whether the listener offers HTTP/2.
    #[serde(default = "enabled")]
    pub http2: bool,
}

/// `listeners[].tls.certificates[]`. The gateway reads both files again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file with the certificate, followed by its chain.
    pub certificate: FilePath,
    /// PEM file with the private key.
    pub key: FilePath,
}

const fn enabled() -> bool {
    true
}
