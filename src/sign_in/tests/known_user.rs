//! Whoever shows a credential of the gateway signs in although the failures of others slow the
//! address.

use super::session::pair;
use super::*;
use crate::identity::{AppId, OpenId, Subject};

/// A gateway where alice signed in, so long ago that her access token has expired, and where
/// another client at her address guesses codes. Then WeChat gives these replies.
async fn slowed(replies: &[&str]) -> (Harness, String, String) {
    let refusal = r#"{"errcode":40029}"#;
    let replies: Vec<Reply> =
        [SUCCESS, refusal, refusal].iter().chain(replies).map(|reply| Reply::json(reply)).collect();
    let harness = Harness::with(replies, |setup| {
        setup.throttle.login = few_failures(2);
        setup.throttle.known_user = config::LoginLimit { rate: Rate::per_minute(1), burst: 3 };
    })
    .await;
    let (access, refresh) = pair(&harness.login(CODE).await);
    harness.clock.advance(Duration::from_secs(3 * 3600));
    for guess in ["guess1", "guess2"] {
        assert_eq!(harness.login(guess).await.outcome, "code_invalid");
    }
    (harness, access, refresh)
}

async fn login_with(
    harness: &Harness,
    code: &str,
    bearer: Option<&str>,
    refresh: Option<&str>,
) -> &'static str {
    let body = json!({ "code": code, "refresh_token": refresh }).to_string();
    let mut request = login_request(&body);
    if let Some(token) = bearer {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    harness.send(request).await.outcome
}

#[tokio::test]
async fn user_with_a_token_of_ours_signs_in_although_the_address_is_slowed() {
    let (harness, access, refresh) = slowed(&[SUCCESS]).await;
    let asked = harness.fake.requests().len();

    assert_eq!(login_with(&harness, "stranger", None, None).await, "throttled");
    assert_eq!(login_with(&harness, "expired", Some(&access), None).await, "ok");
    assert_eq!(login_with(&harness, "refresh", None, Some(&refresh)).await, "ok");
    assert_eq!(login_with(&harness, "both", Some(&access), Some(&refresh)).await, "ok");

    assert_eq!(login_with(&harness, "once-more", Some(&access), None).await, "throttled", "their rate");
    assert_eq!(harness.fake.requests().len() - asked, 3);
    assert_eq!(harness.refresh(&refresh).await.outcome, "refreshed", "it was shown and not spent");
}

#[tokio::test]
async fn credential_that_is_not_good_gives_no_way_past() {
    let (harness, access, refresh) = slowed(&[SUCCESS]).await;
    let asked = harness.fake.requests().len();
    let (message, signature) = access.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", signature.chars().rev().collect::<String>());
    let made_up = format!("{}{}", refresh.get(..22).unwrap(), "A".repeat(64));
    for (bearer, refresh) in [
        (Some(&*forged), None),
        (Some("x"), None),
        (None, Some(&*made_up)),
        (None, Some("x")),
        (Some(&*forged), Some(&*made_up)),
    ] {
        assert_eq!(
            login_with(&harness, "code", bearer, refresh).await,
            "throttled",
            "{bearer:?} {refresh:?}"
        );
    }
    assert_eq!(harness.fake.requests().len(), asked);
}

#[tokio::test]
async fn code_of_another_user_does_not_pass_by_the_rate_of_a_known_user() {
    let bob = SUCCESS.replace(OPENID, "oBob");
    let (harness, access, _) = slowed(&[&bob, &bob, &bob, SUCCESS]).await;

    for code in ["first", "second"] {
        assert_eq!(login_with(&harness, code, Some(&access), None).await, "code_invalid");
    }
    let bob = Subject { appid: AppId::parse("wx0").unwrap(), openid: OpenId::parse("oBob").unwrap() };
    let sessions = harness.login.deps.sessions.list_by_subject(&bob, harness.clock.now()).await.unwrap();
    assert_eq!(sessions.len(), 0, "no session was opened");

    harness.clock.advance(Duration::from_secs(3600));
    assert_eq!(login_with(&harness, "third", Some(&access), None).await, "ok", "where nothing is slowed");
    assert!(!harness.is_slowed());
}
