//! The log of calls.

use super::super::{CallEnding, Effect, InjectedFault, fingerprint};
use super::*;

#[tokio::test]
async fn every_call_is_logged_with_its_parameters_and_its_answer() {
    let wechat = wechat();
    let code = wechat.code();
    wechat.emulator.advance(std::time::Duration::from_secs(7));

    let answered = wechat.exchange(&code).await;
    wechat.get("/nothing").await;

    let calls = wechat.emulator.calls();
    assert_eq!(calls.len(), 2);
    let call = &calls[0];
    assert_eq!((call.number, call.at.millis()), (1, START.millis() + 7_000));
    assert_eq!(
        (call.method.as_str(), call.path.as_str(), call.host.as_str()),
        ("GET", "/sns/jscode2session", "api.weixin.qq.com")
    );
    assert_eq!(call.query["appid"], APP_1);
    assert_eq!(call.query["js_code"], code);
    assert_eq!((call.errcode, call.status, call.ending), (Some(0), Some(200), CallEnding::Answered));
    assert_eq!(call.answer.as_deref(), Some(answered.text()));
    assert_eq!((calls[1].errcode, calls[1].status), (None, Some(404)));
}

#[tokio::test]
async fn secrets_are_distinguished_but_not_shown() {
    let wechat = wechat();

    wechat.exchange("none").await;
    wechat.get(&exchange(APP_1, "a-wrong-secret", "none")).await;
    wechat.post("/cgi-bin/stable_token", &json!({"appid": APP_1, "secret": SECRET_1})).await;
    wechat.try_send("POST", "/cgi-bin/stable_token", &format!("secret={SECRET_1}")).await.unwrap();

    let calls = wechat.emulator.calls();
    assert_eq!(calls.len(), 4);
    assert_eq!(calls[0].query["secret"], fingerprint(SECRET_1));
    assert_eq!(calls[1].query["secret"], fingerprint("a-wrong-secret"));
    assert_ne!(calls[0].query["secret"], calls[1].query["secret"]);
    assert_json(&calls[2].body.clone().unwrap()["secret"], json!(fingerprint(SECRET_1)));
    assert_eq!(calls[3].body, None);
    let over_http = wechat.get("/__emu/log").await;
    for text in [format!("{calls:?}"), over_http.text().to_owned()] {
        assert!(!text.contains(SECRET_1) && !text.contains("a-wrong-secret"), "{text}");
        assert!(text.contains(&fingerprint(SECRET_1)));
    }
}

#[test]
fn a_fingerprint_is_the_start_of_the_sha256() {
    // printf %s emulator-secret-1 | sha256sum | cut -c1-16
    assert_eq!(fingerprint(SECRET_1), "[sha256:02cfc384492085be]");
}

#[tokio::test]
async fn the_log_over_http_is_the_same_and_can_be_cleared() {
    let wechat = wechat();
    wechat.emulator.inject(InjectedFault::new(Effect::errcode(-1)).times(1));
    wechat.exchange("none").await;

    let log = wechat.get("/__emu/log").await.json();
    assert_json(
        &log,
        json!({ "calls": [{
            "number": 1,
            "at_ms": START.millis(),
            "host": "api.weixin.qq.com",
            "method": "GET",
            "path": "/sns/jscode2session",
            "query": {
                "appid": APP_1,
                "secret": fingerprint(SECRET_1),
                "js_code": "none",
                "grant_type": "authorization_code",
            },
            "body": null,
            "faults": [{ "errcode": { "errcode": -1, "consume": false } }],
            "errcode": null,
            "ending": "answered",
            "status": 200,
            "answer": wechat.emulator.calls()[0].answer,
        }]}),
    );

    let cleared = wechat.try_send("DELETE", "/__emu/log", "").await.unwrap().json();
    assert_json(&cleared, json!({ "cleared": 1 }));
    assert_json(&wechat.get("/__emu/log").await.json(), json!({ "calls": [] }));
    wechat.exchange("none").await;
    assert_eq!(wechat.emulator.calls()[0].number, 2, "numbers go on");
}

#[tokio::test]
async fn the_log_keeps_the_newest_calls() {
    let wechat = wechat_with(Config { logged_calls: 3, ..Config::default() });
    for _ in 0..5 {
        wechat.get("/nothing").await;
    }

    let numbers: Vec<u64> = wechat.emulator.calls().iter().map(|call| call.number).collect();

    assert_eq!(numbers, [3, 4, 5]);
}
