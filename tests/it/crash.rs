//! Promise 3: a login that was acknowledged survives the gateway's violent death.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Connection, World, now};
use crate::process::{self, Process};

const KILLS: usize = 100;
const CLIENTS: usize = 4;

/// A login that the gateway said was done.
#[derive(Clone)]
struct Acknowledged {
    person: String,
    access_token: String,
    refresh_token: String,
}

/// Signs in new people until the gateway is gone; every login that was acknowledged.
fn sign_in_until_the_end(
    world: &World,
    process: &Process,
    people: &AtomicUsize,
    is_over: &AtomicBool,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let person = format!("person-{}", people.fetch_add(1, Ordering::Relaxed));
        let body = format!(r#"{{"code":"{}"}}"#, world.code(&person));
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let Some(mut connection) = Connection::try_open(process.address) else { break };
        let Some(response) = connection.send_unless_gone(request.as_bytes()) else { continue };
        assert_eq!(response.status, 200, "{}", response.text());
        let token = |name: &str| response.json()[name].as_str().unwrap().to_owned();
        let (access_token, refresh_token) = (token("access_token"), token("refresh_token"));
        acknowledged.push(Acknowledged { person, access_token, refresh_token });
    }
    acknowledged
}

fn assert_lives(process: &Process, login: &Acknowledged) {
    let response = process.connect().send(
        format!(
            "GET /x HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
            login.access_token
        )
        .as_bytes(),
    );
    assert_eq!(response.status, 200, "{}: {}", login.person, response.text());
}

#[test]
fn every_acknowledged_session_survives_a_hundred_violent_deaths() {
    let world = World::new();
    let mut process = Process::beside(&world);
    let people = AtomicUsize::new(0);
    let mut all: Vec<Acknowledged> = Vec::new();
    let begun = now();
    // A walk through the phases of a commit: from before the first login to many under way.
    let delays = (0..KILLS).map(|round| Duration::from_micros(1_000 + (round as u64 * 7_919) % 60_000));

    for delay in delays {
        let (found, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let acknowledged = sign_in_until_the_end(&world, &process, &people, &is_over);
                    found.lock().unwrap().extend(acknowledged);
                });
            }
            let deadline = now() + delay;
            while now() < deadline {
                std::thread::park_timeout(deadline.saturating_duration_since(now()));
            }
            process.signal("KILL");
            is_over.store(true, Ordering::Relaxed);
        });
        process.start_again();
        let found = found.into_inner().unwrap();
        for login in &found {
            assert_lives(&process, login);
        }
        all.extend(found);
    }

    for login in &all {
        assert_lives(&process, login);
    }
    for (index, login) in all.iter().enumerate().filter(|(index, _)| index % 10 == 0) {
        let next = process.refresh(&login.refresh_token);
        assert_eq!(next.status, 200, "{index}: {}", next.text());
    }
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));
    let (code, _, said) = process::command(&process.config(), &["store", "verify"]);
    assert_eq!(code, Some(0), "{said}");
    // Every row, as an operator may take it away: no session key is among them.
    let (code, rows, said) = process::command(&process.config(), &["store", "export"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(rows.lines().count() >= all.len(), "{} rows", rows.lines().count());
    println!(
        "{KILLS} kills, {} logins begun, {} acknowledged and found again, {:?}",
        people.load(Ordering::Relaxed),
        all.len(),
        now().saturating_duration_since(begun)
    );
    assert!(all.len() > KILLS, "too few logins to mean anything: {}", all.len());
}
