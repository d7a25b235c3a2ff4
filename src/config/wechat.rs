//! How the gateway calls WeChat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration, FilePath};

/// `wechat`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeChat {
    /// Base URLs of WeChat's API. If one refuses the connection, the gateway tries the next.
    /// `http://` is for the emulator on loopback only.
    #[schemars(length(min = 1))]
    pub hosts: Vec<String>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer, with the time to connect.
    pub timeout: Duration,
    /// Maximum number of retries after the answer -1, "system busy". 0 to 2.
    #[schemars(range(max = 2))]
    pub busy_retries: u8,
    /// Maximum number of calls under way. Further logins are answered `wechat_busy`.
    #[schemars(range(min = 1))]
    pub max_in_flight: usize,
    /// Largest answer that the gateway reads.
    pub max_reply: ByteSize,
    /// PEM file of a further certificate authority for `hosts`. The system's authorities stay
    /// trusted.
    pub ca_file: Option<FilePath>,
    /// Base URL of WeChat's pages, where browsers go to sign in.
    pub pages: String,
    /// URL of WeChat's script that shows the QR code on the sign-in page. Not set: the page has a
    /// link to WeChat's own page.
    pub widget: Option<String>,
    /// When the gateway stops calling WeChat for a while.
    pub breaker: Breaker,
}

impl Default for WeChat {
    fn default() -> Self {
        Self {
            hosts: vec!["https://api.weixin.qq.com".into(), "https://api2.weixin.qq.com".into()],
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(3),
            busy_retries: 2,
            max_in_flight: 512,
            max_reply: ByteSize::kib(64),
            ca_file: None,
            pages: "https://open.weixin.qq.com".into(),
            widget: Some("https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js".into()),
            breaker: Breaker::default(),
        }
    }
}

/// `wechat.breaker`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failed calls of one app, one after the other, that open the breaker.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long the breaker stays open. After it, one call is made as a trial.
    pub open_for: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, open_for: Duration::from_secs(5) }
    }
}
