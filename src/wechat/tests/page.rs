//! The exchange of a page's code, and the calls for a profile that follow it.

use super::*;
use crate::identity::{OpenId, Profile};

const UNIONID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
const OTHER: &str = "oOtherPersonOtherPersonOther";
const TOKEN: &str = "66_access-token-of-the-first-grant";
const REFRESH: &str = "66_refresh-token-of-the-first-grant";
const FRESH: &str = "66_access-token-of-the-second-grant";

/// What a reply to the exchange of a code has, changed where a test wants it.
fn grant(scope: &str, more: &str) -> String {
    format!(
        r#"{{"access_token":"{TOKEN}","expires_in":7200,"refresh_token":"{REFRESH}","openid":"{OPENID}","scope":"{scope}"{more}}}"#
    )
}

fn with_profile() -> Reply {
    Reply::json(&grant("snsapi_userinfo", &format!(r#","unionid":"{UNIONID}""#)))
}

fn user_info(more: &str) -> String {
    format!(
        r#"{{"openid":"{OPENID}","nickname":"李\ud83d\ude00","sex":0,"language":"","city":"","province":"","country":"","headimgurl":"https:\/\/thirdwx.qlogo.cn\/mmopen\/vi_32\/x\/132","privilege":[]{more}}}"#
    )
}

fn refreshed(openid: &str) -> Reply {
    Reply::json(&format!(
        r#"{{"access_token":"{FRESH}","expires_in":7200,"refresh_token":"{REFRESH}","openid":"{openid}","scope":"snsapi_userinfo"}}"#
    ))
}

fn refusal(errcode: i64) -> Reply {
    Reply::json(&format!(r#"{{"errcode":{errcode},"errmsg":"no, rid: 652d44d0-1d0af18b-5b069232"}}"#))
}

fn browser_apps() -> BTreeMap<String, config::App> {
    let of = |appid: &str, kind, scope| config::App { kind, scope, ..app(appid) };
    BTreeMap::from([
        ("shop".to_owned(), app("wx4f4bc4dec97d474b")),
        ("site".to_owned(), of("wxe000000000000004", AppKind::Website, None)),
        ("base".to_owned(), of("wxe000000000000005", AppKind::OfficialAccount, None)),
        ("full".to_owned(), of("wxe000000000000006", AppKind::OfficialAccount, Some(Scope::UserInfo))),
    ])
}

struct Page {
    fake: Fake,
    harness: Harness,
}

impl Page {
    async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(replies, |_| {}).await
    }

    async fn with(
        replies: impl IntoIterator<Item = Reply>,
        change: impl FnOnce(&mut config::WeChat),
    ) -> Self {
        let fake = Fake::start(replies).await;
        let harness = Harness::with_apps(&browser_apps(), &[&fake.url()], change);
        Self { fake, harness }
    }

    async fn exchange(&self) -> Result<PageExchange, Error> {
        let wechat = &self.harness.wechat;
        wechat.exchange_page_code(wechat.app("full").unwrap(), &Code::parse(CODE).unwrap()).await
    }

    /// The paths called so far, without `/sns/` and their parameters.
    fn calls(&self) -> Vec<String> {
        let path = |line: &String| {
            let target = line.split(' ').nth(1).unwrap();
            target.split('?').next().unwrap().strip_prefix("/sns/").unwrap().to_owned()
        };
        self.fake.requests().iter().map(path).collect()
    }

    fn errors(&self, label: &str) -> u64 {
        self.harness.metrics.wechat_errors.with_label_values(&["full", label]).get()
    }
}

fn shown(body: &str) -> String {
    body.chars().take(200).collect()
}

#[tokio::test]
async fn a_person_and_their_profile_are_asked_for_with_the_documented_requests() {
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
async fn a_scope_without_a_profile_gives_the_openid_alone() {
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
async fn a_grant_that_is_not_whole_signs_nobody_in() {
    let token = format!(r#""access_token":"{TOKEN}","refresh_token":"{REFRESH}","scope":"snsapi_userinfo""#);
    let openid = format!(r#""openid":"{OPENID}""#);
    let with_openid = |value: &str| (format!(r#"{{{token},"openid":{value}}}"#), Fault::OpenId);
    let with_unionid = |value: &str| (format!(r#"{{{token},{openid},"unionid":{value}}}"#), Fault::UnionId);
    let not_json = |body: &str| (body.to_owned(), Fault::NotJson);
    let table = [
        ("{}".to_owned(), Fault::OpenId),
        (r#"{"errcode":0,"errmsg":"ok"}"#.to_owned(), Fault::OpenId),
        (format!("{{{token}}}"), Fault::OpenId),
        with_openid("null"),
        with_openid(r#""""#),
        with_openid(r#""o\r\nX-Role: admin""#),
        with_openid(r#""o\u0000""#),
        with_openid(&format!("\"{}\"", "o".repeat(129))),
        with_unionid(r#""u\nX: y""#),
        with_unionid(r#""用户""#),
        (format!("{{{openid}}}"), Fault::AccessToken),
        (format!(r#"{{{openid},"access_token":""}}"#), Fault::AccessToken),
        (format!(r#"{{{openid},"access_token":null}}"#), Fault::AccessToken),
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
        (format!("{{{token},{openid},\"pad\":\"{}\"}}", "x".repeat(70_000)), Fault::TooLarge),
    ];
    for (body, fault) in table {
        let page = Page::new([Reply::json(&body)]).await;

        let error = page.exchange().await.unwrap_err();

        assert_eq!(error, Error::UnexpectedReply(fault), "{}", shown(&body));
        assert_eq!((page.errors("garbage"), page.calls().len()), (1, 1), "{}", shown(&body));
    }
}

#[tokio::test]
async fn an_errcode_signs_nobody_in_whatever_stands_beside_it() {
    for (errcode, expected) in [
        (40029, Error::CodeInvalid),
        (42003, Error::CodeInvalid),
        (40163, Error::CodeAlreadyUsed),
        (40226, Error::UserBlocked),
        (45011, Error::RateLimited),
        (40013, Error::AppMisconfigured { errcode: 40013 }),
        (40125, Error::AppMisconfigured { errcode: 40125 }),
        (48001, Error::AppMisconfigured { errcode: 48001 }),
        (40001, Error::RequestRejected { errcode: 40001 }),
        (42001, Error::RequestRejected { errcode: 42001 }),
        (41008, Error::RequestRejected { errcode: 41008 }),
        (99999, Error::Unknown { errcode: 99999 }),
    ] {
        let body = grant("snsapi_userinfo", &format!(r#","errcode":{errcode},"errmsg":"no""#));
        let page = Page::new([Reply::json(&body)]).await;

        assert_eq!(page.exchange().await.unwrap_err(), expected, "{errcode}");
        assert_eq!(page.calls(), ["oauth2/access_token"], "{errcode}");
    }
}

#[tokio::test]
async fn a_visitor_of_a_snapshot_page_is_nobody() {
    for mark in ["1", r#""1""#, "true", r#""true""#, "2", "-1", "0.5", r#""yes""#, "[]", "{}"] {
        // Even where the ids are malformed, this is what is said.
        let bodies = [
            grant("snsapi_userinfo", &format!(r#","is_snapshotuser":{mark}"#)),
            format!(r#"{{"is_snapshotuser":{mark},"openid":"no id"}}"#),
        ];
        for body in bodies {
            let page = Page::with([Reply::json(&body)], |config| config.breaker.failures = 1).await;

            assert_eq!(page.exchange().await.unwrap_err(), Error::SnapshotVisitor, "{body}");
            assert_eq!(page.calls(), ["oauth2/access_token"], "{body}");
            // It says nothing against WeChat.
            assert_eq!(page.exchange().await.unwrap_err(), Error::SnapshotVisitor, "{body}");
        }
    }
    let mark = user_info(r#","is_snapshotuser":1"#);
    let page = Page::new([with_profile(), Reply::json(&mark)]).await;
    assert_eq!(page.exchange().await.unwrap_err(), Error::SnapshotVisitor);
}

#[tokio::test]
async fn a_profile_that_cannot_be_had_is_none_and_the_person_has_signed_in() {
    let openid = format!(r#""openid":"{OPENID}""#);
    let json = |body: &str| Reply::json(body);
    let table = [
        ("html", json("<html><body>login</body></html>"), "garbage"),
        ("nothing", json(""), "garbage"),
        ("truncated", json(&user_info("")[..40]), "garbage"),
        ("huge", json(&user_info(&format!(r#","pad":"{}""#, "x".repeat(70_000)))), "garbage"),
        ("no openid", json(r#"{"nickname":"x"}"#), "garbage"),
        ("number", json(r#"{"openid":7,"nickname":"x"}"#), "garbage"),
        ("malformed openid", json(r#"{"openid":"o\r\nX: y","nickname":"x"}"#), "garbage"),
        ("malformed unionid", json(&user_info(r#","unionid":"u\u0000""#)), "garbage"),
        ("nickname a number", json(&format!(r#"{{{openid},"nickname":7}}"#)), "garbage"),
        ("openid twice", json(&format!(r#"{{{openid},{openid},"nickname":"x"}}"#)), "garbage"),
        ("nickname twice", json(&user_info(r#","nickname":"y""#)), "garbage"),
        ("half a character", json(&format!(r#"{{{openid},"nickname":"\ud83d"}}"#)), "garbage"),
        ("raw control character", json(&format!("{{{openid},\"nickname\":\"a\u{14}\"}}")), "garbage"),
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
        assert_eq!(state, 0, "{case}: a profile must not keep people from signing in");
    }
}

#[tokio::test]
async fn what_a_person_calls_themselves_is_cut_to_size_and_cleaned() {
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
async fn replies_that_name_two_persons_sign_neither_in() {
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

        assert_eq!(error, Error::UnexpectedReply(Fault::OtherPerson), "{case}");
        assert_eq!(page.errors("garbage"), 1, "{case}");
    }
    // One that is known to one reply alone contradicts nothing.
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
    // Time enough for each call, not for both.
    let page = Page::with([slow(with_profile()), slow(Reply::json(&user_info("")))], |config| {
        config.timeout = config::Duration::from_millis(1700);
    })
    .await;

    let exchange = page.exchange().await.unwrap();

    assert_eq!(exchange.profile, None);
    assert_eq!(page.calls(), ["oauth2/access_token", "userinfo"]);
    assert_eq!(page.errors("timeout"), 1);
}

#[tokio::test]
async fn a_code_is_sent_again_only_where_wechat_was_busy_or_nothing_arrived() {
    let base = || Reply::json(&grant("snsapi_base", ""));
    for (case, reply, calls) in [
        ("busy", refusal(-1), 2),
        ("dropped", Reply::Drop, 1),
        ("html", Reply::json("<html>"), 1),
        ("invalid", refusal(40029), 1),
        ("stale, which is not its word", refusal(42001), 1),
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
async fn the_limit_and_the_breaker_hold_for_pages_too() {
    let page = Page::with([refusal(40125)], |config| config.max_in_flight = 1).await;
    let wrong = Error::AppMisconfigured { errcode: 40125 };
    let (first, second) = tokio::join!(page.exchange(), page.exchange());
    assert_eq!((first.unwrap_err(), second.unwrap_err()), (wrong.clone(), Error::TooManyInFlight));

    assert_eq!(page.exchange().await.unwrap_err(), wrong);
    assert_eq!(page.calls().len(), 1);
}

#[tokio::test]
async fn no_text_of_ours_holds_a_token_of_a_page() {
    let page = Page::new([with_profile(), Reply::json(&user_info("")), Reply::Drop]).await;

    let exchange = page.exchange().await.unwrap();
    let error = page.exchange().await.unwrap_err();

    let texts = format!("{exchange:?} {error:?} {error} {:?}", page.harness.wechat);
    for secret in [SECRET, CODE, TOKEN, REFRESH] {
        assert!(!texts.contains(secret), "{texts}");
    }
}

#[test]
fn a_browser_is_sent_to_the_page_of_the_apps_kind() {
    let visit = |is_english| Visit {
        redirect_uri: "https://shop.example.com:8443/auth/web/小店/callback?a=b&c=~d",
        state: "aZ09",
        is_english,
    };
    let redirect_uri =
        "https%3A%2F%2Fshop.example.com%3A8443%2Fauth%2Fweb%2F%E5%B0%8F%E5%BA%97%2Fcallback%3Fa%3Db%26c%3D~d";
    let account = |appid: &str, scope: &str| {
        format!(
            "https://open.weixin.qq.com/connect/oauth2/authorize?appid={appid}&redirect_uri={redirect_uri}&response_type=code&scope={scope}&state=aZ09#wechat_redirect"
        )
    };
    let site = |language: &str| {
        format!(
            "https://open.weixin.qq.com/connect/qrconnect?appid=wxe000000000000004&redirect_uri={redirect_uri}&response_type=code&scope=snsapi_login&state=aZ09&lang={language}#wechat_redirect"
        )
    };
    let harness = Harness::with_apps(&browser_apps(), &["http://127.0.0.1:9"], |_| {});
    let url = |name: &str, is_english| {
        harness.wechat.page_url(harness.wechat.app(name).unwrap(), &visit(is_english))
    };

    assert_eq!(url("site", false), Some(site("cn")));
    assert_eq!(url("site", true), Some(site("en")));
    for is_english in [false, true] {
        assert_eq!(url("base", is_english), Some(account("wxe000000000000005", "snsapi_base")));
        assert_eq!(url("full", is_english), Some(account("wxe000000000000006", "snsapi_userinfo")));
        assert_eq!(url("shop", is_english), None, "a mini program has no page");
    }
}

#[test]
fn nothing_can_be_added_to_the_page_by_what_stands_in_it() {
    let harness = Harness::with_apps(&browser_apps(), &["http://127.0.0.1:9"], |_| {});
    let visit = Visit { redirect_uri: "x&scope=y#z\r\n\" <+%\\\u{7f}", state: "a&b=c#d", is_english: false };

    let url = harness.wechat.page_url(harness.wechat.app("base").unwrap(), &visit).unwrap();

    assert!(
        url.ends_with(
            "&redirect_uri=x%26scope%3Dy%23z%0D%0A%22%20%3C%2B%25%5C%7F&response_type=code&scope=snsapi_base&state=a%26b%3Dc%23d#wechat_redirect"
        ),
        "{url}"
    );
}

#[test]
fn the_widget_is_what_the_configuration_says() {
    let of = |change: fn(&mut config::WeChat)| {
        let harness = Harness::new(&["http://127.0.0.1:9"], change);
        harness.wechat.widget().map(|widget| (widget.script.to_owned(), widget.frame_origin.to_owned()))
    };
    let is = |script: &str, origin: &str| Some((script.to_owned(), origin.to_owned()));

    let script = "https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js";
    assert_eq!(of(|_| {}), is(script, "https://open.weixin.qq.com"));
    assert_eq!(of(|config| config.widget = None), None);
    assert_eq!(
        of(|config| {
            config.widget = Some("http://127.0.0.1:9900/wxLogin.js?v=1&w".into());
            config.pages = "HTTP://LOCALHOST:9900/".into();
        }),
        is("http://127.0.0.1:9900/wxLogin.js?v=1&w", "http://localhost:9900")
    );
}

#[test]
fn a_scope_and_a_loose_check_are_for_those_whom_they_mean_something_to() {
    let mut apps = browser_apps();
    for name in ["site", "base", "full"] {
        apps.get_mut(name).unwrap().browser_check = BrowserCheck::Loose;
    }

    let (built, findings) = build(&config_for(&["http://127.0.0.1:9"]), &apps);

    assert!(built.is_some() && !findings.has_errors(), "{findings:?}");
}

#[tokio::test]
async fn the_emulator_knows_the_page_and_gives_the_person() {
    use crate::emulator::{self, Emulator, SignIn};

    // The same secrets and ids as the emulator's own apps.
    let emulator = Emulator::new(
        emulator::Config::default(),
        Arc::new(ManualClock::start_now()),
        Arc::new(SystemEntropy),
    );
    let running = emulator.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let of = |appid: &str, kind, scope, secret: &str| config::App {
        kind,
        scope,
        secret: SecretSource::Inline(secret.into()),
        ..app(appid)
    };
    let apps = BTreeMap::from([
        ("site".to_owned(), of("wxe000000000000004", AppKind::Website, None, "emulator-secret-4")),
        (
            "full".to_owned(),
            of("wxe000000000000005", AppKind::OfficialAccount, Some(Scope::UserInfo), "emulator-secret-5"),
        ),
    ]);
    let host = format!("http://{}", running.address);
    let harness = Harness::with_apps(&apps, &[&host], |_| {});
    let code = |appid: &str, scope: &str| {
        let order = SignIn {
            appid: appid.into(),
            wxid: "alice".into(),
            redirect_uri: "http://127.0.0.1:8080/auth/web/site/callback".into(),
            scope: scope.into(),
            state: "abc".into(),
        };
        Code::parse(&emulator.sign_in(&order).unwrap().code).unwrap()
    };

    for (name, appid, scope, is_told) in [
        ("site", "wxe000000000000004", "snsapi_login", true),
        ("full", "wxe000000000000005", "snsapi_userinfo", true),
        ("full", "wxe000000000000005", "snsapi_base", false),
    ] {
        let app = harness.wechat.app(name).unwrap();
        let exchange = harness.wechat.exchange_page_code(app, &code(appid, scope)).await.unwrap();

        assert_eq!(exchange.openid, OpenId::parse(&emulator.openid(appid, "alice")).unwrap());
        let unionid = emulator.unionid(appid, "alice").filter(|_| is_told);
        assert_eq!(exchange.unionid.as_ref().map(UnionId::as_str), unionid.as_deref(), "{scope}");
        assert_eq!(exchange.profile.is_some(), is_told, "{scope}");
    }
    let site = harness.wechat.app("site").unwrap();
    let foreign = harness.wechat.exchange_page_code(site, &code("wxe000000000000005", "snsapi_base")).await;
    assert_eq!(foreign.unwrap_err(), Error::CodeInvalid);
    let of_a_page = code("wxe000000000000004", "snsapi_login");
    assert_eq!(harness.wechat.exchange_code(site, &of_a_page).await.unwrap_err(), Error::CodeInvalid);
}
