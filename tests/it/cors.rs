//! Pages of other origins (CORS): which answers they can read, and what they can send. The pages
//! themselves, in a browser, are in `browser::other_origin`.

mod cookies;
mod own;
mod refusals;

use std::io::Write as _;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::common::{Backend, NO_THROTTLE, PATIENCE, Reply, Response, World, eventually};
use crate::fronts::{Front, KINDS};
use crate::proxying::http2::Client;
use crate::proxying::{logged, pass};

/// The origin that the routes list.
const H5: &str = "https://h5.example.com";
/// The origin that `cors` lists, for the gateway's own answers.
const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example";

const ROUTES: &str = "
cors: { origins: ['https://app.example.com'] }
routes:
  - { name: bare, path: /bare, access: public, upstream: backend }
  - { name: closed, path: /closed, access: authenticated, upstream: backend }
  - name: public
    path: /pub
    access: public
    upstream: backend
    cors: { origins: ['https://h5.example.com'], expose_headers: [X-Total] }
  - name: protected
    path: /api
    access: authenticated
    upstream: backend
    cors: { origins: ['https://H5.example.com:443'], headers: [Authorization, X-A], credentials: true, max_age: 1m }
  - name: asked
    path: /asked
    access: authenticated
    upstream: backend
    cors: { origins: ['https://h5.example.com'], preflight: backend }
  - name: every
    path: /every
    access: public
    upstream: backend
    cors: { origins: ['*'], headers: ['*'], expose_headers: ['*'] }
  - name: optional
    path: /opt
    access: optional
    upstream: backend
    cors: { origins: ['https://h5.example.com'] }
";

/// A backend that lets every page in, whatever the gateway thinks.
fn careless() -> Backend {
    Backend::with(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: BREW\r\n\
              Access-Control-Allow-Private-Network: true\r\nVary: Accept\r\nX-Total: 7\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    })
}

fn world() -> World {
    World::with_backend(careless(), &format!("{ROUTES}{NO_THROTTLE}"))
}

fn origin(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

/// The fields of an answer that are about other origins, as `Allow-Origin: x`, sorted.
fn fields(response: &Response) -> Vec<String> {
    let about = response
        .headers
        .iter()
        .filter_map(|(name, value)| Some(format!("{}: {value}", name.strip_prefix("access-control-")?)));
    let mut about: Vec<String> = about.collect();
    about.sort();
    about
}

/// The names in `Vary`.
fn vary(response: &Response) -> Vec<String> {
    let lines = response.headers.iter().filter(|(name, _)| name == "vary");
    lines.flat_map(|(_, line)| line.split(',')).map(|name| name.trim().to_owned()).collect()
}

fn preflight(world: &World, path: &str, headers: &str) -> Response {
    world.send(&format!("OPTIONS {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}\r\n"))
}

/// The header lines of a preflight.
fn asking(from: &str, method: &str, headers: &str) -> String {
    let headers = if headers.is_empty() {
        String::new()
    } else {
        format!("Access-Control-Request-Headers: {headers}\r\n")
    };
    format!("{}Access-Control-Request-Method: {method}\r\n{headers}", origin(from))
}

#[test]
fn pages_of_listed_origins_alone_read_answers_and_caches_learn_of_it() {
    let world = world();
    let bearer = world.bearer("alice");
    let expose = "expose-headers: X-Total";
    let twice = format!("{}{}", origin(H5), origin(H5));
    let allow = format!("allow-origin: {H5}");
    let allow = allow.as_str();
    for (path, headers, expected, varies) in [
        ("/pub/x", origin(H5), vec![allow, expose], vec!["Accept", "Origin"]),
        ("/pub/x", origin(EVIL), vec![], vec!["Accept", "Origin"]),
        ("/pub/x", origin(APP), vec![], vec!["Accept", "Origin"]),
        ("/pub/x", origin("null"), vec![], vec!["Accept", "Origin"]),
        ("/pub/x", origin("https://H5.example.com"), vec![], vec!["Accept", "Origin"]),
        ("/pub/x", origin("http://h5.example.com"), vec![], vec!["Accept", "Origin"]),
        ("/pub/x", twice.clone(), vec![], vec!["Accept", "Origin"]),
        ("/pub/x", String::new(), vec![], vec!["Accept", "Origin"]),
        ("/every/x", origin(EVIL), vec!["allow-origin: *", "expose-headers: *"], vec!["Accept", "Origin"]),
        ("/every/x", String::new(), vec!["allow-origin: *", "expose-headers: *"], vec!["Accept", "Origin"]),
        (
            "/api/x",
            format!("{}{bearer}", origin(H5)),
            vec!["allow-credentials: true", allow],
            vec!["Accept", "Authorization", "Origin"],
        ),
        ("/api/x", format!("{}{bearer}", origin(EVIL)), vec![], vec!["Accept", "Authorization", "Origin"]),
        ("/opt/x", origin(H5), vec![allow], vec!["Accept", "Authorization", "Cookie", "Origin"]),
        // Without a policy, all is as the backend says it.
        (
            "/bare/x",
            origin(APP),
            vec!["allow-methods: BREW", "allow-origin: *", "allow-private-network: true"],
            vec!["Accept"],
        ),
    ] {
        let response = world.get(path, &headers);

        assert_eq!((response.status, &*response.body), (200, &b"ok"[..]), "{path} {headers}");
        assert_eq!(fields(&response), expected, "{path} {headers}");
        assert_eq!(vary(&response), varies, "{path} {headers}");
    }
}

#[test]
fn preflight_is_answered_by_policy_and_reaches_no_backend() {
    let world = world();
    let bearer = world.bearer("alice");
    let all = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    let full = [
        "allow-credentials: true".to_owned(),
        "allow-headers: Authorization, X-A".to_owned(),
        format!("allow-methods: {all}"),
        format!("allow-origin: {H5}"),
        "max-age: 60".to_owned(),
    ];
    let with_body = format!("{}Content-Length: 3\r\n", asking(H5, "PUT", ""));
    let twice = format!("{}{}", origin(H5), asking(H5, "PUT", ""));
    for (path, headers, expected, reason) in [
        ("/api/1", asking(H5, "PUT", "x-a,authorization"), &full[..], "preflight"),
        // The browser finds what is missing, and tells the page's author.
        ("/api/2", asking(H5, "BREW", ""), &full, "preflight_method_refused"),
        ("/api/3", asking(H5, "PUT", "x-b"), &full, "preflight_header_refused"),
        ("/api/4", asking(EVIL, "PUT", "x-a"), &[], "preflight_origin_refused"),
        ("/api/5", asking("null", "PUT", ""), &[], "preflight_origin_refused"),
        ("/api/6", asking(APP, "PUT", ""), &[], "preflight_origin_refused"),
        ("/api/7", twice, &[], "preflight_origin_refused"),
        ("/api/8", format!("{}{bearer}", asking(H5, "PUT", "")), &full, "preflight"),
        (
            "/api/9",
            format!("{}Access-Control-Request-Private-Network: true\r\n", asking(H5, "PUT", "")),
            &full,
            "preflight",
        ),
    ] {
        let response = preflight(&world, path, &headers);

        assert_eq!((response.status, response.body.len()), (204, 0), "{path}");
        assert_eq!(fields(&response), expected, "{path}");
        assert_eq!(vary(&response), ["Origin", "Access-Control-Request-Method"], "{path}");
        let line = logged(&world, path);
        assert_eq!((&line["reason"], &line["http.route"]), (&reason.into(), &"protected".into()), "{path}");
        let decision = if reason == "preflight" { "answered" } else { "refused" };
        assert_eq!(line["decision"], decision, "{path}");
    }
    let mut client = world.connect();
    client.write(format!("OPTIONS /api/b HTTP/1.1\r\nHost: gateway.test\r\n{with_body}\r\nabc").as_bytes());
    assert_eq!(client.read_response(false).status, 204);
    assert_eq!(world.backend.count(), 0);

    // What is no preflight is a request as any other.
    for headers in [origin(H5), "Access-Control-Request-Method: PUT\r\n".to_owned()] {
        assert_eq!(preflight(&world, "/api/x", &headers).status, 401, "{headers}");
    }
    assert_eq!(preflight(&world, "/closed/x", &asking(H5, "PUT", "")).status, 401);
    assert_eq!(world.backend.count(), 0);
    assert_eq!(preflight(&world, "/bare/x", &asking(H5, "PUT", "")).status, 200, "as before");
}

#[test]
fn backend_answers_preflights_only_where_the_route_says_so_and_of_listed_origins() {
    let world = world();
    let bearer = world.bearer("alice");
    let asked = format!("{}X-WX-OPENID: forged\r\n{bearer}", asking(H5, "DELETE", ""));

    let response = preflight(&world, "/asked/x", &asked);

    assert_eq!(response.status, 200);
    assert_eq!(fields(&response), ["allow-methods: BREW".to_owned(), format!("allow-origin: {H5}")]);
    let request = world.backend.last();
    assert_eq!(request.request_line(), "OPTIONS /asked/x HTTP/1.1");
    assert_eq!(request.header("access-control-request-method"), ["DELETE"]);
    for name in ["x-wx-openid", "x-wx-source", "authorization"] {
        assert_eq!(request.folded(name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(logged(&world, "/asked/x")["reason"], "preflight_forwarded");
    let refused = preflight(&world, "/asked/evil", &asking(EVIL, "DELETE", ""));
    assert_eq!((refused.status, fields(&refused)), (204, vec![]));
    let with_body = format!("{}Content-Length: 0\r\n", asking(H5, "PUT", ""));
    assert_eq!(preflight(&world, "/asked/empty", &with_body).status, 200, "an empty body is none");
    assert_eq!(world.get("/asked/x", &origin(H5)).status, 401, "the request itself needs a token");
    assert_eq!(world.backend.count(), 2);
}

#[test]
fn http2_is_answered_as_http1_is() {
    let listeners = "listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n";
    let world = World::with_backend(careless(), &format!("{ROUTES}{NO_THROTTLE}{listeners}"));
    let client = Client::connect(world.address());
    let asked = [("origin", H5), ("access-control-request-method", "PUT")];
    let preflight = client.send("OPTIONS", "/api/x", &asked, bytes::Bytes::new()).unwrap();
    let of = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight.status, 204);
    assert_eq!(of(&preflight.headers, "access-control-allow-origin").as_deref(), Some(H5));
    assert_eq!(of(&preflight.headers, "access-control-max-age").as_deref(), Some("60"));
    for (path, from, status, allowed) in [
        ("/pub/x", H5, 200, Some(H5)),
        ("/pub/x", EVIL, 200, None),
        ("/api/x", H5, 401, Some(H5)),
        ("/nothing", APP, 404, Some(APP)),
        ("/nothing", EVIL, 404, None),
        ("/auth/session", APP, 401, Some(APP)),
    ] {
        let answer = client.get(path, &[("origin", from)]);

        assert_eq!(answer.status, status, "{path} {from}");
        assert_eq!(of(&answer.headers, "access-control-allow-origin").as_deref(), allowed, "{path} {from}");
        assert!(of(&answer.headers, "vary").unwrap().contains("Origin"), "{path} {from}");
    }
    let two = client.get("/pub/x", &[("origin", H5), ("origin", H5)]);
    assert_eq!(of(&two.headers, "access-control-allow-origin"), None);
}

#[test]
fn shared_cache_gives_no_page_the_answer_to_another_origin() {
    let backend = Backend::with(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        )
    });
    let origins = "cors: { origins: ['https://h5.example.com', 'https://app.example.com'] }";
    let routes = format!("routes: [{{ path: /, access: public, upstream: backend, {origins} }}]\n");
    let world = World::with_backend(backend, &format!("{routes}{NO_THROTTLE}"));
    for kind in KINDS {
        let front = Front::start(kind, world.address());
        for round in 0..2 {
            for (from, allowed) in [(H5, Some(H5)), (APP, Some(APP)), (EVIL, None)] {
                let response = front.get(&format!("/{kind:?}"), &origin(from));

                let allowed_origin = response.header("access-control-allow-origin");
                assert_eq!((response.status, allowed_origin), (200, allowed), "{kind:?} {round}");
            }
            let response = front.get(&format!("/{kind:?}"), "");
            assert_eq!(response.header("access-control-allow-origin"), None, "{kind:?} {round}");
        }
    }
    assert_eq!(world.backend.count(), KINDS.len() * 4, "the caches did keep answers");
}

/// Otherwise the page that asked would see a network error at each reload.
#[test]
fn reload_does_not_cut_off_a_preflight_that_the_backend_answers() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let backend = Backend::with(move |_| {
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        // Requests under way are looked at five times a second, and cut off at a chunk.
        Reply::Take(Box::new(|mut stream| {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n");
            for _ in 0..50 {
                pass(Duration::from_millis(20));
                _ = stream.write_all(b"x");
            }
        }))
    });
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));
    let file = world.data.path().join("menshen.yaml");
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| preflight(&world, "/asked/x", &asking(H5, "DELETE", "")));
        eventually("the backend is asked", || world.backend.count() == 1);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("max_age: 1m", "max_age: 2m")).unwrap();
        world.gateway().reload().unwrap();
        release.send(()).unwrap();
        asking.join().unwrap()
    });

    assert_eq!((answer.status, answer.body.len()), (200, 50));
}

#[test]
fn reload_changes_who_may_read() {
    let world = world();
    let file = world.data.path().join("menshen.yaml");
    let allowed = |from: &str, path: &str| {
        world.get(path, &origin(from)).header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed(EVIL, "/pub/x"), None);
    let before = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, before.replace("https://h5.example.com", EVIL)).unwrap();
    world.gateway().reload().unwrap();

    assert_eq!(allowed(EVIL, "/pub/x").as_deref(), Some(EVIL));
    assert_eq!(allowed(H5, "/pub/x"), None);
    for (from, to) in [
        ("origins: ['*'], headers: ['*']", "origins: ['*'], credentials: true, headers: ['*']"),
        ("'https://h5.example.com'], expose", "'null'], expose"),
        (
            "cors: { origins: ['https://app.example.com'] }",
            "cors: { origins: ['https://app.example.com'], preflight: backend }",
        ),
    ] {
        assert!(before.contains(from), "{from}");
        std::fs::write(&file, before.replace(from, to)).unwrap();
        world.gateway().reload().unwrap_err();
        assert_eq!(allowed(EVIL, "/pub/x").as_deref(), Some(EVIL), "the good one stays: {to}");
    }
    std::fs::write(&file, before.replace("cors: { origins: ['https://app.example.com'] }\n", "")).unwrap();
    world.gateway().reload().unwrap();
    assert_eq!(allowed(APP, "/nothing"), None);
    assert_eq!(allowed(H5, "/pub/x").as_deref(), Some(H5));
}
