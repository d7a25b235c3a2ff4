//! Calls of WeChat's API by programs of the business.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rate;

/// `internal.clients[].wechat_api`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeChatApiAccess {
    /// The apps for which the client may call.
    #[schemars(length(min = 1))]
    pub apps: Vec<String>,
    /// The app that is meant if the request does not name one: through a proxy, or at
    /// `internal.wechat_alias`. Default: the app, if `apps` has one alone.
    #[serde(default)]
    pub default_app: Option<String>,
    /// Prefixes of the paths that the client may call, such as `/wxa/msg_sec_check` or
    /// `/cgi-bin/media`. A prefix ends at a segment: `/wxa/msg` does not permit
    /// `/wxa/msg_sec_check`. Without one the client calls nothing. No prefix permits
    /// `/cgi-bin/token`, `/cgi-bin/stable_token`, `/cgi-bin/component` and `/sns`.
    #[serde(default)]
    pub paths: Vec<String>,
    /// How often the client may call each of these prefixes, at this gateway. As many calls as the
    /// number says may come at once.
    #[serde(default = "default_rate")]
    pub rate: Rate,
}

const fn default_rate() -> Rate {
    Rate { count: 100, per: std::time::Duration::from_secs(1) }
}

/// `internal.wechat_alias`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeChatAlias {
    /// Address for programs that call `http://api.weixin.qq.com` and cannot show a token, such as
    /// `127.0.0.1:80` with the line `127.0.0.1 api.weixin.qq.com` in `/etc/hosts` of the program.
    /// It must be a loopback address. Every program that reaches it calls as `client`.
    #[schemars(with = "String", extend("format" = "socket-address", "x-static" = true))]
    pub address: SocketAddr,
    /// The client, of `internal.clients`, whose `wechat_api` holds here.
    pub client: String,
}
