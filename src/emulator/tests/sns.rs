//! `/sns/oauth2/*`, `/sns/userinfo`, `/sns/auth`.

use std::time::Duration;

use super::super::{App, Config, Effect, InjectedFault, Quotas, User};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAYS_30: Duration = Duration::from_secs(30 * 86_400);

impl WeChat {
    /// The tokens of a person, by way of a fresh code.
    async fn tokens(&self, appid: &str, secret: &str, wxid: &str, scope: &str) -> Value {
        let code = self.page_code(appid, wxid, scope);
        let json = self.get(&token(appid, secret, &code)).await.json();
        assert!(json["access_token"].is_string(), "{json}");
        json
    }

    async fn website_tokens(&self) -> Value {
        self.tokens(WEBSITE, WEBSITE_SECRET, "alice", "snsapi_login").await
    }

    async fn user_info(&self, tokens: &Value) -> Seen {
        self.get(&with_token("/sns/userinfo", tokens)).await
    }

    async fn refresh(&self, tokens: &Value) -> Seen {
        let refresh = tokens["refresh_token"].as_str().unwrap();
        let query = format!("appid={WEBSITE}&grant_type=refresh_token&refresh_token={refresh}");
        self.get(&format!("/sns/oauth2/refresh_token?{query}")).await
    }

    /// The answer of `/sns/auth`: 0 for a valid token.
    async fn verdict_on(&self, tokens: &Value) -> i64 {
        self.get(&with_token("/sns/auth", tokens)).await.errcode().unwrap()
    }
}

fn with_token(path: &str, tokens: &Value) -> String {
    let text = |name: &str| tokens[name].as_str().unwrap().to_owned();
    format!("{path}?access_token={}&openid={}", text("access_token"), text("openid"))
}

#[tokio::test]
async fn tokens_come_without_errcode_and_in_wechats_order() {
    let wechat = wechat();
    let code = wechat.page_code(WEBSITE, "alice", "snsapi_login");

    let seen = wechat.get(&token(WEBSITE, WEBSITE_SECRET, &code)).await;

    let json = seen.json();
    let openid = wechat.emulator.openid(WEBSITE, "alice");
    let unionid = wechat.emulator.unionid(APP_1, "alice").unwrap();
    let (access, refresh) = (json["access_token"].as_str().unwrap(), json["refresh_token"].as_str().unwrap());
    assert_eq!(
        seen.text(),
        format!(
            r#"{{"access_token":"{access}","expires_in":7200,"refresh_token":"{refresh}","openid":"{openid}","scope":"snsapi_login","unionid":"{unionid}"}}"#
        )
    );
    assert_ne!(access, refresh);
    assert_eq!((seen.status, seen.headers["content-type"].as_str()), (200, "text/plain"));
}

#[tokio::test]
async fn a_scope_gives_only_what_it_allows() {
    let mut config = Config::default();
    config.apps.push(App::new("wxunbound", "s").official_account(["127.0.0.1"]));
    let wechat = wechat_with(config);
    // app, secret, person, scope; unionid, snapshot, userinfo's errcode
    let rows = [
        (WEBSITE, WEBSITE_SECRET, "alice", "snsapi_login", true, false, None),
        (OFFICIAL, OFFICIAL_SECRET, "alice", "snsapi_base", false, false, Some(48001)),
        (OFFICIAL, OFFICIAL_SECRET, "alice", "snsapi_userinfo", true, false, None),
        ("wxunbound", "s", "alice", "snsapi_userinfo", false, false, None),
        (OFFICIAL, OFFICIAL_SECRET, "ghost", "snsapi_base", false, false, Some(48001)),
        (OFFICIAL, OFFICIAL_SECRET, "ghost", "snsapi_userinfo", true, true, Some(48001)),
        (WEBSITE, WEBSITE_SECRET, "ghost", "snsapi_login", true, false, None),
    ];
    assert_eq!(rows.len(), 7);

    for (appid, secret, wxid, scope, has_unionid, is_snapshot, errcode) in rows {
        let tokens = wechat.tokens(appid, secret, wxid, scope).await;
        let info = wechat.user_info(&tokens).await;

        let row = format!("{appid} {wxid} {scope}: {tokens}");
        assert_eq!(tokens["scope"], scope, "{row}");
        assert_eq!(tokens.get("unionid").is_some(), has_unionid, "{row}");
        assert_eq!(tokens.get("is_snapshotuser"), is_snapshot.then(|| json!(1)).as_ref(), "{row}");
        assert_eq!(tokens["openid"] == json!(wechat.emulator.openid(appid, wxid)), !is_snapshot, "{row}");
        assert_eq!(info.errcode(), errcode, "{row}");
        if errcode.is_none() {
            assert_eq!(info.json().get("unionid").is_some(), has_unionid, "{row}");
        }
    }
}

#[tokio::test]
async fn visitors_of_snapshot_pages_share_an_invented_unionid() {
    let ghost = |wxid: &str| User { snapshot: true, ..User::new(wxid) };
    let wechat = wechat_with(Config { users: vec![ghost("one"), ghost("two")], ..Config::default() });

    let one = wechat.tokens(OFFICIAL, OFFICIAL_SECRET, "one", "snsapi_userinfo").await;
    let two = wechat.tokens(OFFICIAL, OFFICIAL_SECRET, "two", "snsapi_userinfo").await;

    assert_eq!(one["unionid"], two["unionid"]);
    assert_ne!(one["openid"], two["openid"]);
    assert_ne!(one["unionid"], json!(wechat.emulator.unionid(OFFICIAL, "one")));
}

#[tokio::test]
async fn errors_come_in_wechats_order() {
    let mut config = Config::default();
    config.apps.push(App { frozen: true, ..App::new("wxfrozen", "s").website(["127.0.0.1"]) });
    config.apps.push(App::new("wxother", "s").website(["127.0.0.1"]));
    config.quotas = Quotas { user_per_minute: Some(1), ..Quotas::default() };
    let wechat = wechat_with(config);
    let code = |appid: &str, wxid: &str| wechat.page_code(appid, wxid, "snsapi_login");
    let used = code(WEBSITE, "bob");
    wechat.get(&token(WEBSITE, WEBSITE_SECRET, &used)).await;
    let over_quota = code(WEBSITE, "bob");
    wechat.emulator.advance(Duration::from_secs(60));
    wechat.get(&token(WEBSITE, WEBSITE_SECRET, &over_quota)).await;
    let over_quota = code(WEBSITE, "bob");
    let (foreign, risky) = (code("wxother", "carol"), code(WEBSITE, "mallory"));
    let login = wechat.code();
    let unknown = "0".repeat(32);
    let grant = "grant_type=authorization_code";
    let good = format!("appid={WEBSITE}&secret={WEBSITE_SECRET}&{grant}");
    // Each row is wrong in its own way and in every way of the rows below it.
    let rows = [
        ("secret=&code=".to_owned(), 41002, "appid missing, rid: "),
        ("appid=wxnone&grant_type=x".to_owned(), 41004, "appsecret missing, rid: "),
        ("appid=wxnone&secret=x&grant_type=x".to_owned(), 41008, "missing code, rid: "),
        (format!("appid=wxnone&secret=x&js_code={unknown}&grant_type=x"), 41008, "missing code, rid: "),
        (format!("appid=wxnone&secret=x&code={unknown}"), 40002, "invalid grant_type, rid: "),
        (format!("appid=wxnone&secret=x&code={unknown}&{grant}"), 40013, "invalid appid, rid: "),
        (format!("appid=wxfrozen&secret=x&code={unknown}&{grant}"), 40243, "appsecret is frozen, rid: "),
        (format!("appid={WEBSITE}&secret=x&code={over_quota}&{grant}"), 40125, "invalid appsecret, rid: "),
        (
            format!("{good}&code={over_quota}"),
            45011,
            "api minute-quota reach limit, must slower, retry next minute, rid: ",
        ),
        (format!("{good}&code={unknown}"), 40029, "invalid code, rid: "),
        (format!("{good}&code={foreign}"), 40029, "invalid code, rid: "),
        (format!("{good}&code={login}"), 40029, "invalid code, rid: "),
        (format!("{good}&code={risky}"), 40226, "code blocked, rid: "),
    ];
    assert_eq!(rows.len(), 13);

    for (query, errcode, errmsg) in rows {
        let seen = wechat.get(&format!("/sns/oauth2/access_token?{query}")).await;

        let json = seen.json();
        assert_eq!(json["errcode"], errcode, "{query}: {json}");
        assert!(json["errmsg"].as_str().unwrap().starts_with(errmsg), "{query}: {json}");
    }
}

#[tokio::test]
async fn a_code_works_once_and_for_as_long_as_its_page_says() {
    // app, secret, scope, seconds until the exchange, errcode
    let rows = [
        (WEBSITE, WEBSITE_SECRET, "snsapi_login", 599, None),
        (WEBSITE, WEBSITE_SECRET, "snsapi_login", 600, Some(40029)),
        (OFFICIAL, OFFICIAL_SECRET, "snsapi_base", 299, None),
        (OFFICIAL, OFFICIAL_SECRET, "snsapi_base", 300, Some(40029)),
        (OFFICIAL, OFFICIAL_SECRET, "snsapi_userinfo", 300, Some(40029)),
    ];
    for (appid, secret, scope, seconds, errcode) in rows {
        let wechat = wechat();
        let code = wechat.page_code(appid, "alice", scope);
        wechat.emulator.advance(Duration::from_secs(seconds));
        // Old codes are removed when a new one is made.
        wechat.page_code(appid, "bob", scope);

        let seen = wechat.get(&token(appid, secret, &code)).await;
        assert_eq!(seen.errcode(), errcode, "{scope} after {seconds}");

        if errcode.is_none() {
            for (later, errcode) in [(300, 40163), (1, 40029)] {
                wechat.emulator.advance(Duration::from_secs(later));
                wechat.page_code(appid, "bob", scope);
                let seen = wechat.get(&token(appid, secret, &code)).await;
                assert_eq!(seen.errcode(), Some(errcode), "{scope} used, {later} later");
            }
        }
    }
}

#[tokio::test]
async fn a_pages_code_is_no_code_of_wx_login_and_survives_the_attempt() {
    let wechat = wechat();
    let code = wechat.page_code(WEBSITE, "alice", "snsapi_login");

    assert_eq!(wechat.get(&exchange(WEBSITE, WEBSITE_SECRET, &code)).await.errcode(), Some(40029));
    assert_eq!(wechat.get(&token(WEBSITE, WEBSITE_SECRET, &code)).await.errcode(), None);
    let refused = wechat.emulator.wx_login(WEBSITE, "alice").unwrap_err().to_string();
    assert!(refused.contains("is no mini program"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_exchanges_of_a_code_wins() {
    let wechat = wechat();
    let code = wechat.page_code(WEBSITE, "alice", "snsapi_login");
    let target = token(WEBSITE, WEBSITE_SECRET, &code);

    let seen = futures_util::future::join_all((0..20).map(|_| wechat.get(&target))).await;

    let won = seen.iter().filter(|seen| seen.errcode().is_none()).count();
    let used = seen.iter().filter(|seen| seen.errcode() == Some(40163)).count();
    assert_eq!((won, used), (1, 19));
}

#[tokio::test]
async fn the_profile_is_that_of_the_configuration() {
    let alice = User {
        nickname: Some("小明 🐱 <b>\"\n".into()),
        avatar: Some("https://example.com/a.png".into()),
        sex: 2,
        province: "Guangdong".into(),
        city: "Guangzhou".into(),
        country: "CN".into(),
        privilege: vec!["chinaunicom".into()],
        ..User::new("alice")
    };
    let wechat = wechat_with(Config { users: vec![alice], ..Config::default() });
    let tokens = wechat.website_tokens().await;
    let other = wechat.tokens(WEBSITE, WEBSITE_SECRET, "zoe", "snsapi_login").await;

    let alice = wechat.user_info(&tokens).await;
    let zoe = wechat.user_info(&other).await.json();

    let (openid, unionid) = (&tokens["openid"], &tokens["unionid"]);
    assert_eq!(
        alice.text(),
        format!(
            r#"{{"openid":{openid},"nickname":"小明 🐱 <b>\"\n","sex":2,"language":"","city":"Guangzhou","province":"Guangdong","country":"CN","headimgurl":"https://example.com/a.png","privilege":["chinaunicom"],"unionid":{unionid}}}"#
        )
    );
    assert_eq!(alice.headers["content-type"], "text/plain");
    assert_eq!((&zoe["nickname"], &zoe["sex"], &zoe["city"]), (&json!("zoe"), &json!(0), &json!("")));
    assert_json(&zoe["privilege"], json!([]));
    // Pinned: users of the emulator write these into their tests.
    assert_eq!(
        zoe["headimgurl"],
        "https://thirdwx.qlogo.cn/mmopen/vi_32/dsguUxPs9rzB1QszgVKZpGrvK5_JGSf2/132"
    );
}

#[tokio::test]
async fn endpoints_report_what_is_wrong_with_a_token() {
    let wechat = wechat();
    let tokens = wechat.website_tokens().await;
    let (access, openid) = (tokens["access_token"].as_str().unwrap(), tokens["openid"].as_str().unwrap());
    let server = wechat
        .get(&format!("/cgi-bin/token?grant_type=client_credential&appid={APP_1}&secret={SECRET_1}"))
        .await
        .json();
    let never_issued = format!("66_{}", "x".repeat(130));
    let rows = [
        (String::new(), 41001),
        ("access_token=&openid=x".to_owned(), 41001),
        ("access_token=garbage&openid=x".to_owned(), 40014),
        (format!("access_token={never_issued}&openid={openid}"), 40001),
        (format!("access_token={}&openid={openid}", server["access_token"].as_str().unwrap()), 40001),
        (format!("access_token={}&openid={openid}", tokens["refresh_token"].as_str().unwrap()), 40001),
        (format!("access_token={access}"), 40003),
        (format!("access_token={access}&openid={}", wechat.emulator.openid(WEBSITE, "bob")), 40003),
        (format!("access_token={access}&openid={}", wechat.emulator.openid(APP_1, "alice")), 40003),
    ];
    for path in ["/sns/userinfo", "/sns/auth"] {
        for (query, errcode) in &rows {
            let seen = wechat.get(&format!("{path}?{query}")).await;
            assert_eq!(seen.errcode(), Some(*errcode), "{path} {query}");
        }
    }

    assert_eq!(wechat.get(&with_token("/sns/auth", &tokens)).await.text(), r#"{"errcode":0,"errmsg":"ok"}"#);
    wechat.emulator.advance(2 * HOUR - SECOND);
    assert_eq!(wechat.verdict_on(&tokens).await, 0);
    wechat.emulator.advance(SECOND);
    assert_eq!(wechat.verdict_on(&tokens).await, 42001);
    assert_eq!(wechat.user_info(&tokens).await.errcode(), Some(42001));
}

#[tokio::test]
async fn refreshing_keeps_a_live_token_and_replaces_a_dead_one() {
    let wechat = wechat();
    let tokens = wechat.website_tokens().await;
    wechat.emulator.advance(HOUR);

    let kept = wechat.refresh(&tokens).await;
    wechat.emulator.advance(2 * HOUR - SECOND);
    assert_eq!(wechat.verdict_on(&tokens).await, 0, "its lifetime starts again");
    wechat.emulator.advance(SECOND);
    let replaced = wechat.refresh(&tokens).await.json();

    let mut expected = tokens.clone();
    expected.as_object_mut().unwrap().remove("unionid");
    assert_json(&kept.json(), expected);
    assert_eq!(kept.headers["content-type"], "text/plain");
    assert_ne!(replaced["access_token"], tokens["access_token"]);
    assert_eq!(replaced["refresh_token"], tokens["refresh_token"]);
    assert_eq!((wechat.verdict_on(&replaced).await, wechat.verdict_on(&tokens).await), (0, 42001));
    assert_json(&wechat.refresh(&tokens).await.json(), replaced);
}

#[tokio::test]
async fn a_refresh_token_ends_after_thirty_days_whatever_was_refreshed() {
    let wechat = wechat();
    let tokens = wechat.website_tokens().await;
    wechat.emulator.advance(DAYS_30 - SECOND);
    assert_eq!(wechat.refresh(&tokens).await.errcode(), None);

    wechat.emulator.advance(SECOND);
    assert_eq!(wechat.refresh(&tokens).await.errcode(), Some(42002));
    wechat.emulator.advance(24 * HOUR);
    wechat.website_tokens().await;
    assert_eq!(wechat.refresh(&tokens).await.errcode(), Some(40030), "forgotten");
}

#[tokio::test]
async fn refresh_errors_come_in_order() {
    let wechat = wechat();
    let tokens = wechat.website_tokens().await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let grant = "grant_type=refresh_token";
    let rows = [
        ("refresh_token=".to_owned(), 41002),
        ("appid=wxnone".to_owned(), 41003),
        ("appid=wxnone&refresh_token=x".to_owned(), 40002),
        ("appid=wxnone&refresh_token=x&grant_type=authorization_code".to_owned(), 40002),
        (format!("appid=wxnone&refresh_token=x&{grant}"), 40013),
        (format!("appid={WEBSITE}&refresh_token=x&{grant}"), 40030),
        (format!("appid={OFFICIAL}&refresh_token={refresh}&{grant}"), 40030),
        (
            format!("appid={WEBSITE}&refresh_token={}&{grant}", tokens["access_token"].as_str().unwrap()),
            40030,
        ),
    ];
    for (query, errcode) in rows {
        let seen = wechat.get(&format!("/sns/oauth2/refresh_token?{query}")).await;
        assert_eq!(seen.errcode(), Some(errcode), "{query}");
    }
}

#[tokio::test]
async fn faults_apply_to_the_second_half_of_a_sign_in() {
    let wechat = wechat();
    let tokens = wechat.website_tokens().await;
    let elsewhere = wechat.tokens(OFFICIAL, OFFICIAL_SECRET, "alice", "snsapi_userinfo").await;

    // The token names the calling app.
    wechat
        .emulator
        .inject(InjectedFault::new(Effect::errcode(-1)).app(WEBSITE).path("/sns/userinfo").times(1));
    assert_eq!(wechat.user_info(&elsewhere).await.errcode(), None);
    assert_eq!(wechat.user_info(&tokens).await.errcode(), Some(-1));
    assert_eq!(wechat.user_info(&tokens).await.errcode(), None);

    // The lost reply.
    let code = wechat.page_code(WEBSITE, "alice", "snsapi_login");
    let target = token(WEBSITE, WEBSITE_SECRET, &code);
    wechat.emulator.inject(InjectedFault::new(Effect::DropAfter).path("/sns/oauth2/access_token").times(1));
    assert!(wechat.try_send("GET", &target, "").await.is_err());
    assert_eq!(wechat.get(&target).await.errcode(), Some(40163));

    // A revoked token; the refresh token replaces it.
    wechat.emulator.inject(InjectedFault::new(Effect::RevokeToken).app(WEBSITE).times(1));
    assert_eq!(wechat.verdict_on(&tokens).await, 40001);
    assert_eq!(wechat.verdict_on(&elsewhere).await, 0);
    let refreshed = wechat.refresh(&tokens).await.json();
    assert_ne!(refreshed["access_token"], tokens["access_token"]);
    assert_eq!(wechat.verdict_on(&refreshed).await, 0);
}
