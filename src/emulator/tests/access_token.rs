//! `/cgi-bin/token`, `stable_token`, and the endpoints that take a token.

use std::time::Duration;

use aws_lc_rs::hmac;

use super::super::{App, Effect, InjectedFault, Quotas, identifier::hex};
use super::*;

const MINUTES_5: Duration = Duration::from_secs(300);

fn token_target(appid: &str, secret: &str) -> String {
    format!("/cgi-bin/token?grant_type=client_credential&appid={appid}&secret={secret}")
}

fn stable_body(force_refresh: bool) -> Value {
    json!({"grant_type": "client_credential", "appid": APP_1, "secret": SECRET_1, "force_refresh": force_refresh})
}

impl WeChat {
    async fn token(&self) -> String {
        let json = self.get(&token_target(APP_1, SECRET_1)).await.json();
        json["access_token"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
    }

    async fn stable(&self, force_refresh: bool) -> (String, u64) {
        let json = self.post("/cgi-bin/stable_token", &stable_body(force_refresh)).await.json();
        (
            json["access_token"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned(),
            json["expires_in"].as_u64().unwrap(),
        )
    }

    /// An endpoint's answer to a token: 40003 (the openid is missing) if the token is valid.
    async fn verdict(&self, token: &str) -> i64 {
        self.get(&format!("/wxa/checksession?access_token={token}")).await.errcode().unwrap()
    }
}

#[tokio::test]
async fn a_token_answer_is_json_of_its_own_kind() {
    let wechat = wechat();

    let seen = wechat.get(&token_target(APP_1, SECRET_1)).await;

    assert_eq!(seen.headers["content-type"], "application/json; encoding=utf-8");
    assert!(seen.text().starts_with(r#"{"access_token":"66_"#), "{}", seen.text());
    assert!(seen.text().ends_with(r#"","expires_in":7200}"#), "{}", seen.text());
    assert_eq!(seen.json()["access_token"].as_str().unwrap().len(), 133);
}

#[tokio::test]
async fn token_errors_come_in_order() {
    let mut config = Config::default();
    config.apps.push(App { frozen: true, ..App::new("wxfrozen", "s") });
    config.apps.push(App { ip_whitelist: vec!["192.0.2.1".parse().unwrap()], ..App::new("wxlisted", "s") });
    config.quotas = Quotas { tokens_per_day: 1, ..Quotas::default() };
    let wechat = wechat_with(config);
    wechat.token().await;
    let credential = "grant_type=client_credential";
    let rows = [
        ("secret=".to_owned(), 41002, "appid missing rid: "),
        ("appid=wxnone".to_owned(), 41004, "appsecret missing rid: "),
        ("appid=wxnone&secret=x".to_owned(), 40002, "invalid grant_type rid: "),
        (format!("appid=wxnone&secret=x&{credential}"), 40013, "invalid appid rid: "),
        (format!("appid=wxfrozen&secret=x&{credential}"), 40243, "appsecret is frozen rid: "),
        (format!("appid=wxlisted&secret=x&{credential}"), 40125, "invalid appsecret rid: "),
        (
            format!("appid=wxlisted&secret=s&{credential}"),
            40164,
            "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: ",
        ),
        (
            format!("appid={APP_1}&secret={SECRET_1}&{credential}"),
            45009,
            "reach max api daily quota limit rid: ",
        ),
    ];
    assert_eq!(rows.len(), 8);

    for (query, errcode, errmsg) in rows {
        let seen = wechat.get(&format!("/cgi-bin/token?{query}")).await;

        assert_eq!(seen.errcode(), Some(errcode), "{query}");
        assert!(seen.json()["errmsg"].as_str().unwrap().starts_with(errmsg), "{query}: {}", seen.text());
        assert_eq!(seen.headers["content-type"], "application/json; encoding=utf-8", "{query}");
    }
}

#[tokio::test]
async fn a_new_token_leaves_the_one_before_five_minutes() {
    let wechat = wechat();
    let old = wechat.token().await;

    let new = wechat.token().await;

    assert_eq!((wechat.verdict(&old).await, wechat.verdict(&new).await), (40003, 40003));
    wechat.emulator.advance(MINUTES_5);
    assert_eq!((wechat.verdict(&old).await, wechat.verdict(&new).await), (40001, 40003));
    wechat.emulator.advance(Duration::from_secs(7200));
    assert_eq!(wechat.verdict(&new).await, 42001);
}

#[tokio::test]
async fn an_unknown_token_is_refused() {
    let wechat = wechat();

    assert_eq!(wechat.get("/wxa/checksession").await.errcode(), Some(41001));
    assert_eq!(wechat.verdict("garbage").await, 40014);
    assert_eq!(wechat.verdict(&format!("66_{}", "x".repeat(130))).await, 40001);
}

#[tokio::test]
async fn stable_token_checks_the_post_first() {
    let wechat = wechat();
    let rows = [
        ("GET", "", 43002),
        ("POST", "", 44002),
        ("POST", "appid=x", 47001),
        ("POST", "{}", 41002),
        ("POST", r#"{"appid":"x"}"#, 41004),
        ("POST", r#"{"appid":"x","secret":"x"}"#, 40002),
        ("POST", r#"{"appid":"x","secret":"x","grant_type":"client_credential"}"#, 40013),
    ];
    for (method, body, errcode) in rows {
        let seen = wechat.try_send(method, "/cgi-bin/stable_token", body).await.unwrap();

        assert_eq!(seen.errcode(), Some(errcode), "{method} {body}");
    }
}

#[tokio::test]
async fn a_stable_token_stays_until_five_minutes_before_its_end() {
    let wechat = wechat();
    let (first, _) = wechat.stable(false).await;
    let classic = wechat.token().await;

    wechat.emulator.advance(Duration::from_secs(6899));
    assert_eq!(wechat.stable(false).await, (first.clone(), 301));
    wechat.emulator.advance(Duration::from_secs(1));
    let (second, left) = wechat.stable(false).await;

    assert_ne!(second, first);
    assert_eq!(left, 7200);
    assert_eq!((wechat.verdict(&first).await, wechat.verdict(&second).await), (40003, 40003));
    assert_eq!(wechat.verdict(&classic).await, 40003, "the two kinds do not touch each other");
    wechat.emulator.advance(MINUTES_5);
    assert_eq!(wechat.verdict(&first).await, 42001);
}

#[tokio::test]
async fn a_forced_refresh_kills_the_old_token_unless_it_comes_too_soon_or_too_often() {
    let wechat = wechat();
    let (first, _) = wechat.stable(false).await;

    let (second, _) = wechat.stable(true).await;
    assert_ne!(second, first);
    assert_eq!((wechat.verdict(&first).await, wechat.verdict(&second).await), (40001, 40003));

    wechat.emulator.advance(Duration::from_secs(29));
    assert_eq!(wechat.stable(true).await, (second, 7171), "within 30 s nothing happens");

    for _ in 0..19 {
        wechat.emulator.advance(Duration::from_secs(30));
        wechat.stable(true).await;
    }
    wechat.emulator.advance(Duration::from_secs(30));
    assert_eq!(wechat.post("/cgi-bin/stable_token", &stable_body(true)).await.errcode(), Some(45009));
    wechat.emulator.advance(Duration::from_secs(86_400));
    wechat.stable(true).await;
}

#[tokio::test]
async fn a_token_can_be_revoked_early() {
    let wechat = wechat();
    let (classic, (stable, _)) = (wechat.token().await, wechat.stable(false).await);
    wechat.emulator.inject(InjectedFault::new(Effect::RevokeToken).times(1));

    assert_eq!(wechat.verdict(&classic).await, 40001);
    assert_eq!(wechat.verdict(&stable).await, 40001);
    assert_ne!(wechat.stable(false).await.0, stable);
}

#[tokio::test]
async fn checksession_knows_the_current_key_by_its_signature() {
    let wechat = wechat();
    let token = wechat.token().await;
    wechat.code();
    let openid = wechat.emulator.openid(APP_1, "alice");
    let key = wechat.emulator.session_key(APP_1, "alice").unwrap();
    let sign = |key: &str| hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), b"").as_ref());
    let (good, bad) = (sign(&key), sign("another"));
    let rows = [
        (format!("openid={openid}&signature={good}&sig_method=hmac_sha256"), 0),
        (format!("openid={openid}&signature={bad}&sig_method=hmac_sha256"), 87009),
        (format!("openid={openid}&sig_method=hmac_sha256"), 87009),
        (format!("openid={openid}&signature={good}&sig_method=sha1"), 87008),
        (format!("openid={openid}&signature={good}"), 87008),
        (format!("openid=onobody&signature={good}&sig_method=hmac_sha256"), 40003),
        (format!("signature={good}&sig_method=hmac_sha256"), 40003),
    ];
    for (query, errcode) in rows {
        let seen = wechat.get(&format!("/wxa/checksession?access_token={token}&{query}")).await;
        assert_eq!(seen.errcode(), Some(errcode), "{query}");
    }
    let target = format!(
        "/wxa/checksession?access_token={token}&openid={openid}&signature={good}&sig_method=hmac_sha256"
    );
    assert_eq!(wechat.get(&target).await.text(), r#"{"errcode":0,"errmsg":"ok"}"#);

    wechat.emulator.advance(Duration::from_secs(3600));
    wechat.code(); // the key rotates
    let token = wechat.token().await;
    let target =
        target.replace(target.split_once("access_token=").unwrap().1.split_once('&').unwrap().0, &token);
    assert_eq!(wechat.get(&target).await.errcode(), Some(87009));
}

#[tokio::test]
async fn an_openid_of_another_app_is_invalid() {
    let wechat = wechat();
    let token = wechat.token().await;
    wechat.emulator.wx_login(APP_2, "alice").unwrap();
    let openid = wechat.emulator.openid(APP_2, "alice");

    let seen = wechat
        .get(&format!(
            "/wxa/checksession?access_token={token}&openid={openid}&signature=x&sig_method=hmac_sha256"
        ))
        .await;

    assert_eq!(seen.errcode(), Some(40003));
}

#[tokio::test]
async fn a_phone_code_gives_a_number_once() {
    let wechat = wechat();
    let token = wechat.token().await;
    let target = format!("/wxa/business/getuserphonenumber?access_token={token}");
    let code = wechat.emulator.phone_code(APP_1, "alice").unwrap();
    let login_code = wechat.code();
    let foreign = wechat.emulator.phone_code(APP_2, "alice").unwrap();
    let openid = wechat.emulator.openid(APP_1, "alice");
    assert!(code.len() == 64 && code.bytes().all(|b| b.is_ascii_hexdigit()));

    assert_eq!(wechat.get(&target).await.errcode(), Some(43002));
    assert_eq!(wechat.try_send("POST", &target, "code=x").await.unwrap().errcode(), Some(47001));
    for wrong in [
        json!({}),
        json!({ "code": login_code }),
        json!({ "code": foreign }),
        json!({ "code": code, "openid": "osomeone" }),
    ] {
        assert_eq!(wechat.post(&target, &wrong).await.errcode(), Some(40029), "{wrong}");
    }
    let seen = wechat.post(&target, &json!({ "code": code, "openid": openid })).await.json();
    let phone = seen["phone_info"]["purePhoneNumber"].as_str().unwrap().to_owned();
    assert!(phone.len() == 11 && phone.starts_with("138"), "{phone}");
    assert_json(
        &seen,
        json!({ "errcode": 0, "errmsg": "ok", "phone_info": {
            "phoneNumber": phone,
            "purePhoneNumber": phone,
            "countryCode": "86",
            "watermark": { "timestamp": START.seconds(), "appid": APP_1 },
        }}),
    );
    assert_eq!(wechat.post(&target, &json!({ "code": code })).await.errcode(), Some(40029), "used");
}
