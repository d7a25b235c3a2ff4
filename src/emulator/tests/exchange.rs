//! `/sns/jscode2session`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::{App, CodeState, Config, Quotas, Rotate, SessionKeys};
use super::*;
use crate::clock::SystemClock;

const FIVE_MINUTES: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

fn is_rid(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    words.len() == 3
        && words.iter().all(|word| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[tokio::test]
async fn success_has_no_errcode_and_the_session_key_comes_first() {
    let wechat = wechat();
    let code = wechat.emulator.wx_login(APP_3, "alice").unwrap();

    let seen = wechat.get(&exchange(APP_3, SECRET_3, &code)).await;

    let session_key = wechat.emulator.session_key(APP_3, "alice").unwrap();
    let openid = wechat.emulator.openid(APP_3, "alice");
    assert_eq!(seen.text(), format!(r#"{{"session_key":"{session_key}","openid":"{openid}"}}"#));
    assert_eq!((session_key.len(), openid.len()), (24, 28));
    assert!(openid.starts_with('o'));
    assert_eq!(seen.status, 200);
    assert_eq!(seen.headers["content-type"], "text/plain");
    assert_eq!(seen.headers["connection"], "keep-alive");
    assert!(seen.headers.contains_key("date"));
    assert!(seen.head.contains("\r\nContent-Type: text/plain\r\n"), "{}", seen.head);
}

#[tokio::test]
async fn unionid_is_there_for_bound_apps_only_and_the_same_on_one_platform() {
    let mut config = Config::default();
    config.apps.push(App::new("wxe000000000000009", "emulator-secret-9").on("other-platform"));
    let wechat = wechat_with(config);
    let apps = [
        (APP_1, SECRET_1),
        (APP_2, SECRET_2),
        (APP_3, SECRET_3),
        ("wxe000000000000009", "emulator-secret-9"),
    ];
    let mut sessions = Vec::new();
    for (appid, secret) in apps {
        let code = wechat.emulator.wx_login(appid, "alice").unwrap();
        sessions.push(wechat.get(&exchange(appid, secret, &code)).await.json());
    }

    let unionids: Vec<_> = sessions.iter().map(|session| session.get("unionid")).collect();
    let openids: BTreeSet<_> = sessions.iter().map(|session| session["openid"].as_str().unwrap()).collect();

    assert_eq!(openids.len(), 4, "an openid is of one app");
    assert!(unionids[0].is_some());
    assert_eq!(unionids[0], unionids[1], "same platform");
    assert_eq!(unionids[2], None, "not bound");
    assert_ne!(unionids[0], unionids[3], "another platform");
}

#[tokio::test]
async fn identifiers_are_derived_only_from_the_seed() {
    let same = wechat();
    let again = wechat();
    let other = wechat_with(Config { seed: "another".into(), ..Config::default() });

    assert_eq!(same.emulator.openid(APP_1, "alice"), again.emulator.openid(APP_1, "alice"));
    assert_eq!(same.emulator.unionid(APP_1, "alice"), again.emulator.unionid(APP_1, "alice"));
    assert_ne!(same.emulator.openid(APP_1, "alice"), other.emulator.openid(APP_1, "alice"));
    // Pinned: users of the emulator write these into their tests.
    assert_eq!(same.emulator.openid(APP_1, "alice"), "ohHuQGuJP32r5UhJRuIQ0GB8DkRy");
    assert_eq!(same.emulator.unionid(APP_1, "alice").unwrap(), "oB2KOiUrFzjJP4TDV9UC9b0ogKrn");
}

#[tokio::test]
async fn errors_come_in_wechats_order() {
    let mut config = Config::default();
    config.apps.push(App { frozen: true, ..App::new("wxfrozen", "frozen-secret") });
    config.quotas = Quotas { user_per_minute: Some(1), ..Quotas::default() };
    let wechat = wechat_with(config);
    let over_quota = wechat.emulator.wx_login(APP_1, "carol").unwrap();
    wechat.exchange(&over_quota).await;
    let used = wechat.emulator.wx_login_as(APP_1, "bob", CodeState::Used).unwrap();
    let expired = wechat.emulator.wx_login_as(APP_1, "dave", CodeState::Expired).unwrap();
    let foreign = wechat.emulator.wx_login(APP_2, "alice").unwrap();
    let risky = wechat.emulator.wx_login(APP_1, "mallory").unwrap();
    let phone = wechat.emulator.phone_code(APP_1, "alice").unwrap();
    let unknown = "0".repeat(32);
    let grant = "grant_type=authorization_code";
    // Each row is wrong in its own way and in every way of the rows below it.
    let rows = [
        ("secret=&js_code=".to_owned(), 41002, "appid missing, rid: "),
        ("appid=&secret=x".to_owned(), 41002, "appid missing, rid: "),
        ("appid=wxnone&grant_type=x".to_owned(), 41004, "appsecret missing, rid: "),
        ("appid=wxnone&secret=&js_code=x".to_owned(), 41004, "appsecret missing, rid: "),
        ("appid=wxnone&secret=x&grant_type=x".to_owned(), 41008, "missing code, rid: "),
        (format!("appid=wxnone&secret=x&js_code={used}"), 40002, "invalid grant_type, rid: "),
        (format!("appid=wxnone&secret=x&js_code={used}&grant_type=x"), 40002, "invalid grant_type, rid: "),
        (format!("appid=wxnone&secret=x&js_code={used}&{grant}"), 40013, "invalid appid, rid: "),
        (format!("appid=wxfrozen&secret=x&js_code={used}&{grant}"), 40243, "appsecret is frozen, rid: "),
        (format!("appid={APP_1}&secret=x&js_code={over_quota}&{grant}"), 40125, "invalid appsecret, rid: "),
        (
            format!("appid={APP_1}&secret={SECRET_1}&js_code={over_quota}&{grant}"),
            45011,
            "api minute-quota reach limit, must slower, retry next minute, rid: ",
        ),
        (format!("appid={APP_1}&secret={SECRET_1}&js_code={unknown}&{grant}"), 40029, "invalid code, rid: "),
        (format!("appid={APP_1}&secret={SECRET_1}&js_code={foreign}&{grant}"), 40029, "invalid code, rid: "),
        (format!("appid={APP_1}&secret={SECRET_1}&js_code={phone}&{grant}"), 40029, "invalid code, rid: "),
        (format!("appid={APP_1}&secret={SECRET_1}&js_code={expired}&{grant}"), 40029, "invalid code, rid: "),
        (format!("appid={APP_1}&secret={SECRET_1}&js_code={used}&{grant}"), 40163, "code been used, rid: "),
        (format!("appid={APP_1}&secret={SECRET_1}&js_code={risky}&{grant}"), 40226, "code blocked, rid: "),
    ];
    assert_eq!(rows.len(), 17);

    for (query, errcode, errmsg) in rows {
        let seen = wechat.get(&format!("/sns/jscode2session?{query}")).await;

        let json = seen.json();
        let rid = json["errmsg"]
            .as_str()
            .unwrap()
            .strip_prefix(errmsg)
            .unwrap_or_else(|| panic!("{query}: {json}"));
        assert_eq!(json["errcode"], errcode, "{query}");
        assert!(is_rid(rid) && rid.starts_with("6b00df00-"), "{query}: {rid}");
        assert!(seen.text().starts_with(r#"{"errcode":"#), "{query}");
        assert_eq!(json.as_object().unwrap().len(), 2, "{query}");
        assert_eq!((seen.status, seen.headers["content-type"].as_str()), (200, "text/plain"), "{query}");
    }
}

#[tokio::test]
async fn a_blocked_users_code_is_used_up() {
    let wechat = wechat();
    let code = wechat.emulator.wx_login(APP_1, "mallory").unwrap();

    assert_eq!(wechat.exchange(&code).await.errcode(), Some(40226));
    assert_eq!(wechat.exchange(&code).await.errcode(), Some(40163));
}

#[tokio::test]
async fn post_with_the_parameters_in_the_body_is_appid_missing() {
    let wechat = wechat();
    let code = wechat.code();
    let target = exchange(APP_1, SECRET_1, &code);
    let (path, form) = target.split_once('?').unwrap();

    let seen = wechat.try_send("POST", path, form).await.unwrap();

    assert_eq!(seen.errcode(), Some(41002));
    assert_eq!(wechat.exchange(&code).await.errcode(), None, "the code was not used");
}

#[tokio::test]
async fn a_code_lives_five_minutes() {
    for (age, errcode) in [(FIVE_MINUTES - SECOND, None), (FIVE_MINUTES, Some(40029))] {
        let wechat = wechat();
        let code = wechat.code();

        wechat.emulator.advance(age);

        assert_eq!(wechat.exchange(&code).await.errcode(), errcode, "{age:?}");
    }
}

#[tokio::test]
async fn a_used_code_answers_used_for_five_minutes_and_then_unknown() {
    let wechat = wechat();
    let code = wechat.code();
    wechat.emulator.advance(FIVE_MINUTES - SECOND);
    assert_eq!(wechat.exchange(&code).await.errcode(), None);

    let mut errcodes = vec![wechat.exchange(&code).await.errcode()];
    for wait in [FIVE_MINUTES, SECOND, FIVE_MINUTES] {
        wechat.emulator.advance(wait);
        wechat.code(); // makes room for itself by forgetting old codes
        errcodes.push(wechat.exchange(&code).await.errcode());
    }

    assert_eq!(errcodes, [Some(40163), Some(40163), Some(40029), Some(40029)]);
}

#[tokio::test]
async fn another_apps_attempt_does_not_use_a_code_up() {
    let wechat = wechat();
    let code = wechat.code();

    let foreign = wechat.get(&exchange(APP_2, SECRET_2, &code)).await;
    let own = wechat.exchange(&code).await;

    assert_eq!((foreign.errcode(), own.errcode()), (Some(40029), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_exchanges_of_a_code_at_once_wins() {
    let wechat = Arc::new(wechat());
    for round in 0..10 {
        let code = wechat.code();
        let racers = (0..32).map(|_| {
            let (wechat, code) = (Arc::clone(&wechat), code.clone());
            tokio::spawn(async move { wechat.exchange(&code).await.errcode() })
        });

        let errcodes = futures_util::future::join_all(racers).await;

        let winners = errcodes.iter().filter(|errcode| matches!(errcode, Ok(None))).count();
        let losers = errcodes.iter().filter(|errcode| matches!(errcode, Ok(Some(40163)))).count();
        assert_eq!((winners, losers), (1, 31), "round {round}");
    }
}

#[tokio::test]
async fn codes_are_32_letters_and_digits_and_differ() {
    let wechat = wechat();

    let codes: HashSet<String> = (0..500).map(|_| wechat.code()).collect();

    assert_eq!(codes.len(), 500);
    assert!(codes.iter().all(|code| code.len() == 32 && code.bytes().all(|b| b.is_ascii_alphanumeric())));
    let alphabet: HashSet<char> = codes.iter().flat_map(|code| code.chars()).collect();
    assert_eq!(alphabet.len(), 62);
}

#[tokio::test]
async fn grant_type_is_ignored_if_configured() {
    let wechat = wechat_with(Config { grant_type_required: false, ..Config::default() });
    let code = wechat.code();

    let seen =
        wechat.get(&format!("/sns/jscode2session?appid={APP_1}&secret={SECRET_1}&js_code={code}")).await;

    assert_eq!(seen.errcode(), None);
}

#[tokio::test]
async fn quotas_are_off_by_default_and_count_by_minute() {
    let unlimited = wechat();
    for _ in 0..150 {
        assert_eq!(unlimited.exchange(&unlimited.code()).await.errcode(), None);
    }

    let limits = [
        (Quotas { user_per_minute: Some(2), ..Quotas::default() }, [None, None, Some(45011), None]),
        (Quotas { app_per_minute: Some(2), ..Quotas::default() }, [None, None, Some(45011), Some(45011)]),
    ];
    for (quotas, expected) in limits {
        let wechat = wechat_with(Config { quotas, ..Config::default() });
        let mut errcodes = Vec::new();
        for wxid in ["alice", "alice", "alice", "bob"] {
            let code = wechat.emulator.wx_login(APP_1, wxid).unwrap();
            errcodes.push(wechat.exchange(&code).await.errcode());
        }
        assert_eq!(errcodes, expected, "{quotas:?}");

        wechat.emulator.advance(Duration::from_secs(60));

        assert_eq!(wechat.exchange(&wechat.code()).await.errcode(), None, "{quotas:?}");
    }
}

#[tokio::test]
async fn session_keys_rotate_as_configured() {
    let hour = Duration::from_secs(3600);
    let table = [
        (Rotate::Always, [true, true, true]),
        (Rotate::Never, [false, false, true]),
        (Rotate::MinInterval(crate::config::Duration::from_secs(3600)), [false, true, true]),
    ];
    for (rotate, expected) in table {
        let session_keys = SessionKeys { rotate, lifetime: crate::config::Duration::from_secs(3 * 3600) };
        let wechat = wechat_with(Config { session_keys, ..Config::default() });
        let key = || {
            wechat.code();
            wechat.emulator.session_key(APP_1, "alice").unwrap()
        };
        let mut last = key();
        let mut rotated = Vec::new();
        for wait in [Duration::ZERO, hour, 2 * hour] {
            wechat.emulator.advance(wait);
            let next = key();
            rotated.push(next != last);
            last = next;
        }
        assert_eq!(rotated, expected, "{rotate:?}");
    }
}

#[tokio::test]
async fn a_new_code_answers_the_current_session_key() {
    let session_keys = SessionKeys { rotate: Rotate::Always, ..SessionKeys::default() };
    let wechat = wechat_with(Config { session_keys, ..Config::default() });
    let (older, newer) = (wechat.code(), wechat.code());

    let keys = [wechat.exchange(&newer).await.json(), wechat.exchange(&older).await.json()];

    assert_eq!(keys[0]["session_key"], keys[1]["session_key"]);
}

#[tokio::test]
async fn a_reset_or_frozen_secret_is_refused_at_once() {
    let wechat = wechat();
    let code = wechat.code();

    wechat.emulator.reset_secret(APP_1, "new-secret").unwrap();
    assert_eq!(wechat.exchange(&code).await.errcode(), Some(40125));
    wechat.emulator.freeze_secret(APP_1, true).unwrap();
    assert_eq!(wechat.get(&exchange(APP_1, "new-secret", &code)).await.errcode(), Some(40243));
    wechat.emulator.freeze_secret(APP_1, false).unwrap();
    assert_eq!(wechat.get(&exchange(APP_1, "new-secret", &code)).await.errcode(), None);
}

#[tokio::test]
async fn parameters_are_percent_decoded() {
    let wechat = wechat();
    wechat.emulator.reset_secret(APP_1, "a+b c%/文").unwrap();
    let code = wechat.code();

    let seen = wechat.get(&exchange(APP_1, "a%2Bb+c%/%e6%96%87", &code)).await;

    assert_eq!(seen.errcode(), None);
}

#[tokio::test]
async fn an_unknown_path_is_404_with_a_page() {
    let wechat = wechat();

    let seen = wechat.get("/sns/oauth2/nothing?appid=x").await;

    assert_eq!(seen.status, 404);
    assert_eq!(seen.headers["content-type"], "text/html");
    assert!(seen.text().starts_with("<html>"));
}

#[tokio::test]
async fn a_connection_carries_many_calls() {
    let wechat = wechat();
    let mut client = Client::connect(wechat.running.address).await;

    for _ in 0..3 {
        let seen = client.send("GET", &exchange(APP_1, SECRET_1, &wechat.code()), "").await.unwrap();
        assert_eq!(seen.errcode(), None);
    }
}

#[tokio::test]
async fn hosts_share_one_wechat_and_fail_independently() {
    let WeChat { emulator, running: primary } = wechat();
    let api2 = emulator.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let primary_address = primary.address;
    let code = emulator.wx_login(APP_1, "alice").unwrap();

    primary.stop().await;

    assert!(tokio::net::TcpStream::connect(primary_address).await.is_err());
    let mut client = Client::connect(api2.address).await;
    assert_eq!(client.send("GET", &exchange(APP_1, SECRET_1, &code), "").await.unwrap().errcode(), None);
}

#[tokio::test]
async fn stopping_closes_open_connections() {
    let WeChat { emulator: _emulator, running } = wechat();
    let mut client = Client::connect(running.address).await;
    client.send("GET", "/nothing", "").await.unwrap();

    running.stop().await;

    assert!(client.send("GET", "/nothing", "").await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let wechat = wechat_with(Config { max_connections: 1, ..Config::default() });
    let mut first = Client::connect(wechat.running.address).await;
    first.send("GET", "/nothing", "").await.unwrap();
    let mut second = Client::connect(wechat.running.address).await;

    let early = tokio::time::timeout(Duration::from_millis(100), second.send("GET", "/nothing", "")).await;
    assert!(early.is_err(), "the second waits");
    drop(first);

    assert_eq!(second.receive().await.unwrap().status, 404);
}

#[tokio::test]
async fn a_connection_is_closed_when_the_client_asks() {
    let wechat = wechat();
    let mut client = Client::connect(wechat.running.address).await;

    let target = "/nothing HTTP/1.1\r\nConnection: close\r\nX-Rest:";
    let seen = client.send("GET", target, "").await.unwrap();

    assert_eq!(seen.headers["connection"], "close");
    assert!(client.send("GET", "/nothing", "").await.is_err());
}

#[tokio::test]
async fn time_follows_the_given_clock() {
    let emulator = Emulator::new(Config::default(), Arc::new(SystemClock), Arc::new(SystemEntropy));
    let before = emulator.now();

    emulator.advance(FIVE_MINUTES);

    assert!(emulator.now().since(before) >= FIVE_MINUTES);
}

#[tokio::test]
async fn any_code_signs_in_as_one_person_where_the_configuration_says_so() {
    for (yaml, wxid) in [("accept_any_code: true", "developer"), ("accept_any_code: bob", "bob")] {
        let mut findings = crate::config::Findings::default();
        let config = Config::from_yaml(yaml, &mut findings).unwrap_or_else(|| panic!("{findings:?}"));
        let wechat = wechat_with(config);
        let exchange = |appid: &str, secret: &str, code: &str| {
            format!(
                "/sns/jscode2session?appid={appid}&secret={secret}&js_code={code}&grant_type=authorization_code"
            )
        };
        for code in ["0a3Xk1Ga1", "0b9", "the code is a mock one".replace(' ', "-").as_str()] {
            let seen = wechat.get(&exchange(APP_1, SECRET_1, code)).await;
            assert!(seen.text().contains(&wechat.emulator.openid(APP_1, wxid)), "{}", seen.text());
            let again = wechat.get(&exchange(APP_1, SECRET_1, code)).await;
            assert!(again.text().contains("40163"), "it works once: {}", again.text());
        }
        // What the emulator issued is what it is.
        let alice = wechat.emulator.wx_login(APP_1, "alice").unwrap();
        let elsewhere = wechat.get(&exchange(APP_2, SECRET_2, &alice)).await;
        assert!(elsewhere.text().contains("40029"), "{}", elsewhere.text());
        let seen = wechat.get(&exchange(APP_1, SECRET_1, &alice)).await;
        assert!(seen.text().contains(&wechat.emulator.openid(APP_1, "alice")), "{}", seen.text());
        // A code of a page is none of `wx.login`.
        let page = format!(
            "/sns/oauth2/access_token?appid={WEBSITE}&secret={WEBSITE_SECRET}&code=x&grant_type=authorization_code"
        );
        assert!(wechat.get(&page).await.text().contains("40029"));
    }
    let wechat = wechat();
    let seen = wechat
        .get(&format!(
            "/sns/jscode2session?appid={APP_1}&secret={SECRET_1}&js_code=x&grant_type=authorization_code"
        ))
        .await;
    assert!(seen.text().contains("40029"), "off by default: {}", seen.text());
}
