//! Drives the reading of WeChat's replies to a sign-in with a browser.

use super::reply::{self, PageGrant, UserInfo};
use crate::wechat::api::escape_control_characters;
use crate::wechat::fuzz::{check_unionid, read, said, says};

pub(crate) fn page_reply(data: &[u8]) {
    let (grant, info) = reply::unsent();
    // What is only shown to people may be broken in the reply with the profile.
    let shown = escape_control_characters(&String::from_utf8_lossy(data));
    check_grant(data, read(data, grant.reply(data)));
    check_info(shown.as_bytes(), read(shown.as_bytes(), info.reply(data)));
}

fn check_grant(data: &[u8], grant: Option<PageGrant>) {
    let Some(said) = said(data) else { return };
    if let Some(grant) = grant {
        assert!(says(&said, "openid") == Some(grant.openid.as_str()), "{said} names {:?}", grant.openid);
        check_unionid(&said, grant.unionid.as_ref().map(|unionid| unionid.as_str()));
        assert!(says(&said, "access_token").is_some_and(|token| !token.is_empty()), "{said} has no token");
        assert!(!is_snapshot(&said), "{said} is of a visitor");
        let scope = says(&said, "scope").unwrap_or_default();
        assert!(!grant.has_profile || scope.contains("snsapi_"), "{said} allows no profile");
    }
}

fn check_info(data: &[u8], info: Option<UserInfo>) {
    let Some(said) = said(data) else { return };
    if let Some(info) = info {
        assert!(says(&said, "openid") == Some(info.openid.as_str()), "{said} names {:?}", info.openid);
        check_unionid(&said, info.unionid.as_ref().map(|unionid| unionid.as_str()));
        assert!(!is_snapshot(&said), "{said} is of a visitor");
        let texts = [info.profile.nickname(), info.profile.avatar()];
        let is_safe = |text: &str| text.len() <= 4096 && !text.chars().any(char::is_control);
        assert!(texts.into_iter().flatten().all(is_safe), "{said} has a profile that no header carries");
    }
}

fn is_snapshot(said: &serde_json::Value) -> bool {
    said.get("is_snapshotuser").is_some_and(|mark| mark.as_i64() == Some(1) || *mark == true || *mark == "1")
}
