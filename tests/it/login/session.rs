//! A session over real sockets: renewed, shown, ended, and what a lost store makes of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_refused, login};
use crate::common::{APPID, NO_THROTTLE, ROUTES, Response, World};

/// Access and refresh token.
pub(super) type Pair = (String, String);

pub(super) fn pair(response: &Response) -> Pair {
    assert_eq!(response.status, 200, "{}", response.text());
    let document = response.json();
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

pub(super) fn sign_in(world: &World, person: &str) -> Pair {
    pair(&login(world, &world.code(person)))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn post(world: &World, path: &str, headers: &str, body: &Value) -> Response {
    let body = body.to_string();
    world.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

pub(super) fn refresh(world: &World, token: &str) -> Response {
    refresh_as(world, "", token)
}

/// A refresh of the client that sends these headers.
fn refresh_as(world: &World, client: &str, token: &str) -> Response {
    post(world, "/auth/refresh", client, &json!({ "refresh_token": token }))
}

fn log_out(world: &World, token: &str, body: &Value) -> Response {
    post(world, "/auth/logout", &bearer(token), body)
}

/// Whether a route takes the token, and the endpoint that shows its session.
#[track_caller]
pub(super) fn is_signed_in(world: &World, token: &str) -> bool {
    let (route, session) =
        (world.get("/x", &bearer(token)).status, world.get("/auth/session", &bearer(token)).status);
    match (route, session) {
        (200, 200) => true,
        (401, 401) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn refresh_tokens_are_good_once_and_a_lost_reply_is_answered_again() {
    let world = World::new();
    let (first_access, first) = sign_in(&world, "alice");

    let (second_access, second) = pair(&refresh(&world, &first));
    let (_, again) = pair(&refresh(&world, &first));
    world.clock.advance(Duration::from_secs(60));
    let (third_access, third) = pair(&refresh(&world, &second));

    assert_eq!(again, second, "the same successor within the grace time");
    assert!(first != second && second != third);
    for token in [first_access, second_access, third_access] {
        assert!(is_signed_in(&world, &token));
    }
    assert_eq!(world.exchanges(), 1, "WeChat is asked for none of it");
}

#[test]
fn a_spent_refresh_token_ends_its_session_and_the_access_tokens_with_it() {
    let world = World::new();
    let (first_access, first) = sign_in(&world, "alice");
    let (other, _) = sign_in(&world, "alice");
    let (second_access, second) = pair(&refresh(&world, &first));
    assert!(is_signed_in(&world, &second_access));
    world.clock.advance(Duration::from_secs(11));

    assert_refused(&refresh(&world, &first), 401, "invalid_grant", "refresh_token_reused");

    assert!(!is_signed_in(&world, &first_access));
    assert!(!is_signed_in(&world, &second_access));
    assert!(is_signed_in(&world, &other), "the person's other session goes on");
    assert_refused(&refresh(&world, &second), 401, "invalid_grant", "refresh_token_invalid");
}

#[test]
fn a_spent_refresh_token_of_another_client_is_refused_and_the_session_goes_on() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}trusted_proxies: [127.0.0.0/8]\n"));
    let client =
        |address: &str, agent: &str| format!("X-Forwarded-For: {address}\r\nUser-Agent: {agent}\r\n");
    let own = client("203.0.113.7", "MicroMessenger/8.0.50 NetType/WIFI Language/zh_CN");
    let (access, first) = sign_in(&world, "alice");
    let (_, second) = pair(&refresh_as(&world, &own, &first));

    for other in [
        client("198.51.100.7", "MicroMessenger/8.0.50 NetType/WIFI Language/zh_CN"),
        client("203.0.113.7", "MicroMessenger/8.0.51 NetType/WIFI Language/zh_CN"),
        client("2001:db8::7", "MicroMessenger/8.0.50"),
        "X-Forwarded-For: 203.0.113.7\r\n".to_owned(),
    ] {
        let stolen = refresh_as(&world, &other, &first);
        assert_refused(&stolen, 401, "invalid_grant", "refresh_token_invalid");
    }

    assert!(is_signed_in(&world, &access), "the family lives on");
    let same = client("203.0.113.250", "MicroMessenger/8.0.50 NetType/5G Language/en");
    assert_eq!(pair(&refresh_as(&world, &same, &first)).1, second, "the same client, on another network");
    let (_, third) = pair(&refresh_as(&world, &own, &second));
    let stolen = refresh_as(&world, &client("198.51.100.7", "thief"), &first);
    assert_refused(&stolen, 401, "invalid_grant", "refresh_token_reused");
    assert_refused(&refresh_as(&world, &own, &third), 401, "invalid_grant", "refresh_token_invalid");
}

#[test]
fn a_logout_with_a_token_that_another_client_spent_ends_the_session() {
    let world = World::new();
    let (access, first) = sign_in(&world, "alice");
    refresh_as(&world, "User-Agent: one\r\n", &first);

    let answer = post(&world, "/auth/logout", "User-Agent: other\r\n", &json!({ "refresh_token": first }));

    assert_eq!(answer.status, 204);
    assert!(!is_signed_in(&world, &access));
}

#[test]
fn a_holder_of_an_access_token_does_not_see_a_refresh() {
    let world = World::new();
    let (access, first) = sign_in(&world, "alice");
    let shown = || world.get("/auth/session", &bearer(&access)).json();
    let before = shown();
    world.clock.advance(Duration::from_secs(3600));

    pair(&refresh(&world, &first));

    assert_eq!(shown(), before);
}

#[test]
fn a_session_that_is_asked_for_too_often_waits_and_no_other_does() {
    let world = World::new();
    let [(alice, _), (bob, _)] = ["alice", "bob"].map(|person| sign_in(&world, person));
    let ask = |token: &str| world.get("/auth/session", &bearer(token));
    for asked in 0..60 {
        assert_eq!(ask(&alice).status, 200, "{asked}");
    }

    let refused = ask(&alice);

    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.json()["code"], "throttled");
    assert_eq!(world.get("/x", &bearer(&alice)).status, 200, "only this endpoint is limited");
    assert_eq!(ask(&bob).status, 200);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&alice).status, 200);
}

#[test]
fn a_logout_ends_one_session_and_everywhere_ends_all() {
    let world = World::new();
    let [(one, one_refresh), (two, _), (three, _)] = [(); 3].map(|()| sign_in(&world, "alice"));
    let (bob, _) = sign_in(&world, "bob");

    let response = log_out(&world, &one, &json!({}));

    assert_eq!((response.status, response.body.len()), (204, 0));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(!is_signed_in(&world, &one));
    assert_refused(&refresh(&world, &one_refresh), 401, "invalid_grant", "refresh_token_invalid");
    assert!(is_signed_in(&world, &two) && is_signed_in(&world, &three));

    assert_eq!(log_out(&world, &two, &json!({ "everywhere": true })).status, 204);

    assert!(!is_signed_in(&world, &two) && !is_signed_in(&world, &three));
    assert!(is_signed_in(&world, &bob));
    let again = log_out(&world, &two, &json!({}));
    assert_eq!(again.status, 401);
    assert_eq!(again.header("www-authenticate"), Some(r#"Bearer realm="menshen", error="invalid_token""#));
}

#[test]
fn a_logout_without_a_body_or_by_a_refresh_token_is_one_too() {
    let world = World::new();
    let (token, _) = sign_in(&world, "alice");
    let response =
        world.send(&format!("POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\n{}\r\n", bearer(&token)));
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(!is_signed_in(&world, &token));

    let (token, refresh_token) = sign_in(&world, "alice");
    world.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(world.get("/x", &bearer(&token)).status, 401, "it has expired");
    let body = json!({ "refresh_token": refresh_token });
    assert_eq!(post(&world, "/auth/logout", "", &body).status, 204);
    assert_refused(&refresh(&world, &refresh_token), 401, "invalid_grant", "refresh_token_invalid");
}

#[test]
fn a_session_is_shown_to_its_user() {
    let world = World::new();
    let (token, refresh_token) = sign_in(&world, "alice");

    let response = world.get("/auth/session", &bearer(&token));

    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let document = response.json();
    assert_eq!(document["app"], "shop");
    assert_eq!(document["openid"], world.emulator.openid(APPID, "alice"));
    assert_eq!(document["unionid"], world.emulator.unionid(APPID, "alice").unwrap());
    for time in ["/expires_at", "/session/created_at", "/session/last_seen_at", "/session/expires_at"] {
        let text = document.pointer(time).unwrap().as_str().unwrap();
        assert!(text.len() == 20 && text.starts_with("20") && text.ends_with('Z'), "{time}: {text}");
    }
    let key = world.emulator.session_key(APPID, "alice").unwrap();
    for secret in [&token, &refresh_token, &key] {
        assert!(!response.text().contains(secret.as_str()));
    }
    let head =
        world.send(&format!("HEAD /auth/session HTTP/1.1\r\nHost: gateway.test\r\n{}\r\n", bearer(&token)));
    assert_eq!(head.status, 200);
    let nobody = world.get("/auth/session", "");
    assert_eq!((nobody.status, nobody.json()["code"].as_str()), (401, Some("no_token")));
    assert_eq!(nobody.header("www-authenticate"), Some(r#"Bearer realm="menshen""#));
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_code_of_an_ended_session_opens_nothing() {
    let world = World::new();
    let code = world.code("alice");
    let (token, _) = pair(&login(&world, &code));
    assert_eq!(login(&world, &code).status, 200);

    assert_eq!(log_out(&world, &token, &json!({})).status, 204);

    assert_refused(&login(&world, &code), 401, "invalid_grant", "code_already_used");
    assert_eq!(world.exchanges(), 1);
}

#[test]
fn a_gateway_without_its_store_says_so_and_spends_no_code() {
    // Nothing listens on port 1.
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}
store: {{ engine: redis, redis: {{ addresses: ['127.0.0.1:1'], connect_timeout: 200ms }} }}
"
    ));
    let response = login(&world, &world.code("alice"));

    assert_refused(&response, 503, "temporarily_unavailable", "store_unavailable");
    assert_eq!(world.exchanges(), 0);
}
