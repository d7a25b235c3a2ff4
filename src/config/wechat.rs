//! How WeChat is called.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration};

/// `wechat`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeChat {
    /// Base URLs of WeChat's API, tried in this order when one refuses the connection. `http://` is for the emulator on loopback only.
    #[schemars(length(min = 1))]
    pub hosts: Vec<String>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a whole answer, connecting included.
    pub timeout: Duration,
    /// Most retries when WeChat answers -1, "system busy". 0 to 2.
    #[schemars(range(max = 2))]
    pub busy_retries: u8,
    /// Most exchanges under way at once; more are answered `wechat_busy`.
    #[schemars(range(min = 1))]
    pub max_in_flight: usize,
    /// Largest answer read.
    pub max_reply: ByteSize,
    /// Extra certificate authority for `hosts`, a PEM file; the system's are used besides.
    pub ca_file: Option<PathBuf>,
    /// Base URL of WeChat's pages, where browsers are sent to sign in.
    pub pages: String,
    /// URL of WeChat's script that shows the QR code inside the sign-in page. Absent: the page has a link to WeChat's own.
    pub widget: Option<String>,
    /// When to stop calling for a while.
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
    /// Calls in a row that must fail, per app, before the breaker opens.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long it stays open before one call is let through to try.
    pub open_for: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, open_for: Duration::from_secs(5) }
    }
}
