//! `users[]`: the users with settings of their own.

use serde::Deserialize;

/// `users[]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The person's WeChat name, as given to `wx.login`.
    pub wxid: String,
    /// The person's nickname; the wxid if absent.
    #[serde(default)]
    pub nickname: Option<String>,
    /// The address of the person's picture; derived from the wxid if absent.
    #[serde(default)]
    pub avatar: Option<String>,
    /// 1 is male, 2 female; 0 if absent, which WeChat has sent for every user since 2021.
    #[serde(default)]
    pub sex: u8,
    /// The province; empty if absent, as for every user since 2021.
    #[serde(default)]
    pub province: String,
    /// The city; empty if absent, as for every user since 2021.
    #[serde(default)]
    pub city: String,
    /// The country; empty if absent, as for every user since 2021.
    #[serde(default)]
    pub country: String,
    /// The operators' privileges the person has, such as `chinaunicom`.
    #[serde(default)]
    pub privilege: Vec<String>,
    /// The person's mobile number in China, without +86; derived from the wxid if absent.
    #[serde(default)]
    pub phone: Option<String>,
    /// Whether WeChat blocks the person as high-risk: their codes answer 40226.
    #[serde(default)]
    pub risk: bool,
    /// Whether the person always sees the snapshot page of an official account. Their data from
    /// `snsapi_userinfo` is then invented and marked `is_snapshotuser`.
    #[serde(default)]
    pub snapshot: bool,
    /// What the pages say below the name of the person; derived from the other keys if absent.
    #[serde(default)]
    pub caption: Option<String>,
}

impl User {
    /// A default user.
    pub fn new(wxid: impl Into<String>) -> Self {
        Self { wxid: wxid.into(), ..Self::default() }
    }
}
