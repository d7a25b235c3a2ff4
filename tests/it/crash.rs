//! Promise 3: a login that was acknowledged survives the gateway's violent death, and so does a
//! logout.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Connection, NO_THROTTLE, ROUTES, Response, World, now};
use crate::process::{self, Process};

const KILLS: usize = 100;
const CLIENTS: usize = 4;

/// A login that the gateway said was done.
#[derive(Clone)]
struct Acknowledged {
    person: String,
    access_token: String,
    refresh_token: String,
    since: Since,
}

/// What became of a session after its login, as far as its client was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    Nothing,
    /// It was renewed; the tokens are the new ones.
    Refreshed,
    /// The client that asked for a refresh got no answer.
    RefreshLost,
    /// It was ended.
    LoggedOut,
    /// The client that asked for a logout got no answer.
    LogoutLost,
}

/// Sends a request; its answer, if there was one before the gateway was gone.
fn send(process: &Process, path: &str, headers: &str, body: &str) -> Option<Response> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    Connection::try_open(process.address)?.send_unless_gone(request.as_bytes())
}

impl Acknowledged {
    fn new(person: String, response: &Response) -> Self {
        assert_eq!(response.status, 200, "{}", response.text());
        let token = |name: &str| response.json()[name].as_str().unwrap().to_owned();
        let (access_token, refresh_token) = (token("access_token"), token("refresh_token"));
        Self { person, access_token, refresh_token, since: Since::Nothing }
    }

    fn refresh(&mut self, process: &Process) {
        let body = format!(r#"{{"refresh_token":"{}"}}"#, self.refresh_token);
        self.since = Since::RefreshLost;
        if let Some(response) = send(process, "/auth/refresh", "", &body) {
            *self = Self { since: Since::Refreshed, ..Self::new(self.person.clone(), &response) };
        }
    }

    fn log_out(&mut self, process: &Process) {
        let bearer = format!("Authorization: Bearer {}\r\n", self.access_token);
        self.since = Since::LogoutLost;
        if let Some(response) = send(process, "/auth/logout", &bearer, "{}") {
            assert_eq!(response.status, 204, "{}", response.text());
            self.since = Since::LoggedOut;
        }
    }
}

/// Signs in new users until the gateway is gone; some refresh or sign out. Returns every login that
/// was acknowledged.
fn live_until_the_end(
    world: &World,
    process: &Process,
    people: &AtomicUsize,
    is_over: &AtomicBool,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let number = people.fetch_add(1, Ordering::Relaxed);
        let person = format!("person-{number}");
        let body = format!(r#"{{"code":"{}"}}"#, world.code(&person));
        let Some(response) = send(process, "/auth/login", "", &body) else { break };
        let mut login = Acknowledged::new(person, &response);
        match number % 3 {
            0 => login.refresh(process),
            1 => login.log_out(process),
            _ => {}
        }
        acknowledged.push(login);
    }
    acknowledged
}

/// What was acknowledged holds: a session goes on, and one that was ended does not.
fn assert_holds(process: &Process, login: &Acknowledged) {
    let response = process.connect().send(
        format!(
            "GET /x HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
            login.access_token
        )
        .as_bytes(),
    );
    let is_possible: &[u16] = match login.since {
        Since::LoggedOut => &[401],
        Since::LogoutLost => &[200, 401],
        Since::Nothing | Since::Refreshed | Since::RefreshLost => &[200],
    };
    assert!(is_possible.contains(&response.status), "{}: {}", login.person, response.text());
}

#[test]
fn everything_acknowledged_survives_a_hundred_violent_deaths() {
    // A refresh whose answer was lost may be asked for again: by the end of this test, on a slow
    // machine.
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}sessions: {{ refresh_grace: 5m }}\n"));
    let mut process = Process::like(&world);
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
                    let acknowledged = live_until_the_end(&world, &process, &people, &is_over);
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
            assert_holds(&process, login);
        }
        for login in found.iter().filter(|login| login.since == Since::RefreshLost) {
            let again = process.refresh(&login.refresh_token);
            assert_eq!(again.status, 200, "{}: {}", login.person, again.text());
        }
        all.extend(found);
    }

    for login in &all {
        assert_holds(&process, login);
    }
    let of = |since: Since| all.iter().filter(move |login| login.since == since);
    for login in of(Since::Nothing).chain(of(Since::Refreshed)).step_by(10) {
        let next = process.refresh(&login.refresh_token);
        assert_eq!(next.status, 200, "{}: {}", login.person, next.text());
    }
    for login in of(Since::LoggedOut).step_by(10) {
        assert_eq!(process.refresh(&login.refresh_token).status, 401, "{}", login.person);
    }
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));
    let (code, _, said) = process::command(&process.config(), &["store", "verify"]);
    assert_eq!(code, Some(0), "{said}");
    // Every row, as an operator may take it away: no session key is among them.
    let (code, rows, said) = process::command(&process.config(), &["store", "export"]);
    assert_eq!(code, Some(0), "{said}");
    let living = of(Since::Nothing).chain(of(Since::Refreshed)).chain(of(Since::RefreshLost)).count();
    assert!(rows.lines().count() >= living, "{} rows", rows.lines().count());
    println!(
        "{KILLS} kills, {} logins begun, {} acknowledged and found again, {:?}",
        people.load(Ordering::Relaxed),
        all.len(),
        now().saturating_duration_since(begun)
    );
    let [refreshed, refresh_lost, out, logout_lost] =
        [Since::Refreshed, Since::RefreshLost, Since::LoggedOut, Since::LogoutLost]
            .map(|since| of(since).count());
    println!("{refreshed} refreshes and {out} logouts, {refresh_lost} and {logout_lost} without an answer");
    assert!(all.len() > KILLS, "too few logins to mean anything: {}", all.len());
    assert!(refreshed > KILLS / 20 && out > KILLS / 20, "too few after them");
}
