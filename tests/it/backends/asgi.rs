//! ASGI applications under uvicorn: streams, messages, its keep-alive, and Socket.IO.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::seen::Seen;
use super::server::{CHAT, PATH, Server, UVICORN, UVICORN_KEEPING_CONNECTIONS_BRIEFLY, fixtures};
use crate::common::{Connection, NO_THROTTLE, World, now};
use crate::proxying::pass;
use crate::websocket::open;

const SOCKETS: &str = "
routes:
  - { name: open, path: /pub, access: public, upstream: backend }
  - { name: all, path: /, access: authenticated, upstream: backend, websocket: true }
";

/// How long the gateway by default keeps an idle connection: not as long as uvicorn, which here
/// keeps one for two seconds, and by default for five.
const IDLE: Duration = Duration::from_millis(1500);

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn openid(world: &World, bearer: &str) -> String {
    let seen = Seen::of(&world.get("/", bearer)).unwrap();
    seen.identity("openid")[0].unwrap().to_owned()
}

/// Sends one message of at most 125 bytes. A mask of zeros changes nothing.
fn say(client: &mut Connection, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    client.write(&[&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat());
}

fn hear(client: &mut Connection) -> String {
    let head = client.read_exact(2);
    assert_eq!(head[0], 0x81, "no message of text in one frame");
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(client.read_exact(2).try_into().unwrap())),
        length => usize::from(length),
    };
    String::from_utf8(client.read_exact(length)).unwrap()
}

#[test]
fn an_asgi_application_sees_the_user_the_query_and_the_body_as_they_are() {
    let server = UVICORN.start();
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let forged = "X-WX-OPENID: forged\r\nx-wx-openid: forged\r\nX-Forwarded-For: 203.0.113.9\r\n";
    let headers = format!("{}{forged}", world.bearer("alice"));
    let target = "/items/%E4%BD%A0?q=%E5%A5%BD&empty=&q=2+3";

    let response = world.send(&post(target, &headers, "{\"名\": 1}"));

    let (json, seen) = (response.json(), Seen::of(&response).unwrap());
    assert_eq!((seen.method(), seen.target()), ("POST", target));
    assert_eq!(seen.body(), "{\"名\": 1}".as_bytes());
    let names: Vec<&str> =
        json["headers"].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| **name == "x-wx-openid").count(), 1, "{names:?}");
    assert!(names.iter().all(|name| name.to_lowercase() == **name), "{names:?}");
    assert_eq!(seen.identity("openid"), [Some(&*openid(&world, &headers))]);
    // uvicorn believes X-Forwarded-For of a proxy on the same machine.
    assert_ne!(json["client"][0], "203.0.113.9");
}

#[test]
fn an_event_of_an_asgi_application_arrives_before_the_next_is_sent() {
    let server = UVICORN.start();
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let bearer = world.bearer("alice");
    let mut client = world.connect();
    client.write(format!("GET /events HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n").as_bytes());

    assert_eq!(client.read_header().unwrap().header("content-type"), Some("text/event-stream"));
    assert_eq!(client.read_chunk(), b"data: first\n\n");
    assert_eq!(world.send(&post("/events/last", &bearer, "")).status, 200);
    assert_eq!(client.read_chunk(), b"data: last\n\n");
    assert_eq!(client.read_chunk(), b"");
}

#[test]
fn a_websocket_of_an_asgi_application_knows_its_user_and_answers_every_message() {
    let server = UVICORN.start();
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let bearer = world.bearer("alice");
    let mut client = open(&world, "/ws/room?id=1", &format!("{bearer}X-WX-OPENID: forged\r\n"));

    say(&mut client, "seen");
    let seen = Seen::parse(hear(&mut client).as_bytes()).unwrap();
    assert_eq!((seen.method(), seen.target()), ("websocket", "/ws/room?id=1"));
    assert_eq!(seen.identity("openid"), [Some(&*openid(&world, &bearer))]);
    for text in ["你好", "", "GET / HTTP/1.1\r\n\r\n"] {
        say(&mut client, text);
        assert_eq!(hear(&mut client), text);
    }
}

/// Where the server closes a connection just as a POST is sent on it, nobody knows whether it was
/// processed, and it cannot be repeated.
#[test]
fn no_post_meets_a_connection_that_uvicorn_is_closing() {
    let server = UVICORN_KEEPING_CONNECTIONS_BRIEFLY.start();
    let before = server.position();
    let around = (1900..=2100).step_by(20);
    let distances: Vec<u64> = [0, 300, 900, 1700, 1800].into_iter().chain(around).chain([2500]).collect();

    std::thread::scope(|scope| {
        for distance in &distances {
            let server = &server;
            scope.spawn(move || post_twice(server, Duration::from_millis(*distance)));
        }
    });

    let posts = server.seen_since(before).iter().filter(|seen| seen.method() == "POST").count();
    assert_eq!(posts, distances.len() * 2, "a POST was lost or repeated");
}

/// Two POSTs through a gateway of their own, so far apart.
fn post_twice(server: &Server, distance: Duration) {
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let mut client = world.connect();
    let mut port = || {
        let response = client.send(post("/pub/orders", "", "one").as_bytes());
        assert_eq!(response.status, 200, "{distance:?}: {}", response.text());
        response.json()["client"][1].as_u64().unwrap()
    };

    let begun = now();
    let first = port();
    pass(distance);
    let second = port();

    if begun.elapsed() < IDLE {
        assert_eq!(second, first, "{distance:?}: a connection that can be used is not used again");
    }
    if distance > IDLE {
        assert_ne!(second, first, "{distance:?}: a connection is used that the server may be closing");
    }
}

/// What a client of Socket.IO heard, or why it was refused.
fn talk(world: &World, transports: &str, token: &str) -> Value {
    let output = Command::new("/usr/bin/python3")
        .arg(fixtures().join("asgi/chat_client.py"))
        .args([&format!("http://{}", world.address()), transports, token])
        .env("PATH", PATH)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("PYTHONPATH")
        .output()
        .unwrap();
    println!("the client said:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Methods and transports of the requests of Socket.IO that came to the server.
fn exchanges(server: &Server, before: usize) -> Vec<(String, bool)> {
    let seen = server.seen_since(before);
    let of_chat = seen.iter().filter(|seen| seen.target().starts_with("/socket.io/"));
    let mut exchanges: Vec<_> = of_chat
        .map(|seen| (seen.method().to_owned(), seen.target().contains("transport=websocket")))
        .collect();
    exchanges.sort();
    exchanges.dedup();
    exchanges
}

#[test]
fn socket_io_talks_over_each_of_its_transports_as_the_user_of_the_token() {
    let server = CHAT.start();
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let token = world.sign_in("alice");
    let openid = openid(&world, &format!("Authorization: Bearer {token}\r\n"));
    for (transports, last, expected) in [
        ("polling", "polling", &[("GET", false), ("POST", false)][..]),
        ("polling,websocket", "websocket", &[("GET", false), ("websocket", true)]),
        ("websocket", "websocket", &[("websocket", true)]),
    ] {
        let before = server.position();

        let heard = talk(&world, transports, &token);

        let message = json!({ "openid": openid, "text": "你好" });
        assert_eq!(heard, json!({ "heard": message, "transport": last }), "{transports}");
        let expected: Vec<_> =
            expected.iter().map(|(method, socket)| ((*method).to_owned(), *socket)).collect();
        assert_eq!(exchanges(&server, before), expected, "{transports}");
    }
}

/// As its client for browsers does: it joins by a POST before it changes to a WebSocket.
#[test]
fn socket_io_changes_to_a_websocket_after_it_joined_by_polling() {
    let server = CHAT.start();
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let bearer = world.bearer("alice");
    let polling = "/socket.io/?EIO=4&transport=polling";
    let first = world.get(polling, &bearer).text();
    let settings: Value = serde_json::from_str(first.strip_prefix('0').unwrap()).unwrap();
    let id = settings["sid"].as_str().unwrap();

    let session = format!("{polling}&sid={id}");
    assert_eq!(world.send(&post(&session, &bearer, "40")).text(), "OK");
    assert!(world.get(&session, &bearer).text().starts_with("40{"));
    let mut client = open(&world, &format!("/socket.io/?EIO=4&transport=websocket&sid={id}"), &bearer);
    say(&mut client, "2probe");
    assert_eq!(hear(&mut client), "3probe");
    say(&mut client, "5");
    say(&mut client, "42[\"say\",\"hello\"]");

    // The server may say first that it has nothing to say.
    let said = std::iter::repeat_with(|| hear(&mut client)).find(|text| text != "6").unwrap();
    let said: Value = serde_json::from_str(said.strip_prefix("42").unwrap()).unwrap();
    let message = json!({ "openid": openid(&world, &bearer), "text": "hello" });
    assert_eq!(said, json!(["said", message]));
}

#[test]
fn socket_io_is_refused_without_a_token_and_never_reaches_its_server() {
    let server = CHAT.start();
    let world = server.world(&format!("{SOCKETS}{NO_THROTTLE}"));
    let before = server.position();

    for token in ["", "forged"] {
        for (transports, reason) in [
            ("polling", "Unexpected status code 401 in server response"),
            ("polling,websocket", "Unexpected status code 401 in server response"),
            ("websocket", "Connection error"),
        ] {
            let refused = talk(&world, transports, token);
            assert_eq!(refused, json!({ "refused": reason }), "{transports} {token:?}");
        }
    }
    assert_eq!(exchanges(&server, before), []);
}
