//! Where clients connect.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value;

/// `listeners[]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port to bind, such as `0.0.0.0:8443` or `[::]:8443`.
    #[schemars(with = "String", extend("format" = "socket-address"))]
    pub address: SocketAddr,
    /// TLS; without it the listener speaks plain HTTP.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Whether HTTP/2 without TLS (prior knowledge) is accepted beside HTTP/1.1. Only without `tls`.
    #[serde(default)]
    pub h2c: bool,
    /// Load balancers, as addresses or CIDR blocks, that begin each connection with a header of the PROXY protocol (version 1
    /// or 2), which says who the client is. Where there are any, nobody else is served. Empty: no such header is read.
    #[serde(default, deserialize_with = "value::networks")]
    #[schemars(schema_with = "value::networks_schema")]
    pub proxy_protocol: Vec<IpNet>,
}

/// `listeners[].tls`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates, chosen by the name the client asks for (SNI). The first answers a client that asks for none.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// PEM file of certificate authorities: a client must show a certificate of one of them. Read at start. Absent: clients show
    /// none.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered.
    #[serde(default = "enabled")]
    pub http2: bool,
}

/// `listeners[].tls.certificates[]`; both files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file with the certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

const fn enabled() -> bool {
    true
}
