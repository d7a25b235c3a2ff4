//! What a login opens: renewed, shown, ended; and what all of it does while the store is away.

use std::sync::atomic::Ordering;

use super::*;
use crate::wechat::testing::Fake;

const REFRESH: &str = "/auth/refresh";
const LOGOUT: &str = "/auth/logout";
const SESSION: &str = "/auth/session";

/// Access and refresh token of an answer.
pub(super) fn pair(answer: &SignInAnswer) -> (String, String) {
    let document = json_of(answer);
    let text = |name: &str| document[name].as_str().unwrap_or_else(|| panic!("{document}")).to_owned();
    (text("access_token"), text("refresh_token"))
}

impl Harness {
    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> SignInAnswer {
        let body = body.to_string();
        let mut request = request("POST", path, Some("application/json"), &body);
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        self.send(request).await
    }

    pub(super) async fn refresh(&self, refresh_token: &str) -> SignInAnswer {
        self.post(REFRESH, None, &json!({ "refresh_token": refresh_token })).await
    }

    async fn session(&self, token: &str) -> SignInAnswer {
        let mut request = request("GET", SESSION, None, "");
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        self.send(request).await
    }

    /// Whether a token opens anything, as its own session says.
    async fn is_signed_in(&self, token: &str) -> bool {
        match self.session(token).await.response.status().as_u16() {
            200 => true,
            401 => false,
            other => panic!("{other}"),
        }
    }
}

/// Status, outcome and `code` of a problem document.
fn problem(answer: &SignInAnswer) -> (u16, &'static str, String) {
    let document = json_of(answer);
    assert_eq!(header(answer, "content-type"), Some("application/problem+json"), "{document}");
    assert_eq!(header(answer, "cache-control"), Some("no-store"));
    assert_eq!(document["request_id"], "req-1");
    (answer.response.status().as_u16(), answer.outcome, document["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_refresh_token_becomes_the_next_pair_of_the_same_session() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (access, refresh) = pair(&harness.login(CODE).await);
    let session =
        |token: &str| harness.login.deps.tokens.verify(token, harness.clock.now()).unwrap().session().clone();
    for (content_type, body) in [
        ("application/json", json!({ "refresh_token": refresh }).to_string()),
        (
            "application/json",
            json!({ "refresh_token": refresh, "grant_type": "refresh_token", "x": [1] }).to_string(),
        ),
        ("application/x-www-form-urlencoded", format!("grant_type=refresh_token&refresh_token={refresh}")),
    ] {
        // Within the grace time the same token gets the same answer.
        let answer = harness.send(request("POST", REFRESH, Some(content_type), &body)).await;

        assert_eq!((answer.response.status(), answer.outcome), (StatusCode::OK, "refreshed"), "{body}");
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        let (next_access, next_refresh) = pair(&answer);
        assert_eq!(session(&next_access), session(&access));
        assert_ne!(next_refresh, refresh);
        let document = json_of(&answer);
        assert_eq!((&document["openid"], &document["token_type"]), (&json!(OPENID), &json!("Bearer")));
        assert_eq!(answer.app.as_deref(), Some("shop"));
        assert_eq!(answer.identity.unwrap().subject.openid.as_str(), OPENID);
    }
    assert_eq!(harness.logins("ok"), 1, "a refresh is no login");
}

#[tokio::test]
async fn a_refresh_token_spent_for_long_ends_its_session() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (access, refresh) = pair(&harness.login(CODE).await);
    let (next_access, next_refresh) = pair(&harness.refresh(&refresh).await);
    harness.clock.advance(Duration::from_secs(10));

    let answer = harness.refresh(&refresh).await;

    assert_eq!(refusal_of(&answer), (401, "refresh_token_reused", "invalid_grant".into()));
    assert_eq!(header(&answer, "www-authenticate"), Some("Bearer"));
    for token in [access, next_access] {
        assert!(!harness.is_signed_in(&token).await);
    }
    assert_eq!(refusal_of(&harness.refresh(&next_refresh).await).1, "refresh_token_invalid");
}

#[tokio::test]
async fn a_malformed_refresh_body_is_refused_with_its_mistake() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (_, token) = pair(&harness.login(CODE).await);
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    let table = [
        (json, String::new()),
        (json, "{}".into()),
        (json, "[]".into()),
        (json, "null".into()),
        (json, format!("\"{token}\"")),
        (json, r#"{"refresh_token":null}"#.into()),
        (json, format!(r#"{{"refresh_token":["{token}"]}}"#)),
        (json, format!(r#"{{"Refresh_token":"{token}"}}"#)),
        (json, format!(r#"{{"refresh_token":"{token}","refresh_token":"{token}"}}"#)),
        (json, format!(r#"{{"refresh_token":"{token}","grant_type":"authorization_code"}}"#)),
        (json, format!(r#"{{"refresh_token":"{token}","grant_type":null}}"#)),
        (json, format!("\u{feff}{{\"refresh_token\":\"{token}\"}}")),
        (json, format!(r#"{{"refresh_token":"{token}"}}{{}}"#)),
        (json, format!(r#"{{"refresh_token":"{token}","x":{}}}"#, "[".repeat(1000) + &"]".repeat(1000))),
        (json, format!(r#"{{"refresh_token":{{"refresh_token":"{token}"}}}}"#)),
        (form, format!("refresh_token[]={token}")),
        (json, format!("refresh_token={token}")),
        (form, format!(r#"{{"refresh_token":"{token}"}}"#)),
        (form, format!("refresh_token={token}&refresh%5Ftoken={token}")),
        (form, format!("refresh_token={token}&grant_type=password")),
    ];
    for (content_type, body) in &table {
        let answer = harness.send(request("POST", REFRESH, Some(content_type), body)).await;

        assert_eq!(
            refusal_of(&answer),
            (400, "request_malformed", "invalid_request".into()),
            "{content_type}: {body}"
        );
    }
    for text in
        ["", "x", token.get(1..).unwrap(), &format!("{token}="), &format!(" {token}"), &token.to_uppercase()]
    {
        let answer = harness.refresh(text).await;

        assert_eq!(refusal_of(&answer), (401, "refresh_token_invalid", "invalid_grant".into()), "{text}");
    }
    assert_eq!(harness.refresh(&token).await.outcome, "refreshed", "nothing of it spent the token");
}

#[tokio::test]
async fn refreshes_and_logouts_are_posts_of_json_or_forms() {
    let harness = Harness::new([]).await;
    for path in [REFRESH, LOGOUT] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let answer = harness.send(request(method, path, Some("application/json"), "{}")).await;

            assert_eq!(answer.response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(header(&answer, "allow"), Some("POST"), "{method} {path}");
        }
        for content_type in [None, Some("text/plain"), Some("multipart/form-data; boundary=x")] {
            let answer = harness.send(request("POST", path, content_type, "{}")).await;

            assert_eq!(
                answer.response.status(),
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{content_type:?} {path}"
            );
        }
        let large = " ".repeat(4097);
        let answer = harness.send(request("POST", path, Some("application/json"), &large)).await;
        assert_eq!(answer.response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let answer = harness.send(request(method, SESSION, Some("application/json"), "{}")).await;

        assert_eq!(problem(&answer), (405, "method_not_allowed", "method_not_allowed".into()));
        assert_eq!(header(&answer, "allow"), Some("GET, HEAD"));
    }
}

#[tokio::test]
async fn made_up_refresh_tokens_are_slowed_and_good_ones_and_logins_are_not() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| {
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(60), burst: 4 };
    })
    .await;
    let (_, refresh) = pair(&harness.login(CODE).await);
    let made_up = format!("{}{}", refresh.get(..22).unwrap(), "A".repeat(64));

    let outcomes: Vec<&str> = {
        let mut outcomes = Vec::new();
        for _ in 0..5 {
            outcomes.push(harness.refresh(&made_up).await.outcome);
        }
        outcomes
    };

    assert_eq!(outcomes[..4], ["refresh_token_invalid"; 4]);
    assert_eq!(outcomes[4], "throttled");
    let answer = harness.post(LOGOUT, None, &json!({ "refresh_token": made_up })).await;
    assert_eq!(problem(&answer), (429, "throttled", "throttled".into()));
    assert!(header(&answer, "retry-after").is_some());
    assert_eq!(harness.login("another").await.outcome, "ok", "logins are not slowed");
    assert_eq!(harness.refresh(&refresh).await.outcome, "refreshed", "and no session has ended");
}

#[tokio::test]
async fn a_refresh_for_a_removed_app_is_refused() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.apps = vec!["news", "shop"]).await;
    let body = json!({ "code": CODE, "app": "shop" }).to_string();
    let (_, refresh) = pair(&harness.send(login_request(&body)).await);
    let setup = Setup {
        apps: vec!["news"],
        wechat: config::WeChat { hosts: vec![harness.fake.url()], ..Default::default() },
        ..Default::default()
    };
    let reloaded = Harness::on(Fake::start([]).await, &setup, harness.clock.clone(), harness.store.clone());

    // Longer than the grace time, in which a spent token is accepted again.
    for _ in 0..2 {
        let answer = reloaded.refresh(&refresh).await;

        assert_eq!(refusal_of(&answer), (401, "refresh_token_invalid", "invalid_grant".into()));
        harness.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(harness.refresh(&refresh).await.outcome, "refreshed", "it was spent for nothing");
}

#[tokio::test]
async fn a_session_says_who_and_since_when() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let start = harness.clock.now();
    let (token, refresh) = pair(&harness.login(CODE).await);
    harness.clock.advance(Duration::from_secs(3600));

    let answer = harness.session(&token).await;

    let document = json_of(&answer);
    let after = |seconds| start.plus(Duration::from_secs(seconds)).to_string();
    assert_eq!((answer.response.status(), answer.outcome), (StatusCode::OK, "session"));
    assert_eq!((&document["app"], &document["openid"]), (&json!("shop"), &json!(OPENID)));
    assert_eq!(document["expires_at"], after(7200));
    assert_eq!(document["session"]["created_at"], after(0));
    assert_eq!(document["session"]["expires_at"], after(30 * 24 * 3600));
    assert!(document["session"]["last_seen_at"].as_str().unwrap() >= after(0).as_str());
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let text = document.to_string();
    for secret in [token.as_str(), &refresh, "tiihtNczf5v6AKRyjwEUhQ", "session_key", "unionid"] {
        assert!(!text.contains(secret), "{text}");
    }
    let mut head = request("HEAD", SESSION, None, "");
    head.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(harness.send(head).await.response.status(), StatusCode::OK);
}

#[tokio::test]
async fn without_a_good_token_there_is_neither_a_session_nor_a_logout() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (token, refresh) = pair(&harness.login(CODE).await);
    for (shown, code, challenge) in [
        (None, "no_token", r#"Bearer realm="menshen""#),
        (Some("x"), "invalid_token", r#"Bearer realm="menshen", error="invalid_token""#),
        (Some(refresh.as_str()), "invalid_token", r#"Bearer realm="menshen", error="invalid_token""#),
        (
            Some(token.get(..token.len() - 2).unwrap()),
            "invalid_token",
            r#"Bearer realm="menshen", error="invalid_token""#,
        ),
    ] {
        for (method, path) in [("GET", SESSION), ("POST", LOGOUT)] {
            let mut request = request(method, path, Some("application/json"), "");
            if let Some(shown) = shown {
                request.headers_mut().insert("authorization", format!("Bearer {shown}").parse().unwrap());
            }

            let answer = harness.send(request).await;

            let (status, _, shown_code) = problem(&answer);
            assert_eq!((status, shown_code.as_str()), (401, code), "{method} {path} {shown:?}");
            assert_eq!(header(&answer, "www-authenticate"), Some(challenge));
        }
    }
    assert!(harness.is_signed_in(&token).await);
}

#[tokio::test]
async fn a_logout_ends_its_own_session_and_no_other() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (first, first_refresh) = pair(&harness.login("a").await);
    let (second, _) = pair(&harness.login("b").await);

    let answer = harness.post(LOGOUT, Some(&first), &json!({})).await;

    assert_eq!((answer.response.status(), answer.outcome), (StatusCode::NO_CONTENT, "logged_out"));
    assert!(answer.response.body().is_empty());
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    assert!(!harness.is_signed_in(&first).await);
    assert_eq!(refusal_of(&harness.refresh(&first_refresh).await).1, "refresh_token_invalid");
    assert!(harness.is_signed_in(&second).await);
    assert_eq!(problem(&harness.post(LOGOUT, Some(&first), &json!({})).await).0, 401);
}

#[tokio::test]
async fn a_logout_everywhere_ends_every_session_of_the_person_in_every_app() {
    let unionid = SUCCESS.replace('}', r#","unionid":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA"}"#);
    let other = r#"{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oAnotherUser"}"#;
    let replies = [Reply::json(&unionid), Reply::json(&unionid), Reply::json(&unionid), Reply::json(other)];
    let harness = Harness::with(replies, |setup| setup.apps = vec!["news", "shop"]).await;
    let mut tokens = Vec::new();
    for (code, app) in [("a", "shop"), ("b", "shop"), ("c", "news"), ("d", "shop")] {
        let body = json!({ "code": code, "app": app }).to_string();
        tokens.push(pair(&harness.send(login_request(&body)).await).0);
    }

    let answer = harness.post(LOGOUT, Some(&tokens[0]), &json!({ "everywhere": true })).await;

    assert_eq!(answer.outcome, "logged_out");
    let mut signed_in = Vec::new();
    for token in &tokens {
        signed_in.push(harness.is_signed_in(token).await);
    }
    assert_eq!(signed_in, [false, false, false, true]);
}

#[tokio::test]
async fn a_unionid_that_came_after_the_token_counts_for_a_logout_everywhere() {
    let unionid = SUCCESS.replace('}', r#","unionid":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA"}"#);
    let replies = [Reply::json(SUCCESS), Reply::json(&unionid), Reply::json(&unionid)];
    let harness = Harness::with(replies, |setup| setup.apps = vec!["news", "shop"]).await;
    let mut tokens = Vec::new();
    for (code, app) in [("a", "shop"), ("b", "shop"), ("c", "news")] {
        let body = json!({ "code": code, "app": app }).to_string();
        tokens.push(pair(&harness.send(login_request(&body)).await).0);
    }
    assert_eq!(json_of(&harness.session(&tokens[0]).await)["unionid"], "ocMvos6NjeKLIBqg5Mr9QjxrP1FA");

    harness.post(LOGOUT, Some(&tokens[0]), &json!({ "everywhere": true })).await;

    for token in &tokens {
        assert!(!harness.is_signed_in(token).await);
    }
}

#[tokio::test]
async fn a_refresh_token_ends_a_session_whose_access_token_has_expired() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    for is_spent in [false, true] {
        let code = format!("code-{is_spent}");
        let (access, mut refresh) = pair(&harness.login(&code).await);
        let (other, _) = pair(&harness.login(&format!("{code}-other")).await);
        if is_spent {
            let spent = refresh.clone();
            pair(&harness.refresh(&refresh).await);
            harness.clock.advance(Duration::from_secs(60));
            refresh = spent;
        }

        let answer = harness.post(LOGOUT, Some("expired"), &json!({ "refresh_token": refresh })).await;

        assert_eq!(answer.outcome, "logged_out", "spent: {is_spent}");
        assert!(!harness.is_signed_in(&access).await);
        assert!(harness.is_signed_in(&other).await);
        // The token does not say any more which session it ended.
        let again = harness.post(LOGOUT, None, &json!({ "refresh_token": refresh })).await;
        assert_eq!(problem(&again), (401, "refresh_token_invalid", "refresh_token_invalid".into()));
    }
}

#[tokio::test]
async fn a_malformed_logout_body_ends_no_session() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (token, refresh) = pair(&harness.login(CODE).await);
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    for (content_type, body) in [
        (json, "[]".to_owned()),
        (json, "true".into()),
        (json, "{".into()),
        (json, r#"{"everywhere":"true"}"#.into()),
        (json, r#"{"everywhere":1}"#.into()),
        (json, r#"{"everywhere":null}"#.into()),
        (json, r#"{"everywhere":[true]}"#.into()),
        (json, r#"{"everywhere":false,"everywhere":true}"#.into()),
        (json, r#"{"refresh_token":null}"#.into()),
        (json, r#"{"refresh_token":7}"#.into()),
        (json, json!({ "refresh_token": refresh, "everywhere": true }).to_string()),
        (json, "everywhere=true".into()),
        (json, "\u{feff}{}".into()),
        (json, "{} {}".into()),
        (json, " ".into()),
        (form, "everywhere=yes".into()),
        (form, "everywhere=".into()),
        (form, "everywhere".into()),
        (form, "everywhere=True".into()),
        (form, "everywhere=true&everywhere=true".into()),
        (form, format!("everywhere=true&refresh_token={refresh}")),
    ] {
        let mut request = request("POST", LOGOUT, Some(content_type), &body);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());

        let answer = harness.send(request).await;

        assert_eq!(problem(&answer), (400, "request_malformed", "request_malformed".into()), "{body}");
    }
    assert!(harness.is_signed_in(&token).await);
}

#[tokio::test]
async fn a_session_that_was_ended_is_not_brought_back_by_its_code() {
    for is_refreshed in [false, true] {
        let harness = Harness::new([Reply::json(SUCCESS)]).await;
        let (access, refresh) = pair(&harness.login(CODE).await);
        assert_eq!(harness.login(CODE).await.outcome, "ok");

        if is_refreshed {
            // The token of the first answer is spent: given out again, it would end the session.
            harness.refresh(&refresh).await;
        } else {
            harness.post(LOGOUT, Some(&access), &json!({})).await;
        }

        assert_eq!(harness.login(CODE).await.outcome, "code_already_used", "refreshed: {is_refreshed}");
        assert_eq!(harness.fake.requests().len(), 1);
        assert_eq!(harness.is_signed_in(&access).await, is_refreshed);
    }
}

#[tokio::test]
async fn without_a_store_no_request_reports_success() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (access, refresh) = pair(&harness.login(CODE).await);
    let away = (503, "store_unavailable", "store_unavailable".to_owned());
    harness.store.set_away(true);

    let refused = harness.refresh(&refresh).await;
    assert_eq!(refusal_of(&refused), (503, "store_unavailable", "temporarily_unavailable".into()));
    for answer in [
        harness.post(LOGOUT, Some(&access), &json!({})).await,
        harness.post(LOGOUT, Some(&access), &json!({ "everywhere": true })).await,
        harness.post(LOGOUT, None, &json!({ "refresh_token": refresh })).await,
        harness.session(&access).await,
    ] {
        assert_eq!(problem(&answer), away);
        assert_eq!(header(&answer, "retry-after"), Some("2"));
    }
    let replayed = harness.login(CODE).await;
    assert_eq!(refusal_of(&replayed), (503, "store_unavailable", "temporarily_unavailable".into()));

    harness.store.set_away(false);
    assert_eq!(harness.login(CODE).await.outcome, "ok", "not remembered");
    assert!(harness.is_signed_in(&access).await);
    assert_eq!(harness.refresh(&refresh).await.outcome, "refreshed");
}

#[tokio::test]
async fn a_logout_that_the_store_breaks_off_is_never_a_success() {
    // The store fails after each number of steps, with each app first.
    let mut was_refused = 0;
    for (steps, own) in (0..32).flat_map(|steps| [(steps, "news"), (steps, "shop")]) {
        let unionid = SUCCESS.replace('}', r#","unionid":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA"}"#);
        let harness = Harness::with([Reply::json(&unionid)], |setup| setup.apps = vec!["news", "shop"]).await;
        let (mut access, mut other) = (String::new(), String::new());
        for (app, token) in [(own, &mut access), (if own == "shop" { "news" } else { "shop" }, &mut other)] {
            let body = json!({ "code": app, "app": app }).to_string();
            *token = pair(&harness.send(login_request(&body)).await).0;
        }
        harness.store.set_away_after(steps);

        let answer = harness.post(LOGOUT, Some(&access), &json!({ "everywhere": true })).await;

        harness.store.set_away(false);
        if answer.response.status() != StatusCode::NO_CONTENT {
            assert_eq!(problem(&answer).0, 503, "{steps}");
            was_refused += 1;
            let again = harness.post(LOGOUT, Some(&access), &json!({ "everywhere": true })).await;
            assert_eq!(again.outcome, "logged_out", "{steps} {own}: the client cannot ask again");
        }
        assert!(!harness.is_signed_in(&access).await, "{steps} {own}");
        assert!(!harness.is_signed_in(&other).await, "{steps} {own}");
    }
    assert!((2..64).contains(&was_refused), "{was_refused}");
}

#[tokio::test]
async fn a_code_is_not_spent_while_the_store_is_unavailable() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    harness.store.set_away(true);
    let core = harness.login.deps.sessions.core().clone();
    let following = tokio::spawn({
        let core = core.clone();
        async move { core.follow().await }
    });
    while harness.login.deps.store_health.is_available() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let answer = harness.login(CODE).await;

    assert_eq!(refusal_of(&answer), (503, "store_unavailable", "temporarily_unavailable".into()));
    assert_eq!(header(&answer, "retry-after"), Some("2"));
    assert_eq!(harness.fake.requests().len(), 0);
    harness.store.set_away(false);
    while !harness.login.deps.store_health.is_available() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(harness.login(CODE).await.outcome, "ok");
    following.abort();
}

#[tokio::test]
async fn a_refresh_token_is_not_spent_while_the_store_is_unavailable() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (access, refresh) = pair(&harness.login(CODE).await);
    harness.store.set_away(true);
    let core = harness.login.deps.sessions.core().clone();
    let following = tokio::spawn({
        let core = core.clone();
        async move { core.follow().await }
    });
    while harness.login.deps.store_health.is_available() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The store has not been asked yet whether it is available again.
    following.abort();
    let _ = following.await;
    harness.store.set_away(false);
    let reads = harness.store.reads.load(Ordering::SeqCst);

    let answer = harness.refresh(&refresh).await;
    let logout = harness.post(LOGOUT, None, &json!({ "refresh_token": refresh })).await;

    assert_eq!(refusal_of(&answer), (503, "store_unavailable", "temporarily_unavailable".into()));
    assert_eq!(problem(&logout).0, 503);
    assert_eq!(header(&answer, "retry-after"), Some("2"));
    assert_eq!(harness.store.reads.load(Ordering::SeqCst), reads);
    assert!(harness.is_signed_in(&access).await);
}

#[tokio::test]
async fn a_session_that_was_not_stored_says_that_its_code_is_spent() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    harness.store.set_away(true);

    let answer = harness.login(CODE).await;

    assert_eq!(refusal_of(&answer), (503, "store_unavailable", "temporarily_unavailable".into()));
    assert!(json_of(&answer)["error_description"].as_str().unwrap().contains("wx.login"));
    assert_eq!(harness.fake.requests().len(), 1);
    assert!(answer.identity.is_none());
}

#[tokio::test]
async fn the_session_key_is_kept_nowhere_because_nothing_is_configured_that_opens_it() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;

    let answer = harness.login(CODE).await;

    let (token, _) = pair(&answer);
    let now = harness.clock.now();
    let claims = harness.login.deps.tokens.verify(&token, now).unwrap();
    let sessions = &harness.login.deps.sessions;
    let key = sessions.session_key(&claims.identity().subject, claims.session(), now).await.unwrap();
    assert!(key.is_none());
    assert!(!format!("{:?}", answer.response).contains("tiihtNczf5v6AKRyjwEUhQ"));
}

#[tokio::test]
async fn a_session_shows_the_user_agent_of_its_client() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (token, _) = pair(&harness.login(CODE).await);

    let document = json_of(&harness.session(&token).await);

    assert!(document["session"]["device"].is_string(), "{document}");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_sign_out_by_a_cookie() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.cookie = Some("sid")).await;
    let (token, _) = pair(&harness.login(CODE).await);
    let with_cookie = |content_type, body| {
        let mut request = request("POST", LOGOUT, content_type, body);
        request.headers_mut().insert("cookie", format!("a=b; sid={token}").parse().unwrap());
        request
    };
    for (content_type, body) in [
        (None, ""),
        (Some("application/x-www-form-urlencoded"), "everywhere=true"),
        (Some("text/plain"), "{}"),
    ] {
        let answer = harness.send(with_cookie(content_type, body)).await;

        assert_eq!(problem(&answer).0, 415, "{content_type:?}");
        assert!(harness.is_signed_in(&token).await);
    }

    let answer = harness.send(with_cookie(Some("application/json"), "{}")).await;

    assert_eq!(answer.outcome, "logged_out");
}
