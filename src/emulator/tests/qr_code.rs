//! The QR code of a website: the actions of the phone and the answers to the page's polls.

use std::time::Duration;

use super::super::{QrCodes, RefusedSignIn};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn page_target(state: &str) -> String {
    let callback = encoded(&format!("{CALLBACK}?x=1"));
    format!(
        "/connect/qrconnect?appid={WEBSITE}&redirect_uri={callback}&response_type=code&scope=snsapi_login&state={state}"
    )
}

impl WeChat {
    /// Opens the page, and returns the uuid of its code.
    async fn open(&self) -> String {
        let seen = self.get(&page_target("abc")).await;
        let (_, rest) = seen.text().split_once("data-uuid=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    async fn poll(&self, uuid: &str, last: &str) -> String {
        let seen = self.get(&format!("/connect/l/qrconnect?uuid={uuid}&last={last}&_=1")).await;
        assert_eq!((seen.status, seen.headers["content-type"].as_str()), (200, "text/javascript"));
        assert_eq!(seen.headers["cache-control"], "no-store");
        seen.text().to_owned()
    }

    async fn phone(&self, uuid: &str, action: &str) -> Value {
        let body = if action == "scan" { json!({"wxid": "bob"}) } else { json!({}) };
        self.order(&format!("qr/{uuid}/{action}"), body).await
    }

    /// Presses a button on the page that replaces the phone.
    async fn press(&self, uuid: &str, fields: &str) -> Seen {
        let seen = self.try_send("POST", "/connect/confirm", &format!("uuid={uuid}&{fields}")).await.unwrap();
        assert_eq!((seen.status, seen.headers["location"].as_str()), (303, &*phone_target(uuid)));
        self.get(&phone_target(uuid)).await
    }
}

fn phone_target(uuid: &str) -> String {
    format!("/connect/confirm?uuid={uuid}")
}

fn news(errcode: u16) -> String {
    format!("window.wx_errcode={errcode};window.wx_code='';")
}

#[tokio::test]
async fn a_poll_answers_at_once_what_the_phone_does() {
    let wechat = wechat();
    let uuid = wechat.open().await;

    // Each poll is under way, or about to be, when the phone acts: either way it answers the news.
    let (heard, shown) = tokio::join!(wechat.poll(&uuid, ""), wechat.phone(&uuid, "scan"));
    assert_eq!(heard, news(404));
    assert_json(
        &shown,
        json!({"uuid": uuid, "appid": WEBSITE, "state": "abc", "step": "scanned", "wxid": "bob"}),
    );
    let (heard, _) = tokio::join!(wechat.poll(&uuid, "404"), wechat.phone(&uuid, "cancel"));
    assert_eq!(heard, news(403));
    let (heard, _) = tokio::join!(wechat.poll(&uuid, "403"), wechat.phone(&uuid, "scan"));
    assert_eq!(heard, news(404), "a refused code may be scanned again");
    let (heard, shown) = tokio::join!(wechat.poll(&uuid, "404"), wechat.phone(&uuid, "confirm"));
    let code = shown["code"].as_str().unwrap();
    assert_eq!(heard, format!("window.wx_errcode=405;window.wx_code='{code}';"));
    assert_eq!(wechat.poll(&uuid, "404").await, heard, "a second tab gets the same");

    let tokens = wechat.get(&token(WEBSITE, WEBSITE_SECRET, code)).await.json();
    assert_eq!(tokens["openid"], json!(wechat.emulator.openid(WEBSITE, "bob")));
}

#[tokio::test]
async fn a_poll_without_news_is_held_and_then_says_408() {
    let qr_codes = QrCodes { poll: crate::config::Duration::from_secs(0), ..QrCodes::default() };
    let wechat = wechat_with(Config { qr_codes, ..Config::default() });
    let uuid = wechat.open().await;

    assert_eq!(wechat.poll(&uuid, "").await, news(408));
    wechat.phone(&uuid, "scan").await;
    assert_eq!(wechat.poll(&uuid, "").await, news(404));
    assert_eq!(wechat.poll(&uuid, "404").await, news(408), "no news since");
}

#[tokio::test]
async fn a_code_expires_with_time_or_on_command() {
    let wechat = wechat();
    let (by_time, scanned, told, confirmed) =
        (wechat.open().await, wechat.open().await, wechat.open().await, wechat.open().await);
    wechat.phone(&scanned, "scan").await;
    wechat.phone(&confirmed, "scan").await;
    wechat.phone(&confirmed, "confirm").await;

    let (heard, _) = tokio::join!(wechat.poll(&told, ""), wechat.phone(&told, "expire"));
    assert_eq!(heard, news(402));
    let (heard, ()) = tokio::join!(wechat.poll(&by_time, ""), async { wechat.emulator.advance(5 * MINUTE) });
    assert_eq!(heard, news(402));
    assert_eq!(wechat.poll(&scanned, "404").await, news(402));
    assert!(wechat.poll(&confirmed, "404").await.starts_with("window.wx_errcode=405;"));
    assert_eq!(wechat.poll("nothing", "").await, news(402));
    assert_eq!(wechat.poll("", "").await, news(402));
}

#[tokio::test]
async fn a_phone_can_only_do_what_comes_next() {
    let wechat = wechat();
    // What was done, and the sentence for each of scan, confirm, cancel, expire; empty where it may
    // be done.
    let (expired, scan_first, done) = ("has expired", "scan it first", "scanned already");
    let rows: [(&[&str], [&str; 4]); 5] = [
        (&[], ["", scan_first, scan_first, ""]),
        (&["scan"], [done, "", "", ""]),
        (&["scan", "cancel"], ["", scan_first, scan_first, ""]),
        (&["scan", "confirm"], [done, done, done, done]),
        (&["expire"], [expired, expired, expired, expired]),
    ];
    for (before, sentences) in rows {
        for (action, sentence) in ["scan", "confirm", "cancel", "expire"].into_iter().zip(sentences) {
            let uuid = wechat.open().await;
            for action in before {
                wechat.phone(&uuid, action).await;
            }

            let body = if action == "scan" { r#"{"wxid":"bob"}"# } else { "{}" };
            let seen = wechat.try_send("POST", &format!("/__emu/qr/{uuid}/{action}"), body).await.unwrap();

            let expected = if sentence.is_empty() { 200 } else { 400 };
            assert_eq!(seen.status, expected, "{before:?} {action}: {}", seen.text());
            assert!(seen.text().contains(sentence), "{before:?} {action}: {}", seen.text());
        }
    }
    let wrong = [
        ("qr/nothing/scan", r#"{"wxid":"bob"}"#, 400, "expired"),
        ("qr/nothing/scan", r#"{"wxid":""}"#, 400, "`wxid` is empty"),
        ("qr/nothing/scan", "{}", 400, "missing field `wxid`"),
        ("qr/nothing/confirm", r#"{"wxid":"bob"}"#, 400, "unknown field `wxid`"),
        ("qr/nothing/shake", "{}", 400, "not `shake`"),
        ("qr/nothing", "{}", 404, "no control endpoint"),
        ("qr", "{}", 405, "takes GET"),
    ];
    for (endpoint, body, status, sentence) in wrong {
        let seen = wechat.try_send("POST", &format!("/__emu/{endpoint}"), body).await.unwrap();
        assert_eq!(seen.status, status, "{endpoint} {body}");
        assert!(seen.text().contains(sentence), "{endpoint} {body}: {}", seen.text());
    }
}

#[tokio::test]
async fn the_codes_that_pages_show_are_listed() {
    let wechat = wechat();
    let uuid = wechat.open().await;

    let listed = wechat.get("/__emu/qr").await.json();

    let entry = json!({"uuid": uuid, "appid": WEBSITE, "state": "abc", "step": "waiting"});
    assert_json(&listed, json!({ "qr_codes": [entry] }));
    wechat.emulator.advance(10 * MINUTE);
    let newer = wechat.open().await;
    let listed = wechat.get("/__emu/qr").await.json();
    assert_eq!(listed["qr_codes"][0]["uuid"], newer, "the old one is removed");
}

#[tokio::test]
async fn a_browser_without_scripts_signs_in_with_buttons_alone() {
    let wechat = wechat();
    let uuid = wechat.open().await;
    let again = format!("{}&uuid={uuid}", page_target("abc"));

    let phone = wechat.get(&phone_target(&uuid)).await;
    assert!(phone.text().contains(r#"name="wxid" value="alice" checked"#), "{}", phone.text());
    let phone = wechat.press(&uuid, "action=scan&wxid=alice&other=").await;
    assert!(phone.text().contains(r#"<bdi>alice</bdi>"#) && phone.text().contains(r#"value="confirm""#));
    assert!(wechat.get(&again).await.text().contains(r#"data-step="404""#), "the same code is shown");
    wechat.press(&uuid, "action=cancel").await;
    assert!(wechat.get(&again).await.text().contains(r#"data-step="403""#));
    wechat.press(&uuid, "action=scan&wxid=alice&other=zoe").await;
    let phone = wechat.press(&uuid, "action=confirm").await;
    assert!(phone.text().contains("已确认"));
    wechat.press(&uuid, "action=confirm").await;
    let seen = wechat.get(&again).await;

    let shown = wechat.emulator.qr_codes();
    let super::super::QrCodeStep::Confirmed { wxid, code } = &shown[0].step else { panic!("{shown:?}") };
    assert_eq!(wxid, "zoe");
    assert_eq!(
        (seen.status, &*seen.headers["location"]),
        (302, &*format!("{CALLBACK}?x=1&code={code}&state=abc"))
    );
    assert_eq!(seen.headers["cache-control"], "no-store");
    assert_eq!(shown.len(), 1);
}

#[tokio::test]
async fn an_expired_or_foreign_code_is_replaced() {
    let wechat = wechat();
    let uuid = wechat.open().await;
    let with = |state: &str, uuid: &str| format!("{}&uuid={uuid}", page_target(state));
    let same = format!(r#"data-uuid="{uuid}""#);

    assert!(wechat.get(&with("abc", &uuid)).await.text().contains(&same));
    assert!(!wechat.get(&with("other", &uuid)).await.text().contains(&same), "another browser's state");
    assert!(!wechat.get(&with("abc", "none")).await.text().contains(&same));
    wechat.phone(&uuid, "expire").await;
    assert!(!wechat.get(&with("abc", &uuid)).await.text().contains(&same));
    assert!(wechat.get(&phone_target(&uuid)).await.text().contains("二维码已过期"));
}

#[tokio::test]
async fn a_refusal_stays_on_the_page_unless_configured_otherwise() {
    for (refused_sign_in, location) in
        [(RefusedSignIn::Stay, None), (RefusedSignIn::Redirect, Some(format!("{CALLBACK}?x=1&state=abc")))]
    {
        let wechat = wechat_with(Config { refused_sign_in, ..Config::default() });
        let uuid = wechat.open().await;
        let page = wechat.get(&format!("{}&uuid={uuid}", page_target("abc"))).await;
        wechat.phone(&uuid, "scan").await;
        wechat.phone(&uuid, "cancel").await;

        let after = wechat.get(&format!("{}&uuid={uuid}", page_target("abc"))).await;

        assert_eq!(after.headers.get("location"), location.as_ref());
        let told = location.unwrap_or_default().replace('&', "&amp;");
        assert!(page.text().contains(&format!(r#"data-refused="{told}""#)), "{}", page.text());
    }
}
