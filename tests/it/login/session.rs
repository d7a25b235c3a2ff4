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
    post(world, "/auth/refresh", "", &json!({ "refresh_token": token }))
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
