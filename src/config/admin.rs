//! The admin listener.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `admin`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address of the admin listener. It asks for no password: do not bind it to a public network.
    #[schemars(with = "String", extend("format" = "socket-address"))]
    pub address: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 9901).into() }
    }
}
