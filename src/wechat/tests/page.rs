//! The exchange of a page's code, and the calls for a profile that follow it.

use super::*;
use crate::identity::Profile;

pub(super) const UNIONID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
pub(super) const OTHER: &str = "oOtherPersonOtherPersonOther";
const TOKEN: &str = "66_access-token-of-the-first-grant";
pub(super) const REFRESH: &str = "66_refresh-token-of-the-first-grant";

/// A reply to the exchange of a code, with the changes that a test needs.
pub(super) fn grant(scope: &str, more: &str) -> String {
    format!(
        r#"{{"access_token":"{TOKEN}","expires_in":7200,"refresh_token":"{REFRESH}","openid":"{OPENID}","scope":"{scope}"{more}}}"#
    )
}

pub(super) fn with_profile() -> Reply {
    Reply::json(&grant("snsapi_userinfo", &format!(r#","unionid":"{UNIONID}""#)))
}

pub(super) fn user_info(more: &str) -> String {
    format!(
        r#"{{"openid":"{OPENID}","nickname":"李\ud83d\ude00","sex":0,"language":"","city":"","province":"","country":"","headimgurl":"https:\/\/thirdwx.qlogo.cn\/mmopen\/vi_32\/x\/132","privilege":[]{more}}}"#
    )
}

pub(super) fn refusal(errcode: i64) -> Reply {
    Reply::json(&format!(r#"{{"errcode":{errcode},"errmsg":"no, rid: 652d44d0-1d0af18b-5b069232"}}"#))
}

pub(super) fn browser_apps() -> BTreeMap<String, config::App> {
    let of = |appid: &str, kind, scope| config::App { kind, scope, ..app(appid) };
    BTreeMap::from([
        ("shop".to_owned(), app("wx4f4bc4dec97d474b")),
        ("site".to_owned(), of("wxe000000000000004", AppKind::Website, None)),
        ("base".to_owned(), of("wxe000000000000005", AppKind::OfficialAccount, None)),
        ("full".to_owned(), of("wxe000000000000006", AppKind::OfficialAccount, Some(OAuthScope::UserInfo))),
    ])
}

pub(super) struct Page {
    pub(super) fake: Fake,
    pub(super) harness: Harness,
}

impl Page {
    pub(super) async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(replies, |_| {}).await
    }

    pub(super) async fn with(
        replies: impl IntoIterator<Item = Reply>,
        change: impl FnOnce(&mut config::WeChat),
    ) -> Self {
        let fake = Fake::start(replies).await;
        let harness = Harness::with_apps(&browser_apps(), &[&fake.url()], change);
        Self { fake, harness }
    }

    pub(super) async fn exchange(&self) -> Result<PageExchange, WeChatError> {
        let wechat = &self.harness.wechat;
        wechat.exchange_page_code(wechat.app("full").unwrap(), &Code::parse(CODE).unwrap()).await
    }

    /// The paths called so far, without `/sns/` and their parameters.
    pub(super) fn calls(&self) -> Vec<String> {
        let path = |line: &String| {
            let target = line.split(' ').nth(1).unwrap();
            target.split('?').next().unwrap().strip_prefix("/sns/").unwrap().to_owned()
        };
        self.fake.requests().iter().map(path).collect()
    }

    pub(super) fn errors(&self, label: &str) -> u64 {
        self.harness.metrics.wechat_errors.with_label_values(&["full", label]).get()
    }
}

pub(super) fn shown(body: &str) -> String {
    body.chars().take(200).collect()
}

#[tokio::test]
async fn the_user_and_the_profile_are_requested_as_documented() {
    for scope in ["snsapi_userinfo", "snsapi_login", "snsapi_base,snsapi_userinfo"] {
        let body = user_info(&format!(r#","unionid":"{UNIONID}""#));
        let page = Page::new([Reply::json(&grant(scope, "")), Reply::json(&body)]).await;

        let exchange = page.exchange().await.unwrap();

        assert_eq!(exchange.openid.as_str(), OPENID);
        assert_eq!(exchange.unionid.as_ref().map(UnionId::as_str), Some(UNIONID));
        let profile = Profile::new("李😀", "https://thirdwx.qlogo.cn/mmopen/vi_32/x/132");
        assert_eq!(exchange.profile, Some(profile));
        assert_eq!(
            page.fake.requests(),
            [
                format!(
                    "GET /sns/oauth2/access_token?appid=wxe000000000000006&secret={SECRET}&code={CODE}&grant_type=authorization_code HTTP/1.1"
                ),
                format!("GET /sns/userinfo?access_token={TOKEN}&openid={OPENID}&lang=zh_CN HTTP/1.1"),
            ]
        );
        for api in ["oauth2_access_token", "userinfo"] {
            let duration = page.harness.metrics.wechat_request_duration.with_label_values(&["full", api]);
            assert_eq!(duration.get_sample_count(), 1, "{api}");
        }
    }
}

#[tokio::test]
async fn a_scope_without_a_profile_gives_only_the_openid() {
    let scopes =
        [r#""snsapi_base""#, r#""""#, "null", r#""snsapi_USERINFO""#, r#""snsapi_userinfo2""#, r#""all""#];
    for scope in scopes {
        let body = format!(
            r#"{{"access_token":"{TOKEN}","openid":"{OPENID}","unionid":"{UNIONID}","scope":{scope}}}"#
        );
        let page = Page::new([Reply::json(&body)]).await;

        let exchange = page.exchange().await.unwrap();

        assert_eq!(exchange.openid.as_str(), OPENID, "{scope}");
        assert_eq!((exchange.unionid, exchange.profile), (None, None), "{scope}");
        assert_eq!(page.calls(), ["oauth2/access_token"], "{scope}");
    }
}

#[tokio::test]
async fn every_shape_of_a_grant_is_accepted() {
    for body in [
        grant("snsapi_base", ""),
        grant("snsapi_base", r#","errcode":0,"errmsg":"ok""#),
        grant("snsapi_base", r#","errcode":"0""#),
        grant("snsapi_base", r#","is_snapshotuser":0"#),
        grant("snsapi_base", r#","is_snapshotuser":"0""#),
        grant("snsapi_base", r#","is_snapshotuser":false"#),
        grant("snsapi_base", r#","is_snapshotuser":null"#),
        grant("snsapi_base", r#","unionid":"","new":{"openid":"x"}"#),
        format!("\u{feff}{}\n", grant("snsapi_base", "")),
        format!(r#"{{"access_token":"{TOKEN}","openid":"{OPENID}"}}"#),
    ] {
        let page = Page::new([Reply::json(&body)]).await;

        let exchange = page.exchange().await.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(exchange.openid.as_str(), OPENID, "{body}");
    }
}

#[tokio::test]
async fn an_incomplete_grant_signs_no_user_in() {
    let token = format!(r#""access_token":"{TOKEN}","refresh_token":"{REFRESH}","scope":"snsapi_userinfo""#);
    let openid = format!(r#""openid":"{OPENID}""#);
    let with_openid = |value: &str| (format!(r#"{{{token},"openid":{value}}}"#), ReplyFault::OpenId);
    let with_unionid =
        |value: &str| (format!(r#"{{{token},{openid},"unionid":{value}}}"#), ReplyFault::UnionId);
    let not_json = |body: &str| (body.to_owned(), ReplyFault::NotJson);
    let table = [
        ("{}".to_owned(), ReplyFault::OpenId),
        (r#"{"errcode":0,"errmsg":"ok"}"#.to_owned(), ReplyFault::OpenId),
        (format!("{{{token}}}"), ReplyFault::OpenId),
        with_openid("null"),
        with_openid(r#""""#),
        with_openid(r#""o\r\nX-Role: admin""#),
        with_openid(r#""o\u0000""#),
        with_openid(&format!("\"{}\"", "o".repeat(129))),
        with_unionid(r#""u\nX: y""#),
        with_unionid(r#""用户""#),
        (format!("{{{openid}}}"), ReplyFault::AccessToken),
        (format!(r#"{{{openid},"access_token":""}}"#), ReplyFault::AccessToken),
        (format!(r#"{{{openid},"access_token":null}}"#), ReplyFault::AccessToken),
        not_json(""),
        not_json("<html><body>login</body></html>"),
        not_json("null"),
        not_json("[]"),
        not_json(&format!(r#"{{{token},"openid":"oGZU"#)),
        not_json(&format!(r#"{{{token},"openid":7}}"#)),
        not_json(&format!(r#"{{{token},"openid":["{OPENID}"]}}"#)),
        not_json(&format!(r#"{{{token},{openid},"unionid":7}}"#)),
        not_json(&format!(r#"{{{token},{openid},"scope":["snsapi_base"]}}"#)),
        not_json(&format!(r#"{{{openid},"access_token":7}}"#)),
        not_json(&format!("{{{token},{openid},{openid}}}")),
        not_json(&format!(r#"{{{token},{openid},"openid":"{OTHER}"}}"#)),
        not_json(&format!("{{{token},{token},{openid}}}")),
        not_json(&format!(r#"{{{token},{openid},"is_snapshotuser":1,"is_snapshotuser":0}}"#)),
        not_json(&format!(r#"{{{token},{openid},"errcode":0,"errcode":40029}}"#)),
        not_json(&format!(r#"{{{token},{openid},"errcode":null}}"#)),
        not_json(&format!("{{{token},{openid}}} trailing")),
        not_json(&format!(r#"{{"a":{}"#, "[".repeat(10_000))),
        (format!("{{{token},{openid},\"pad\":\"{}\"}}", "x".repeat(70_000)), ReplyFault::TooLarge),
    ];
    for (body, fault) in table {
        let page = Page::new([Reply::json(&body)]).await;

        let error = page.exchange().await.unwrap_err();

        assert_eq!(error, WeChatError::UnexpectedReply(fault), "{}", shown(&body));
        assert_eq!((page.errors("garbage"), page.calls().len()), (1, 1), "{}", shown(&body));
    }
}

#[tokio::test]
async fn an_errcode_signs_no_user_in_with_any_other_member() {
    for (errcode, expected) in [
        (40029, WeChatError::CodeInvalid),
        (42003, WeChatError::CodeInvalid),
        (40163, WeChatError::CodeAlreadyUsed),
        (40226, WeChatError::UserBlocked),
        (45011, WeChatError::RateLimited),
        (40013, WeChatError::AppMisconfigured { errcode: 40013 }),
        (40125, WeChatError::AppMisconfigured { errcode: 40125 }),
        (48001, WeChatError::AppMisconfigured { errcode: 48001 }),
        (40001, WeChatError::RequestRejected { errcode: 40001 }),
        (42001, WeChatError::RequestRejected { errcode: 42001 }),
        (41008, WeChatError::RequestRejected { errcode: 41008 }),
        (99999, WeChatError::Unknown { errcode: 99999 }),
    ] {
        let body = grant("snsapi_userinfo", &format!(r#","errcode":{errcode},"errmsg":"no""#));
        let page = Page::new([Reply::json(&body)]).await;

        assert_eq!(page.exchange().await.unwrap_err(), expected, "{errcode}");
        assert_eq!(page.calls(), ["oauth2/access_token"], "{errcode}");
    }
}

#[tokio::test]
async fn a_visitor_of_a_snapshot_page_is_refused() {
    for mark in ["1", r#""1""#, "true", r#""true""#, "2", "-1", "0.5", r#""yes""#, "[]", "{}"] {
        // This is the error even if the ids are malformed.
        let bodies = [
            grant("snsapi_userinfo", &format!(r#","is_snapshotuser":{mark}"#)),
            format!(r#"{{"is_snapshotuser":{mark},"openid":"no id"}}"#),
        ];
        for body in bodies {
            let page = Page::with([Reply::json(&body)], |config| config.breaker.failures = 1).await;

            assert_eq!(page.exchange().await.unwrap_err(), WeChatError::SnapshotVisitor, "{body}");
            assert_eq!(page.calls(), ["oauth2/access_token"], "{body}");
            // It does not count as a failure of WeChat.
            assert_eq!(page.exchange().await.unwrap_err(), WeChatError::SnapshotVisitor, "{body}");
        }
    }
    let mark = user_info(r#","is_snapshotuser":1"#);
    let page = Page::new([with_profile(), Reply::json(&mark)]).await;
    assert_eq!(page.exchange().await.unwrap_err(), WeChatError::SnapshotVisitor);
}

#[tokio::test]
async fn a_code_is_sent_again_only_if_wechat_was_busy_or_nothing_arrived() {
    let base = || Reply::json(&grant("snsapi_base", ""));
    for (case, reply, calls) in [
        ("busy", refusal(-1), 2),
        ("dropped", Reply::Drop, 1),
        ("html", Reply::json("<html>"), 1),
        ("invalid", refusal(40029), 1),
        ("stale, which is no answer to a code", refusal(42001), 1),
    ] {
        let page = Page::new([reply, base()]).await;

        let result = page.exchange().await;

        assert_eq!((page.calls().len(), result.is_ok()), (calls, calls == 2), "{case}: {result:?}");
    }

    let fake = Fake::start([base()]).await;
    let hosts = [closed_port().await, fake.url()];
    let harness = Harness::with_apps(&browser_apps(), &[&hosts[0], &hosts[1]], |_| {});
    let app = harness.wechat.app("site").unwrap();
    harness.wechat.exchange_page_code(app, &Code::parse(CODE).unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_limit_and_the_breaker_apply_to_pages_too() {
    let page = Page::with([refusal(40125)], |config| config.max_in_flight = 1).await;
    let wrong = WeChatError::AppMisconfigured { errcode: 40125 };
    let (first, second) = tokio::join!(page.exchange(), page.exchange());
    assert_eq!((first.unwrap_err(), second.unwrap_err()), (wrong.clone(), WeChatError::TooManyInFlight));

    assert_eq!(page.exchange().await.unwrap_err(), wrong);
    assert_eq!(page.calls().len(), 1);
}

#[tokio::test]
async fn no_debug_text_or_message_holds_a_token_of_a_page() {
    let page = Page::new([with_profile(), Reply::json(&user_info("")), Reply::Drop]).await;

    let exchange = page.exchange().await.unwrap();
    let error = page.exchange().await.unwrap_err();

    let texts = format!("{exchange:?} {error:?} {error} {:?}", page.harness.wechat);
    for secret in [SECRET, CODE, TOKEN, REFRESH] {
        assert!(!texts.contains(secret), "{texts}");
    }
}
