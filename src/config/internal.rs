//! The internal listener.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certificate, FilePath, SecretSource, WeChatAlias, WeChatApiAccess};

/// `internal`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Internal {
    /// Address of the internal listener. Only a loopback address may be without `tls`.
    #[schemars(with = "String", extend("format" = "socket-address", "x-static" = true))]
    pub address: SocketAddr,
    /// TLS. Not set: the listener speaks plain HTTP.
    #[serde(default)]
    #[schemars(extend("x-static" = true))]
    pub tls: Option<InternalTls>,
    /// The programs that may ask, and what they may ask for.
    #[schemars(length(min = 1))]
    pub clients: Vec<InternalClient>,
    /// A further address, where one of the clients calls WeChat's API without showing its token.
    /// Not set: there is none.
    #[serde(default)]
    pub wechat_alias: Option<WeChatAlias>,
}

/// `internal.tls`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InternalTls {
    /// Certificates. The name that the client asks for (SNI) chooses one. The first is for clients
    /// that ask for no name.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// PEM file of certificate authorities. A client must show a certificate of one of them, and
    /// its token. Read at start. Not set: clients show no certificate.
    #[serde(default)]
    pub client_ca_file: Option<FilePath>,
}

/// `internal.clients[]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InternalClient {
    /// The name in the logs, of your choice.
    pub name: String,
    /// The token that the client sends as `Authorization: Bearer …`: 16 characters or more, such as
    /// the output of `openssl rand -base64 32`. A reload reads the file again.
    pub token: SecretSource,
    /// What the client may ask for.
    #[schemars(length(min = 1))]
    pub may: Vec<InternalPermission>,
    /// Which calls of WeChat's API the client may make, if its `may` has `wechat_api`.
    #[serde(default)]
    pub wechat_api: Option<WeChatApiAccess>,
}

/// What a program of the business may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InternalPermission {
    /// Bind people to users, unbind them, and read bindings.
    Bind,
    /// Block people, lift blocks, and list blocked people.
    People,
    /// List and end sessions.
    Sessions,
    /// Ask whether an access token is valid, and whose it is.
    Introspect,
    /// Call WeChat's API without a token, as `wechat_api` says.
    WechatApi,
}
