//! The control endpoints and the configuration.

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{Rotate, user_data};
use super::*;
use crate::config::Findings;

#[tokio::test]
async fn wx_login_answers_a_code_in_the_requested_state() {
    let wechat = wechat();
    for (state, errcode) in [("fresh", None), ("used", Some(40163)), ("expired", Some(40029))] {
        let json = wechat.order("wx.login", json!({"appid": APP_1, "wxid": "zoe", "state": state})).await;

        let seen = wechat.exchange(json["code"].as_str().unwrap()).await;

        assert_eq!(seen.errcode(), errcode, "{state}");
    }
}

#[tokio::test]
async fn identity_answers_what_wechat_would() {
    let wechat = wechat();
    let person = json!({"appid": APP_1, "wxid": "alice"});
    let openid = wechat.emulator.openid(APP_1, "alice");
    let unionid = wechat.emulator.unionid(APP_1, "alice").unwrap();
    assert_json(
        &wechat.order("identity", person.clone()).await,
        json!({"openid": openid, "unionid": unionid}),
    );

    wechat.order("wx.login", person.clone()).await;

    let session_key = wechat.emulator.session_key(APP_1, "alice").unwrap();
    let identity = wechat.order("identity", person).await;
    assert_json(&identity, json!({"openid": openid, "unionid": unionid, "session_key": session_key}));
}

#[tokio::test]
async fn time_advances() {
    let wechat = wechat();
    let code = wechat.code();

    let json = wechat.order("time/advance", json!({"by": "5m"})).await;

    assert_json(&json, json!({"now_ms": START.millis() + 300_000}));
    assert_eq!(wechat.exchange(&code).await.errcode(), Some(40029));
}

#[tokio::test]
async fn faults_are_injected_listed_and_cleared() {
    let wechat = wechat();
    let fault = json!({"effect": {"errcode": {"errcode": -1}}, "appid": APP_1, "path": "/sns/jscode2session", "times": 2});

    wechat.order("fault", fault).await;
    assert_eq!(wechat.exchange("none").await.errcode(), Some(-1));

    let left = json!({"faults": [{
        "effect": {"errcode": {"errcode": -1, "consume": false}},
        "appid": APP_1,
        "path": "/sns/jscode2session",
        "skip": 0,
        "times": 1,
        "percent": 100,
    }]});
    assert_json(&wechat.get("/__emu/fault").await.json(), left);
    let cleared = wechat.try_send("DELETE", "/__emu/fault", "").await.unwrap().json();
    assert_json(&cleared, json!({"cleared": 1}));
    assert_eq!(wechat.exchange("none").await.errcode(), Some(40029));
}

/// Every spelling that the manual gives.
#[tokio::test]
async fn every_effect_has_a_spelling() {
    let effects = [
        json!({"delay_before": "2s"}),
        json!({"delay_after": "500ms"}),
        json!("drop_before"),
        json!("drop_after"),
        json!("reset_before"),
        json!("reset_after"),
        json!({"errcode": {"errcode": 45011, "consume": false}}),
        json!("bad_gateway"),
        json!("html_page"),
        json!("revoke_token"),
        json!({"set": {"unionid": null}}),
        json!({"omit": ["openid"]}),
        json!("extra_fields"),
        json!("errcode_zero"),
        json!("errcode_as_text"),
        json!("short_session_key"),
        json!({"huge_body": "1MiB"}),
        json!("truncated_json"),
        json!("truncated_body"),
        json!("bom"),
        json!("newline"),
        json!("gzip"),
        json!("chunked"),
        json!({"slow_body": "50ms"}),
    ];
    assert_eq!(effects.len(), 24);
    let manual = include_str!("../../../docs/emulator.md");
    for effect in effects {
        let wechat = wechat();

        let json = wechat.order("fault", json!({ "effect": effect })).await;

        assert_json(&json["faults"][0]["effect"], effect.clone());
        let name = effect.as_str().or_else(|| effect.as_object()?.keys().next().map(String::as_str)).unwrap();
        assert!(manual.contains(&format!("`{name}`")), "docs/emulator.md does not describe `{name}`");
    }
}

#[tokio::test]
async fn invalid_control_calls_are_refused_with_a_sentence() {
    let wechat = wechat();
    let rows = [
        ("POST", "wx.login", "", 400, "the body is not what this endpoint takes: EOF"),
        (
            "POST",
            "wx.login",
            r#"{"appid":"wxnone","wxid":"alice"}"#,
            400,
            "appid `wxnone` is not configured; known: wxe000000000000001, ",
        ),
        ("POST", "wx.login", r#"{"appid":"wxe000000000000001","wxid":""}"#, 400, "`wxid` is empty"),
        ("POST", "wx.login", r#"{"appid":"wxe000000000000001"}"#, 400, "missing field `wxid`"),
        ("POST", "wx.login", r#"{"appid":"a","wxid":"b","wxname":"c"}"#, 400, "unknown field `wxname`"),
        ("POST", "wx.login", r#"{"appid":"a","wxid":"b","state":"old"}"#, 400, "unknown variant `old`"),
        (
            "POST",
            "encrypt",
            r#"{"appid":"wxe000000000000001","wxid":"zoe"}"#,
            400,
            "`zoe` has no session key",
        ),
        ("POST", "app", r#"{"appid":"wxnone"}"#, 400, "appid `wxnone` is not configured"),
        ("POST", "time/advance", r#"{"by":"five"}"#, 400, "`five` is not a duration; write"),
        ("POST", "fault", r#"{"effect":"explode"}"#, 400, "unknown variant `explode`"),
        ("POST", "fault", r#"{"effect":"bom","app":"x"}"#, 400, "unknown field `app`"),
        ("POST", "fault", r#"{"effect":"bom","appid":"wxnone"}"#, 400, "appid `wxnone` is not configured"),
        (
            "POST",
            "fault",
            r#"{"effect":"bom","path":"/sns"}"#,
            400,
            "path `/sns` is not one of WeChat's here; known: /sns/jscode2session",
        ),
        ("POST", "fault", r#"{"effect":"bom","times":0}"#, 400, "`times` is at least 1"),
        ("POST", "fault", r#"{"effect":"bom","percent":101}"#, 400, "`percent` from 1 to 100"),
        ("POST", "fault", r#"{"effect":{"huge_body":"65MiB"}}"#, 400, "at most 64MiB"),
        ("GET", "wx.login", "", 405, "this endpoint takes POST"),
        ("POST", "log", "{}", 405, "this endpoint takes GET or DELETE"),
        ("PUT", "fault", "{}", 405, "this endpoint takes GET, POST or DELETE"),
        ("POST", "nothing", "{}", 404, "no control endpoint here"),
    ];
    for (method, endpoint, body, status, sentence) in rows {
        let seen = wechat.try_send(method, &format!("/__emu/{endpoint}"), body).await.unwrap();

        assert_eq!(seen.status, status, "{method} {endpoint} {body}");
        assert_eq!(seen.headers["content-type"], "application/json");
        let error = seen.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(sentence), "{method} {endpoint} {body}: {error}");
    }
    assert!(wechat.emulator.faults().is_empty());
}

#[tokio::test]
async fn an_apps_secret_can_be_reset_and_frozen() {
    let wechat = wechat();
    let code = wechat.code();

    wechat.order("app", json!({"appid": APP_1, "secret": "new"})).await;
    assert_eq!(wechat.exchange(&code).await.errcode(), Some(40125));
    wechat.order("app", json!({"appid": APP_1, "frozen": true})).await;
    assert_eq!(wechat.exchange(&code).await.errcode(), Some(40243));
}

fn open(session_key: &str, sealed: &Value) -> Vec<u8> {
    let decoded = |text: &str| STANDARD.decode(text).unwrap();
    let key = UnboundCipherKey::new(&AES_128, &decoded(session_key)).unwrap();
    let iv: [u8; 16] = decoded(sealed["iv"].as_str().unwrap()).try_into().unwrap();
    let mut data = decoded(sealed["encryptedData"].as_str().unwrap());
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).unwrap();
    key.decrypt(&mut data, DecryptionContext::Iv128(iv.into())).unwrap().to_vec()
}

#[tokio::test]
async fn sealed_user_data_opens_with_the_session_key() {
    let wechat = wechat();
    wechat.code();
    let session_key = wechat.emulator.session_key(APP_1, "alice").unwrap();
    let seal = |data: Value| wechat.order("encrypt", json!({"appid": APP_1, "wxid": "alice", "data": data}));

    let profile = seal(Value::Null).await;
    let own = seal(json!({"openId": "mine", "n": 1})).await;
    let text = seal(json!("not json")).await;

    let opened: Value = serde_json::from_slice(&open(&session_key, &profile)).unwrap();
    assert_eq!(opened["nickName"], "alice");
    assert_eq!(opened["openId"], wechat.emulator.openid(APP_1, "alice"));
    assert_eq!(opened["unionId"], wechat.emulator.unionid(APP_1, "alice").unwrap());
    assert_json(&opened["watermark"], json!({"timestamp": START.seconds(), "appid": APP_1}));
    assert_eq!(serde_json::from_slice::<Value>(&open(&session_key, &own)).unwrap()["openId"], "mine");
    assert_eq!(open(&session_key, &text), b"not json");
    let raw: Value = serde_json::from_str(profile["rawData"].as_str().unwrap()).unwrap();
    assert!(raw.get("openId").is_none() && raw.get("watermark").is_none());
    assert!(profile["cloudID"].is_string());
}

/// WeChat's published example, recomputed: the signature is over the key's text, not its bytes.
#[test]
fn raw_data_is_signed_as_in_wechats_example() {
    let raw_data = r#"{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}"#;

    let signature = user_data::signature(raw_data, "HyVFkGl5F5OQWJZZaNzBBg==");

    assert_eq!(signature, "75e81ceda165f4ffa64f4068af58c64b8f54b88c");
}

#[test]
fn the_configuration_reads_every_key() {
    let yaml = "
seed: mine
apps:
  - { appid: wxone, secret: one, open_platform: p, ip_whitelist: [10.0.0.1] }
  - { appid: wxtwo, secret: two, frozen: true }
  - { appid: wxsite, secret: x, kind: website, name: Site, redirect_domains: [app.example.com] }
  - { appid: wxaccount, secret: x, kind: official_account, redirect_domains: [app.example.com] }
users:
  - { wxid: alice, nickname: Alice, phone: '13800000000' }
  - { wxid: bob, avatar: 'https://a/b', sex: 2, province: P, city: C, country: CN, privilege: [chinaunicom] }
  - { wxid: mallory, risk: true }
  - { wxid: ghost, snapshot: true }
qr_codes: { lifetime: 1m, poll: 1s }
refused_sign_in: redirect
session_keys: { rotate: { min_interval: 5m }, lifetime: 1d }
quotas: { user_per_minute: 100, app_per_minute: 1000, tokens_per_day: 10 }
grant_type_required: false
logged_calls: 10
max_connections: 20
";
    let mut findings = Findings::default();

    let config = Config::from_yaml(yaml, &mut findings).unwrap();

    assert_eq!(findings, Findings::default());
    assert_eq!((config.apps.len(), config.users.len()), (4, 4));
    assert_eq!(config.session_keys.rotate, Rotate::MinInterval(crate::config::Duration::from_secs(300)));
    for (text, rotate) in [("always", Rotate::Always), ("never", Rotate::Never)] {
        let config =
            Config::from_yaml(&format!("session_keys: {{ rotate: {text} }}"), &mut findings).unwrap();
        assert_eq!(config.session_keys.rotate, rotate);
        assert_eq!(config.apps.len(), 5, "what is left out keeps its default");
    }
}

#[test]
fn the_manuals_configuration_is_valid() {
    let manual = include_str!("../../../docs/emulator.md");
    let (_, rest) = manual.split_once("```yaml\nseed:").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let mut findings = Findings::default();

    let config = Config::from_yaml(&format!("seed:{yaml}"), &mut findings);

    assert!(config.is_some(), "{findings:?}");
}

#[test]
fn every_problem_of_a_configuration_is_reported_at_once() {
    let yaml = "
apps:
  - { appid: wxone, secret: '' }
  - { appid: wxone, secret: x }
  - { appid: wxsite, secret: x, kind: website }
users: [{ wxid: '' }, { wxid: a }, { wxid: a, sex: 3 }]
session_keys: { lifetime: 0s }
qr_codes: { lifetime: 0s }
max_connections: 0
";
    let mut findings = Findings::default();

    assert!(Config::from_yaml(yaml, &mut findings).is_none());

    let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "apps[0].secret",
            "apps[1].appid",
            "apps[2].redirect_domains",
            "users[0].wxid",
            "users[2].wxid",
            "users[2].sex",
            "session_keys.lifetime",
            "qr_codes.lifetime",
            "max_connections"
        ]
    );
    assert!(Config::from_yaml("nonsense: 1", &mut findings).is_none());
}
