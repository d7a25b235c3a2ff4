//! Sealed user data at `POST /auth/wechat/decrypt`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::user_data::tests::seal;

const PATH: &str = "/auth/wechat/decrypt";
/// The key of [`SUCCESS`], and others.
const FIRST: &str = "tiihtNczf5v6AKRyjwEUhQ==";
const SECOND: &str = "HyVFkGl5F5OQWJZZaNzBBg==";
const THIRD: &str = "7MG7jbTToVVRWRXVA885rg==";
const IV: &str = "AwMDAwMDAwMDAwMDAwMDAw==";

fn session_of(openid: &str, key: &str) -> Reply {
    Reply::json(&format!(r#"{{"session_key":"{key}","openid":"{openid}"}}"#))
}

async fn harness(replies: impl IntoIterator<Item = Reply>) -> Harness {
    Harness::with(replies, |setup| {
        let client = vec!["openId".to_owned(), "openGId".to_owned()];
        setup.user_data = Some(config::UserData { client, ..Default::default() });
        setup.throttle.session = config::LoginLimit { rate: Rate::per_minute(1), burst: 3 };
    })
    .await
}

async fn sign_in(harness: &Harness, code: &str) -> String {
    json_of(&harness.login(code).await)["access_token"].as_str().expect("a token").to_owned()
}

/// Group data of a person, sealed with a key.
fn sealed(harness: &Harness, key: &str, openid: &str, more: &str) -> String {
    let key = STANDARD.decode(key).unwrap().try_into().unwrap();
    let seconds = harness.clock.now().seconds();
    let text = format!(
        r#"{{"openId":"{openid}","openGId":"tG1","secret":"x"{more},"watermark":{{"appid":"wx0","timestamp":{seconds}}}}}"#
    );
    STANDARD.encode(seal(key, &text))
}

async fn send(harness: &Harness, token: &str, data: &str, iv: &str) -> SignInAnswer {
    let body = json!({ "encryptedData": data, "iv": iv }).to_string();
    let mut request = request("POST", PATH, Some("application/json"), &body);
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    harness.send(request).await
}

fn status(answer: &SignInAnswer) -> (u16, &'static str) {
    (answer.response.status().as_u16(), answer.outcome)
}

#[tokio::test]
async fn the_client_gets_the_fields_that_it_may_have() {
    let harness = harness([session_of(OPENID, FIRST)]).await;
    let token = sign_in(&harness, CODE).await;
    let data = sealed(&harness, FIRST, OPENID, "");

    let answer = send(&harness, &token, &data, IV).await;

    assert_eq!(status(&answer), (200, "user_data"));
    assert_eq!(json_of(&answer), json!({ "openId": OPENID, "openGId": "tG1" }));
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let form: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("encryptedData", &data)
        .append_pair("iv", IV)
        .finish();
    // A client that does not escape `+`.
    let form = form.replace("%2B", "+");
    let mut request = request("POST", PATH, Some("application/x-www-form-urlencoded"), &form);
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(status(&harness.send(request).await), (200, "user_data"));
}

#[tokio::test]
async fn all_that_does_not_open_is_answered_the_same() {
    let replies = [session_of(OPENID, FIRST), session_of("oOther", FIRST)];
    let harness = Harness::with(replies, |setup| {
        setup.user_data = Some(config::UserData { client: vec!["openId".into()], ..Default::default() });
    })
    .await;
    let token = sign_in(&harness, CODE).await;
    let good = sealed(&harness, FIRST, OPENID, "");
    let bytes = STANDARD.decode(&good).unwrap();
    let changed = |place: usize| {
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        STANDARD.encode(bytes)
    };
    let table = [
        ("another key", sealed(&harness, SECOND, OPENID, ""), IV),
        ("another user", sealed(&harness, FIRST, "oOther", ""), IV),
        ("a wrong padding", changed(bytes.len() - 17), IV),
        ("garbage in the middle", changed(20), IV),
        ("garbage at the end", changed(bytes.len() - 1), IV),
        ("another vector", good.clone(), "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("a part of a block", STANDARD.encode(&bytes[..bytes.len() - 1]), IV),
        ("one block less", STANDARD.encode(&bytes[..bytes.len() - 16]), IV),
        ("nothing", String::new(), IV),
        ("no base64", "*".into(), IV),
        ("a short vector", good.clone(), "AAAA"),
    ];
    let mut answers = Vec::new();
    for (what, data, iv) in table {
        let answer = send(&harness, &token, &data, iv).await;

        assert_eq!(status(&answer), (409, "session_key_stale"), "{what}");
        answers.push((answer.response.headers().clone(), answer.response.body().clone()));
    }
    harness.clock.advance(Duration::from_secs(301));
    let late = send(&harness, &token, &good, IV).await;
    answers.push((late.response.headers().clone(), late.response.body().clone()));
    let [first, others @ ..] = &answers[..] else { unreachable!() };
    assert!(others.iter().all(|other| other == first));
}

#[tokio::test]
async fn failures_of_one_session_are_limited_and_good_data_are_not_refused_for_them() {
    let harness = harness([session_of(OPENID, FIRST), session_of("oOther", FIRST)]).await;
    let (mine, other) = (sign_in(&harness, CODE).await, sign_in(&harness, "other").await);
    let good = sealed(&harness, FIRST, OPENID, "");
    let bad = sealed(&harness, SECOND, OPENID, "");
    for _ in 0..3 {
        assert_eq!(status(&send(&harness, &mine, &bad, IV).await), (409, "session_key_stale"));
    }

    let answer = send(&harness, &mine, &bad, IV).await;

    assert_eq!(status(&answer), (429, "throttled"));
    assert!(header(&answer, "retry-after").is_some());
    assert_eq!(status(&send(&harness, &mine, &good, IV).await), (200, "user_data"));
    assert_eq!(status(&send(&harness, &other, &bad, IV).await), (409, "session_key_stale"));
}

#[tokio::test]
async fn the_two_newest_session_keys_open_for_every_session_of_the_user() {
    let replies = [FIRST, SECOND, SECOND, THIRD].map(|key| session_of(OPENID, key));
    let harness = harness(replies).await;
    let mut tokens = Vec::new();
    // Which of the keys open after each sign-in.
    for (code, opens) in [
        ("a", [true, false, false]),
        ("b", [true, true, false]),
        ("c", [true, true, false]),
        ("d", [false, true, true]),
    ] {
        tokens.push(sign_in(&harness, code).await);
        for (key, opens) in [FIRST, SECOND, THIRD].into_iter().zip(opens) {
            for token in &tokens {
                let data = sealed(&harness, key, OPENID, "");
                let is_open = send(&harness, token, &data, IV).await.outcome == "user_data";
                assert_eq!(is_open, opens, "after {code}: {key}");
            }
        }
    }
}

#[tokio::test]
async fn a_unionid_in_the_data_joins_the_session() {
    let harness = harness([session_of(OPENID, FIRST)]).await;
    let token = sign_in(&harness, CODE).await;
    let data = sealed(&harness, FIRST, OPENID, r#","unionId":"uAlice""#);

    assert_eq!(status(&send(&harness, &token, &data, IV).await), (200, "user_data"));

    let mut request = request("GET", "/auth/session", None, "");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(json_of(&harness.send(request).await)["unionid"], "uAlice");
    let unionid = crate::identity::UnionId::parse("uAlice").unwrap();
    let scope = crate::session::SessionScope::UnionId(unionid);
    let ended = harness.login.deps.sessions.revoke(&scope, harness.clock.now()).await.unwrap();
    assert_eq!(ended, Some(1), "an operator finds the session by it");
}

#[tokio::test]
async fn a_blocked_unionid_in_the_data_ends_what_the_user_may_do() {
    let harness = harness([session_of(OPENID, FIRST)]).await;
    let token = sign_in(&harness, CODE).await;
    let unionid = crate::identity::UnionId::parse("uAlice").unwrap();
    let person = crate::session::PersonId::UnionId(unionid);
    harness.login.deps.sessions.block(&person, harness.clock.now()).await.unwrap();
    let data = sealed(&harness, FIRST, OPENID, r#","unionId":"uAlice""#);

    assert_eq!(status(&send(&harness, &token, &data, IV).await), (403, "user_blocked"));
}

#[tokio::test]
async fn nothing_is_opened_without_a_session_or_where_it_is_not_configured() {
    let configured = harness([]).await;
    let other = Harness::new([session_of(OPENID, FIRST)]).await;
    let token = sign_in(&other, CODE).await;
    let body = json!({ "encryptedData": "AAAA", "iv": IV }).to_string();
    let anonymous = configured.send(request("POST", PATH, Some("application/json"), &body)).await;
    let unconfigured = send(&other, &token, "AAAA", IV).await;

    assert_eq!(status(&anonymous), (401, "no_token"));
    assert_eq!(status(&unconfigured), (404, "endpoint_unknown"));
    for body in [r#"{"iv":"x"}"#, r#"{"encryptedData":"x"}"#, r#"{"encryptedData":7,"iv":"x"}"#, "{}"] {
        let answer = configured.send(request("POST", PATH, Some("application/json"), body)).await;
        assert_eq!(status(&answer), (400, "request_malformed"), "{body}");
    }
}
