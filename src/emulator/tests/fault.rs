//! What each fault looks like on the wire.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use super::super::{CallEnding, Effect, InjectedFault};
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{ByteSize, Duration as Configured};

fn now() -> Instant {
    SystemClock.instant()
}

const PAUSE: Duration = Duration::from_millis(80);
const PATH: &str = "/sns/jscode2session";

fn pause() -> Configured {
    Configured(PAUSE)
}

/// An emulated WeChat with one fault on every call.
fn wechat_where(effect: Effect) -> WeChat {
    let wechat = wechat();
    wechat.emulator.inject(InjectedFault::new(effect));
    wechat
}

/// The state of the code after the faults are cleared.
async fn errcode_afterwards(wechat: &WeChat, code: &str) -> Option<i64> {
    wechat.emulator.clear_faults();
    wechat.exchange(code).await.errcode()
}

#[tokio::test]
async fn a_lost_reply_uses_the_code_up_and_a_lost_request_does_not() {
    let table = [
        (Effect::DropBefore, ErrorKind::UnexpectedEof, CallEnding::Closed, None),
        (Effect::DropAfter, ErrorKind::UnexpectedEof, CallEnding::Closed, Some(40163)),
        (Effect::ResetBefore, ErrorKind::ConnectionReset, CallEnding::Reset, None),
        (Effect::ResetAfter, ErrorKind::ConnectionReset, CallEnding::Reset, Some(40163)),
    ];
    for (effect, kind, ending, afterwards) in table {
        let wechat = wechat_where(effect.clone());
        let code = wechat.code();

        let error = wechat.try_exchange(&code).await.unwrap_err();

        assert_eq!(error.kind(), kind, "{effect:?}");
        let call = &wechat.emulator.calls()[0];
        assert_eq!((call.ending, call.status, call.answer.as_deref()), (ending, None, None), "{effect:?}");
        assert_eq!(call.errcode.is_some(), afterwards.is_some(), "{effect:?}");
        assert_eq!(errcode_afterwards(&wechat, &code).await, afterwards, "{effect:?}");
    }
}

#[tokio::test]
async fn a_delay_comes_before_or_after_the_code_is_used() {
    for (effect, used_meanwhile) in
        [(Effect::DelayBefore(pause()), false), (Effect::DelayAfter(pause()), true)]
    {
        let wechat = wechat_where(effect.clone());
        let code = wechat.code();
        let started = now();

        let slow = wechat.exchange(&code);
        let meanwhile = async {
            while wechat.emulator.calls().is_empty() {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            wechat.emulator.calls()[0].errcode.is_some()
        };
        let (seen, decided) = tokio::join!(slow, meanwhile);

        assert_eq!(seen.errcode(), None, "{effect:?}");
        assert!(now() - started >= PAUSE, "{effect:?}");
        assert_eq!(decided, used_meanwhile, "{effect:?}");
    }
}

#[tokio::test]
async fn a_call_continues_after_its_client_disconnects() {
    let wechat = wechat_where(Effect::DelayBefore(pause()));
    let code = wechat.code();

    let impatient = tokio::time::timeout(PAUSE / 2, wechat.exchange(&code)).await;

    assert!(impatient.is_err());
    while wechat.emulator.calls()[0].ending == CallEnding::UnderWay {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(errcode_afterwards(&wechat, &code).await, Some(40163));
}

#[tokio::test]
async fn an_injected_errcode_comes_first_and_uses_the_code_up_only_on_request() {
    let table = [
        (Effect::errcode(-1), -1, "system error, rid: ", None),
        (Effect::errcode_consuming(-1), -1, "system error, rid: ", Some(40163)),
        (
            Effect::errcode(45011),
            45011,
            "api minute-quota reach limit, must slower, retry next minute, rid: ",
            None,
        ),
        (Effect::errcode(99999), 99999, "error, rid: ", None),
    ];
    for (effect, errcode, errmsg, afterwards) in table {
        let wechat = wechat_where(effect.clone());
        let code = wechat.code();

        let seen = wechat.exchange(&code).await;
        let without_appid = wechat.get(PATH).await;

        assert_eq!(seen.errcode(), Some(errcode), "{effect:?}");
        assert!(seen.json()["errmsg"].as_str().unwrap().starts_with(errmsg), "{effect:?}: {}", seen.text());
        assert_eq!(without_appid.errcode(), Some(errcode), "{effect:?}");
        assert_eq!(errcode_afterwards(&wechat, &code).await, afterwards, "{effect:?}");
    }
}

#[tokio::test]
async fn pages_come_before_wechat_and_do_not_use_the_code() {
    for (effect, status) in [(Effect::BadGateway, 502), (Effect::HtmlPage, 200)] {
        let wechat = wechat_where(effect.clone());
        let code = wechat.code();

        let seen = wechat.exchange(&code).await;

        assert_eq!(seen.status, status, "{effect:?}");
        assert_eq!(seen.headers["content-type"], "text/html", "{effect:?}");
        assert!(seen.text().starts_with("<html>"), "{effect:?}");
        assert_eq!(errcode_afterwards(&wechat, &code).await, None, "{effect:?}");
    }
}

/// Effects that change the members of a successful answer: what is different then.
#[tokio::test]
async fn a_successful_answer_can_be_changed() {
    let members = |text: &str| serde_json::from_str(text).unwrap();
    let table = [
        (Effect::ErrcodeZero, "errcode", Some(json!(0))),
        (Effect::ErrcodeZero, "errmsg", Some(json!("ok"))),
        (Effect::ExtraFields, "expires_in", Some(json!(7200))),
        (Effect::Omit(vec!["openid".into()]), "openid", None),
        (Effect::Omit(vec!["session_key".into(), "unionid".into()]), "session_key", None),
        (Effect::ShortSessionKey, "session_key", Some(json!("OCBieXRlcyE="))),
        (Effect::Set(members(r#"{"unionid":null}"#)), "unionid", Some(json!(null))),
        (Effect::Set(members(r#"{"openid":""}"#)), "openid", Some(json!(""))),
        (Effect::Set(members(r#"{"is_snapshotuser":1}"#)), "is_snapshotuser", Some(json!(1))),
    ];
    for (effect, member, expected) in table {
        let wechat = wechat_where(effect.clone());

        let success = wechat.exchange(&wechat.code()).await;
        let failure = wechat.exchange("none").await;

        assert_eq!(success.json().get(member), expected.as_ref(), "{effect:?}");
        assert_eq!(failure.errcode(), Some(40029), "{effect:?}");
        assert_eq!(failure.json().as_object().unwrap().len(), 2, "{effect:?}: errors stay as they are");
    }
}

#[tokio::test]
async fn unchanged_members_keep_their_place() {
    let wechat = wechat_where(Effect::ErrcodeZero);

    let seen = wechat.exchange(&wechat.code()).await;

    assert!(seen.text().starts_with(r#"{"session_key":"#), "{}", seen.text());
    assert!(seen.text().ends_with(r#","errcode":0,"errmsg":"ok"}"#), "{}", seen.text());
}

#[tokio::test]
async fn errcode_can_be_text() {
    let wechat = wechat_where(Effect::ErrcodeAsText);

    assert_eq!(wechat.exchange("none").await.json()["errcode"], "40029");
    assert!(wechat.exchange(&wechat.code()).await.json().get("errcode").is_none());
}

#[tokio::test]
async fn effects_add_up() {
    let wechat = wechat_where(Effect::errcode(-1));
    wechat.emulator.inject(InjectedFault::new(Effect::ErrcodeAsText));
    wechat.emulator.inject(InjectedFault::new(Effect::Newline));

    let seen = wechat.exchange("none").await;

    assert_eq!(seen.json()["errcode"], "-1");
    assert!(seen.text().ends_with("}\n"));
}

#[tokio::test]
async fn a_body_can_be_huge() {
    let wechat = wechat_where(Effect::HugeBody(ByteSize::mib(2)));

    let seen = wechat.exchange(&wechat.code()).await;

    assert!(seen.body.len() > 2 * 1024 * 1024);
    assert!(seen.json()["openid"].is_string());
}

#[tokio::test]
async fn truncated_json_is_a_whole_message_with_half_a_text() {
    let wechat = wechat_where(Effect::TruncatedJson);

    let seen = wechat.exchange(&wechat.code()).await;

    assert!(!seen.cut);
    assert!(seen.text().starts_with(r#"{"session_key""#));
    assert!(serde_json::from_slice::<Value>(&seen.body).is_err());
}

#[tokio::test]
async fn a_truncated_body_is_less_than_was_promised() {
    let wechat = wechat_where(Effect::TruncatedBody);
    let code = wechat.code();

    let seen = wechat.exchange(&code).await;

    let promised: usize = seen.headers["content-length"].parse().unwrap();
    assert!(seen.cut);
    assert_eq!(seen.body.len(), promised / 2);
    assert!(seen.text().starts_with(r#"{"session_key""#));
    assert_eq!(errcode_afterwards(&wechat, &code).await, Some(40163));
}

#[tokio::test]
async fn a_byte_order_mark_and_a_newline_stand_around_the_json() {
    let wechat = wechat_where(Effect::Bom);
    assert!(wechat.exchange("none").await.text().starts_with("\u{feff}{"));

    let wechat = wechat_where(Effect::Newline);
    assert!(wechat.exchange("none").await.text().ends_with("}\n"));
}

#[tokio::test]
async fn gzip_inflates_to_the_answer() {
    for size in [0, 0xffff, 200_000] {
        let wechat = wechat_where(Effect::Gzip);
        wechat.emulator.inject(InjectedFault::new(Effect::HugeBody(ByteSize(size))));

        let seen = wechat.exchange("none").await;

        assert_eq!(seen.headers["content-encoding"], "gzip");
        assert_eq!(seen.headers["content-length"], seen.body.len().to_string());
        let inflated = gunzip(&seen.body);
        let json: Value = serde_json::from_slice(&inflated).unwrap();
        assert_eq!(json["errcode"], 40029);
        assert_eq!(json["padding"].as_str().unwrap().len() as u64, size);
    }
}

/// The system's own gzip, which checks lengths and checksum.
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let stdin = std::fs::File::open(file.path()).unwrap();
    let mut gzip = std::process::Command::new("gzip")
        .arg("-dc")
        .stdin(stdin)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut inflated = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut inflated).unwrap();
    assert!(gzip.wait().unwrap().success());
    inflated
}

#[tokio::test]
async fn chunks_have_no_length() {
    let wechat = wechat_where(Effect::Chunked);

    let seen = wechat.exchange(&wechat.code()).await;

    assert_eq!(seen.headers["transfer-encoding"], "chunked");
    assert!(!seen.headers.contains_key("content-length"));
    assert!(seen.chunks > 10, "{}", seen.chunks);
    assert!(seen.json()["openid"].is_string());
}

#[tokio::test]
async fn a_slow_body_drips() {
    let wechat = wechat_where(Effect::SlowBody(Configured::from_millis(2)));
    let started = now();

    let seen = wechat.exchange("none").await;

    assert!(now() - started >= Duration::from_millis(2) * u32::try_from(seen.body.len()).unwrap());
    assert_eq!(seen.errcode(), Some(40029));
}

#[tokio::test]
async fn a_fault_applies_only_to_the_calls_it_matches() {
    let wechat = wechat();
    let fault = InjectedFault::new(Effect::errcode(-1)).app(APP_2).path(PATH).skip(1).times(2);
    wechat.emulator.inject(fault);
    let of_app_2 = exchange(APP_2, SECRET_2, "none");
    let token_of_app_2 =
        format!("/cgi-bin/token?grant_type=client_credential&appid={APP_2}&secret={SECRET_2}");

    assert_eq!(wechat.exchange("none").await.errcode(), Some(40029), "another app");
    assert_eq!(wechat.get(&token_of_app_2).await.errcode(), None, "another path");
    let mut errcodes = Vec::new();
    for _ in 0..4 {
        errcodes.push(wechat.get(&of_app_2).await.errcode().unwrap());
    }

    assert_eq!(errcodes, [40029, -1, -1, 40029]);
    assert!(wechat.emulator.faults().is_empty(), "a fault that is used up is gone");
}

#[tokio::test]
async fn a_fault_finds_the_app_in_the_body_and_by_its_token() {
    let wechat = wechat();
    let body = json!({"grant_type": "client_credential", "appid": APP_1, "secret": SECRET_1});
    let token = wechat.post("/cgi-bin/stable_token", &body).await.json();
    wechat.emulator.inject(InjectedFault::new(Effect::errcode(-1)).app(APP_1));

    let token = token["access_token"].as_str().unwrap();
    let by_token = wechat.get(&format!("/wxa/checksession?access_token={token}")).await;
    let by_body = wechat.post("/cgi-bin/stable_token", &body).await;

    assert_eq!((by_token.errcode(), by_body.errcode()), (Some(-1), Some(-1)));
}

#[tokio::test]
async fn a_fault_may_apply_at_random() {
    let wechat = wechat();
    wechat.emulator.inject(InjectedFault { percent: 50, ..InjectedFault::new(Effect::errcode(-1)) });
    let mut client = Client::connect(wechat.running.address).await;
    let mut struck = 0;
    for _ in 0..200 {
        let seen = client.send("GET", &exchange(APP_1, SECRET_1, "none"), "").await.unwrap();
        struck += u32::from(seen.errcode() == Some(-1));
    }

    assert!((50..150).contains(&struck), "{struck} of 200");
}

#[tokio::test]
async fn control_endpoints_have_no_faults() {
    let wechat = wechat_where(Effect::DropBefore);

    assert_eq!(wechat.get("/__emu/log").await.status, 200);
}
