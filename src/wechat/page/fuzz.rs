//! Drives the reading of WeChat's replies to a sign-in with a browser.

use super::reply;
use crate::wechat::fuzz::{check_unionid, read, said, says};

pub(crate) fn page_reply(data: &[u8]) {
    let (grant, info) = reply::unsent();
    let (grant, info) = (read(data, grant.reply(data)), read(data, info.reply(data)));
    let Some(said) = said(data) else { return };
    if let Some(grant) = grant {
        assert!(says(&said, "openid") == Some(grant.openid.as_str()), "{said} names {:?}", grant.openid);
        check_unionid(&said, grant.unionid.as_ref().map(|unionid| unionid.as_str()));
        assert!(says(&said, "access_token").is_some_and(|token| !token.is_empty()), "{said} has no token");
        assert!(!is_snapshot(&said), "{said} is of a visitor");
        let scope = says(&said, "scope").unwrap_or_default();
        assert!(!grant.has_profile || scope.contains("snsapi_"), "{said} allows no profile");
    }
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
