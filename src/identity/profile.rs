//! Nickname and avatar of a person: for people to read, never for a decision.

use std::sync::Arc;

/// Longest nickname, in characters; WeChat's are much shorter.
const MAX_NICKNAME_CHARACTERS: usize = 64;
/// Longest URL of an avatar, in bytes.
const MAX_AVATAR_BYTES: usize = 512;

/// Nickname and avatar, if the person gave them.
///
/// Both are the person's own words, cut to size: encode them wherever they go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    nickname: Option<Arc<str>>,
    avatar: Option<Arc<str>>,
}

impl Profile {
    /// Makes a profile of WeChat's values. The nickname loses control characters and is cut to 64
    /// characters. The avatar is kept only if it is an `http` or `https` URL of at most 512 visible
    /// ASCII characters.
    pub fn new(nickname: &str, avatar: &str) -> Self {
        let shown = nickname.chars().filter(|character| !character.is_control());
        let nickname: String = shown.take(MAX_NICKNAME_CHARACTERS).collect();
        let is_url = (avatar.starts_with("https://") || avatar.starts_with("http://"))
            && avatar.len() <= MAX_AVATAR_BYTES
            && avatar.bytes().all(|byte| byte.is_ascii_graphic());
        Self {
            nickname: Some(nickname.trim()).filter(|nickname| !nickname.is_empty()).map(Into::into),
            avatar: is_url.then(|| avatar.into()),
        }
    }

    /// The nickname: 1 to 64 characters, none of them a control character.
    pub fn nickname(&self) -> Option<&str> {
        self.nickname.as_deref()
    }

    /// The URL of a picture of the person.
    pub fn avatar(&self) -> Option<&str> {
        self.avatar.as_deref()
    }

    /// Whether there is neither a nickname nor an avatar.
    pub fn is_empty(&self) -> bool {
        self.nickname.is_none() && self.avatar.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nickname_is_cut_to_size_and_loses_control_characters_alone() {
        for (nickname, kept) in [
            ("", None),
            (" \n\t", None),
            ("alice", Some("alice".to_owned())),
            ("a\r\nX-Role: admin\0", Some("aX-Role: admin".to_owned())),
            ("👩‍👩‍👧 李", Some("👩‍👩‍👧 李".to_owned())),
            (&"长".repeat(8192), Some("长".repeat(64))),
        ] {
            assert_eq!(Profile::new(nickname, "").nickname(), kept.as_deref(), "{nickname:?}");
        }
    }

    #[test]
    fn avatar_is_a_url_or_nothing() {
        let long = format!("https://{}", "a".repeat(505));
        for (avatar, is_kept) in [
            ("https://thirdwx.qlogo.cn/mmopen/vi_32/x/132", true),
            ("http://wx.qlogo.cn/x", true),
            ("", false),
            ("javascript:alert(1)", false),
            ("data:image/png;base64,AAAA", false),
            ("//wx.qlogo.cn/x", false),
            ("https://wx.qlogo.cn/a b", false),
            ("https://wx.qlogo.cn/é", false),
            ("https://wx.qlogo.cn/\r\nx", false),
            (&long, false),
        ] {
            assert_eq!(Profile::new("", avatar).avatar().is_some(), is_kept, "{avatar:?}");
        }
    }
}
