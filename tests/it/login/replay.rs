//! Promise 5: a code sent twice at once, or again after a lost reply, by the same client gives one
//! exchange with WeChat and one session.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use menshen::emulator::{Effect, InjectedFault};

use super::{assert_refused, login, logins};
use crate::common::{APPID, Connection, World, eventually};

fn request(code: &str, headers: &str) -> String {
    let body = format!(r#"{{"code":"{code}"}}"#);
    format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn delayed(world: &World) {
    world.emulator.inject(InjectedFault::new(Effect::DelayBefore("300ms".parse().unwrap())));
}

#[test]
fn a_thousand_logins_at_once_with_one_code_are_one_exchange_and_one_token() {
    let world = World::new();
    delayed(&world);
    let request = request(&world.code("alice"), "");
    let mut connections: Vec<Connection> = (0..1000).map(|_| world.connect()).collect();

    for connection in &mut connections {
        connection.write(request.as_bytes());
    }

    let tokens: BTreeSet<String> = connections
        .iter_mut()
        .map(|connection| {
            let response = connection.read_response(false);
            assert_eq!(response.status, 200, "{}", response.text());
            response.json()["access_token"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(world.exchanges(), 1);
    assert_eq!(logins(&world, "ok"), 1000.0);
}

#[test]
fn threads_that_race_for_one_code_after_another_never_ask_twice() {
    let world = World::new();
    for _ in 0..20 {
        let (code, barrier) = (world.code("alice"), Barrier::new(8));
        let asked = world.exchanges();

        let tokens: BTreeSet<String> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = world.connect();
                        barrier.wait();
                        connection.send(request(&code, "").as_bytes()).json()["access_token"].to_string()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });

        assert_eq!((tokens.len(), world.exchanges()), (1, asked + 1));
    }
}

#[test]
fn another_client_with_the_same_code_is_refused_without_a_call() {
    let world = World::new();
    let code = world.code("alice");
    let send = |code: &str, agent: &str| world.send(&request(code, &format!("User-Agent: {agent}\r\n")));

    assert_eq!(send(&code, "phone").status, 200);
    for agent in ["thief", "phone\r\nUser-Agent: phone", "Phone", ""] {
        assert_refused(&send(&code, agent), 401, "invalid_grant", "code_already_used");
    }
    assert_refused(&world.send(&request(&code, "")), 401, "invalid_grant", "code_already_used");
    assert_eq!(send(&code, "phone").status, 200, "the first client is not harmed by it");
    assert_eq!(world.exchanges(), 1);

    // While the exchange is under way, too.
    delayed(&world);
    let code = world.code("alice");
    let mut first = world.connect();
    first.write(request(&code, "User-Agent: phone\r\n").as_bytes());
    eventually("the exchange begins", || world.exchanges() == 2);
    assert_refused(&send(&code, "thief"), 401, "invalid_grant", "code_already_used");
    assert_eq!(first.read_response(false).status, 200);
    assert_eq!(world.exchanges(), 2);
}

#[test]
fn the_same_client_gets_the_same_answer_for_a_minute_and_a_new_exchange_after_it() {
    let world = World::new();
    let code = world.code("alice");
    let first = login(&world, &code).json();

    world.clock.advance(Duration::from_secs(59));
    let again = login(&world, &code).json();

    assert_eq!(again["access_token"], first["access_token"]);
    assert_eq!(again["openid"], first["openid"]);
    let left = |answer: &serde_json::Value| answer["expires_in"].as_u64().unwrap();
    assert_eq!(left(&again), left(&first) - 59, "counted from this answer");
    assert_eq!(world.exchanges(), 1);

    world.clock.advance(Duration::from_secs(1));
    assert_refused(&login(&world, &code), 401, "invalid_grant", "code_already_used");
    assert_eq!(world.exchanges(), 2);
}

#[test]
fn refusals_for_good_are_remembered_and_others_are_not() {
    for (errcode, status, is_remembered) in [
        (40029, 401, true),
        (40163, 401, true),
        (40226, 403, true),
        (45011, 429, false),
        (45009, 503, false),
        (40002, 502, false),
    ] {
        let world = World::new();
        world.emulator.inject(InjectedFault::new(Effect::errcode(errcode)).times(1));
        let code = world.code("alice");
        assert_eq!(login(&world, &code).status, status);

        let second = login(&world, &code).status;

        assert_eq!(second, if is_remembered { status } else { 200 }, "{errcode}");
        assert_eq!(world.exchanges(), if is_remembered { 1 } else { 2 }, "{errcode}");
    }
}

#[test]
fn a_client_that_hangs_up_gets_its_answer_when_it_asks_again() {
    let world = World::new();
    delayed(&world);
    let code = world.code("alice");
    let mut gone = world.connect();
    gone.write(request(&code, "").as_bytes());
    eventually("the exchange begins", || world.exchanges() == 1);

    drop(gone);
    let during = login(&world, &code);
    let after = login(&world, &code);

    assert_eq!(during.status, 200, "{}", during.text());
    assert_eq!(during.json()["openid"], world.emulator.openid(APPID, "alice"));
    assert_eq!(during.json()["access_token"], after.json()["access_token"]);
    assert_eq!(world.exchanges(), 1);
}

#[test]
fn a_client_that_hangs_up_before_a_second_request_costs_one_exchange() {
    let world = World::new();
    delayed(&world);
    let code = world.code("alice");
    let mut gone = world.connect();
    gone.write(request(&code, "").as_bytes());
    eventually("the exchange begins", || world.exchanges() == 1);
    drop(gone);
    eventually("the exchange ends", || {
        world.emulator.calls().iter().all(|call| call.ending == menshen::emulator::CallEnding::Answered)
    });

    assert_eq!(login(&world, &code).status, 200);
    assert_eq!(world.exchanges(), 1);
}

#[test]
fn one_code_in_two_apps_is_two_codes() {
    let world = World::with(
        "
apps:
  one: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  two: { kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }
routes:
  - { path: /, access: authenticated, upstream: backend }
",
    );
    let code = world.code("alice");
    let sign_in = |app: &str| world.login_with(&format!(r#"{{"code":"{code}","app":"{app}"}}"#)).status;

    assert_eq!([sign_in("two"), sign_in("one"), sign_in("two"), sign_in("one")], [401, 200, 401, 200]);
    assert_eq!(world.exchanges(), 2);
}
