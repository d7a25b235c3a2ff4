//! How long a session goes on, and how many there may be, over real sockets.

use std::time::Duration;

use serde_json::{Value, json};

use super::session::{Pair, is_signed_in, pair, refresh, sign_in};
use crate::common::{APPID, NO_THROTTLE, ROUTES, World, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Tokens that would outlive what ends their session.
fn world(sessions: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}tokens: {{ lifetime: 24h }}\nsessions: {{ {sessions} }}\n"))
}

fn sign_in_on(world: &World, device: &str) -> Pair {
    let body = json!({ "code": world.code("alice") }).to_string();
    pair(&world.post_login(&body, "application/json", &format!("User-Agent: {device}\r\n")))
}

/// The sessions of a person, as an operator sees them.
fn listed(world: &World) -> Vec<Value> {
    let openid = world.emulator.openid(APPID, "alice");
    let answer = world.control(&format!("GET /sessions?app=shop&openid={openid}"), &json!({})).json();
    answer["sessions"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

#[test]
fn unused_session_ends_before_its_token() {
    let world = world("idle_timeout: 1h");
    let (token, refresh_token) = sign_in(&world, "alice");

    for _ in 0..5 {
        world.clock.advance(50 * MINUTE);
        let before = listed(&world)[0]["last_seen_at"].clone();
        assert!(is_signed_in(&world, &token));
        eventually("the use is noted", || listed(&world)[0]["last_seen_at"] != before);
    }
    world.clock.advance(HOUR + 5 * MINUTE);

    assert!(!is_signed_in(&world, &token));
    let refreshed = refresh(&world, &refresh_token);
    assert_eq!((refreshed.status, &refreshed.json()["code"]), (401, &json!("refresh_token_invalid")));
    assert_eq!(listed(&world), Vec::<Value>::new());
}

#[test]
fn session_ends_after_its_lifetime_however_busy() {
    let world = world("lifetime: 2h, idle_timeout: 1h");
    let (mut token, mut refresh_token) = sign_in(&world, "alice");

    for _ in 0..3 {
        world.clock.advance(30 * MINUTE);
        assert!(is_signed_in(&world, &token));
        let answer = refresh(&world, &refresh_token);
        // Neither a request nor a refresh moves the end.
        assert!(answer.json()["expires_in"].as_u64().unwrap() <= 2 * 3600 - 1800, "{}", answer.text());
        (token, refresh_token) = pair(&answer);
    }
    world.clock.advance(30 * MINUTE);

    assert!(!is_signed_in(&world, &token));
    assert_eq!(refresh(&world, &refresh_token).status, 401);
    assert_eq!(listed(&world), Vec::<Value>::new());
}

#[test]
fn one_session_too_many_ends_the_oldest_after_the_delay() {
    let world = world("max_per_subject: 2, eviction_delay: 1m");
    let sessions = ["one/1.0", "two/1.0", "three/1.0"].map(|device| {
        world.clock.advance(Duration::from_secs(1));
        sign_in_on(&world, device).0
    });

    // Several requests of one client may be signing in again together: none of them loses at once.
    assert!(sessions.iter().all(|token| is_signed_in(&world, token)));
    world.clock.advance(Duration::from_secs(58));
    assert!(is_signed_in(&world, &sessions[0]));
    world.clock.advance(Duration::from_secs(2));

    assert_eq!(sessions.map(|token| is_signed_in(&world, &token)), [false, true, true]);
    let devices: Vec<Value> = listed(&world).iter().map(|session| session["device"].clone()).collect();
    assert_eq!(devices, [json!("two/1.0"), json!("three/1.0")]);
    assert!(world.metric("menshen_sessions_evicted_total") > 0.5);
}
