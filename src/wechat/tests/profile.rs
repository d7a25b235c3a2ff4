//! The calls for a user's profile after the exchange of a page's code.

use super::page::{OTHER, Page, REFRESH, UNIONID, grant, refusal, shown, user_info, with_profile};
use super::*;
use crate::identity::Profile;

const FRESH: &str = "66_access-token-of-the-second-grant";

fn refreshed(openid: &str) -> Reply {
    Reply::json(&format!(
        r#"{{"access_token":"{FRESH}","expires_in":7200,"refresh_token":"{REFRESH}","openid":"{openid}","scope":"snsapi_userinfo"}}"#
    ))
}

#[tokio::test]
async fn the_user_signs_in_without_a_profile_if_wechat_gives_none() {
    let openid = format!(r#""openid":"{OPENID}""#);
    let json = |body: &str| Reply::json(body);
    let table = [
        ("html", json("<html><body>login</body></html>"), "garbage"),
        ("nothing", json(""), "garbage"),
        ("truncated", json(user_info("").split_at(40).0), "garbage"),
        ("huge", json(&user_info(&format!(r#","pad":"{}""#, "x".repeat(70_000)))), "garbage"),
        ("no openid", json(r#"{"nickname":"x"}"#), "garbage"),
        ("number", json(r#"{"openid":7,"nickname":"x"}"#), "garbage"),
        ("malformed openid", json(r#"{"openid":"o\r\nX: y","nickname":"x"}"#), "garbage"),
        ("malformed unionid", json(&user_info(r#","unionid":"u\u0000""#)), "garbage"),
        ("openid twice", json(&format!(r#"{{{openid},{openid},"nickname":"x"}}"#)), "garbage"),
        ("not UTF-8", Reply::bytes("", b"{\"openid\":\"\xff\"}"), "garbage"),
        ("status", Reply::status("502 Bad Gateway", "", ""), "garbage"),
        ("redirect", Reply::status("302 Found", "Location: /sns/userinfo\r\n", ""), "garbage"),
        ("refused", refusal(48001), "48001"),
        ("refused openid", refusal(40003), "40003"),
        ("busy, which is not asked again", refusal(-1), "-1"),
        ("limited", refusal(45011), "45011"),
        ("unknown", refusal(12345), "other"),
        ("dropped", Reply::Drop, "unreachable"),
        ("never answered", Reply::Hang, "timeout"),
        ("dripping", Reply::Drip, "timeout"),
    ];
    for (case, reply, label) in table {
        let page = Page::with([with_profile(), reply, with_profile()], |config| {
            if label == "timeout" {
                config.timeout = config::Duration::from_secs(1);
            }
            config.breaker.failures = 1;
        })
        .await;

        let exchange = page.exchange().await.unwrap_or_else(|error| panic!("{case}: {error}"));

        assert_eq!(exchange.openid.as_str(), OPENID, "{case}");
        assert_eq!(exchange.unionid.as_ref().map(UnionId::as_str), Some(UNIONID), "{case}");
        assert_eq!(exchange.profile, None, "{case}");
        assert_eq!(page.calls(), ["oauth2/access_token", "userinfo"], "{case}");
        assert_eq!(page.errors(label), 1, "{case}");
        let state = page.harness.metrics.wechat_breaker_state.with_label_values(&["full"]).get();
        assert_eq!(state, 0, "{case}: a missing profile must not stop the sign-in");
    }
}

#[tokio::test]
async fn a_member_for_display_that_is_broken_costs_no_other_member() {
    const AVATAR: &str = "https://thirdwx.qlogo.cn/x/132";
    let half_of_a_byte_sequence = b"\"nickname\":\"\xe6\x9d\x8e\xf0\x9f\"";
    let table: [(&str, &[u8], Option<&str>); 10] = [
        ("half an emoji", br#""nickname":"\u674e\ud83d""#, Some("李")),
        ("the other half", br#""nickname":"\ude00\u674e""#, Some("李")),
        ("bytes cut in two", half_of_a_byte_sequence, Some("李")),
        ("a raw control character", b"\"nickname\":\"a\x14b\"", Some("ab")),
        ("a raw one after a backslash", b"\"nickname\":\"a\\\\\nb\"", Some("a\\b")),
        ("a number", br#""nickname":7"#, None),
        ("an object", br#""nickname":{"a":"\ud83d"}"#, None),
        ("null", br#""nickname":null"#, None),
        ("twice", br#""nickname":"x","nickname":"y""#, Some("y")),
        ("another member", br#""nickname":"x","city":"\ud83d","sex":"\udfff","privilege":{}"#, Some("x")),
    ];
    for (case, members, nickname) in table {
        let start = format!(r#"{{"openid":"{OPENID}","unionid":"{UNIONID}","headimgurl":"{AVATAR}","#);
        let body = [start.as_bytes(), members, b"}"].concat();
        let first = Reply::json(&grant("snsapi_login", ""));
        let page = Page::new([first, Reply::bytes("", &body)]).await;

        let exchange = page.exchange().await.unwrap();

        assert_eq!(exchange.unionid.as_ref().map(UnionId::as_str), Some(UNIONID), "{case}");
        let profile = exchange.profile.unwrap_or_else(|| panic!("{case}: no profile"));
        assert_eq!((profile.nickname(), profile.avatar()), (nickname, Some(AVATAR)), "{case}");
    }
}

#[tokio::test]
async fn a_users_name_is_cut_to_size_and_cleaned() {
    let long = "长".repeat(8 * 1024 / 3);
    for (nickname, avatar, profile) in [
        (r"a\r\nX-Role: admin\u0000", "", Some(Profile::new("aX-Role: admin", ""))),
        (&*long, "", Some(Profile::new(&"长".repeat(64), ""))),
        ("", "", None),
        (r"\u0000\t", "javascript:alert(1)", None),
        ("<script>", r"https://a.example/\r\n", Some(Profile::new("<script>", ""))),
    ] {
        let body = format!(r#"{{"openid":"{OPENID}","nickname":"{nickname}","headimgurl":"{avatar}"}}"#);
        let page = Page::new([with_profile(), Reply::json(&body)]).await;

        assert_eq!(page.exchange().await.unwrap().profile, profile, "{}", shown(&body));
    }
    let nothing = format!(r#"{{"openid":"{OPENID}","nickname":null}}"#);
    let page = Page::new([with_profile(), Reply::json(&nothing)]).await;
    assert_eq!(page.exchange().await.unwrap().profile, None);
}

#[tokio::test]
async fn replies_that_name_two_users_sign_neither_in() {
    let other_openid = user_info("").replace(OPENID, OTHER);
    let other_unionid = user_info(&format!(r#","unionid":"{OTHER}""#));
    let same = user_info(&format!(r#","unionid":"{UNIONID}""#));
    let table: [(&str, Vec<Reply>); 4] = [
        ("openid", vec![Reply::json(&other_openid)]),
        ("unionid", vec![Reply::json(&other_unionid)]),
        ("refreshed for another", vec![refusal(42001), refreshed(OTHER), Reply::json(&same)]),
        ("openid at the second", vec![refusal(42001), refreshed(OPENID), Reply::json(&other_openid)]),
    ];
    for (case, replies) in table {
        let page = Page::new([with_profile()].into_iter().chain(replies)).await;

        let error = page.exchange().await.unwrap_err();

        assert_eq!(error, WeChatError::UnexpectedReply(ReplyFault::OtherPerson), "{case}");
        assert_eq!(page.errors("garbage"), 1, "{case}");
    }
    // A unionid that only one reply has is no contradiction.
    for (first, second) in [("", &*same), (&*format!(r#","unionid":"{UNIONID}""#), &*user_info(""))] {
        let grant = grant("snsapi_login", first);
        let page = Page::new([Reply::json(&grant), Reply::json(second)]).await;

        let unionid = page.exchange().await.unwrap().unionid;
        assert_eq!(unionid.as_ref().map(UnionId::as_str), Some(UNIONID));
    }
}

#[tokio::test]
async fn a_stale_token_is_refreshed_once() {
    for errcode in [40001, 40014, 42001] {
        let info = Reply::json(&user_info(""));
        let page = Page::new([with_profile(), refusal(errcode), refreshed(OPENID), info]).await;

        let exchange = page.exchange().await.unwrap();

        assert_eq!(exchange.profile.unwrap().nickname(), Some("李😀"), "{errcode}");
        assert_eq!(
            page.fake.requests()[2..],
            [
                format!(
                    "GET /sns/oauth2/refresh_token?appid=wxe000000000000006&grant_type=refresh_token&refresh_token={REFRESH} HTTP/1.1"
                ),
                format!("GET /sns/userinfo?access_token={FRESH}&openid={OPENID}&lang=zh_CN HTTP/1.1"),
            ]
        );
    }
}

#[tokio::test]
async fn a_token_that_stays_stale_gives_no_profile() {
    let all = ["oauth2/access_token", "userinfo", "oauth2/refresh_token", "userinfo"];
    let no_refresh =
        Reply::json(&grant("snsapi_login", "").replace(&format!(r#""refresh_token":"{REFRESH}","#), ""));
    let table: [(&str, Reply, Vec<Reply>, usize); 5] = [
        ("stale again", with_profile(), vec![refreshed(OPENID), refusal(42001)], 4),
        ("refresh refused", with_profile(), vec![refusal(40030)], 3),
        ("refresh expired", with_profile(), vec![refusal(42002)], 3),
        ("refresh is html", with_profile(), vec![Reply::json("<html>")], 3),
        ("no refresh token", no_refresh, vec![], 2),
    ];
    for (case, first, rest, calls) in table {
        let page = Page::new([first, refusal(42001)].into_iter().chain(rest)).await;

        let exchange = page.exchange().await.unwrap_or_else(|error| panic!("{case}: {error}"));

        assert_eq!((exchange.openid.as_str(), exchange.profile), (OPENID, None), "{case}");
        assert_eq!(page.calls(), all[..calls], "{case}");
    }
}

#[tokio::test]
async fn all_calls_of_a_sign_in_share_one_deadline() {
    let slow = |reply| Reply::Late(Duration::from_secs(1), Box::new(reply));
    // The deadline is long enough for each call, but not for both.
    let page = Page::with([slow(with_profile()), slow(Reply::json(&user_info("")))], |config| {
        config.timeout = config::Duration::from_millis(1700);
    })
    .await;

    let exchange = page.exchange().await.unwrap();

    assert_eq!(exchange.profile, None);
    assert_eq!(page.calls(), ["oauth2/access_token", "userinfo"]);
    assert_eq!(page.errors("timeout"), 1);
}
