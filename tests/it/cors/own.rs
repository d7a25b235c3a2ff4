//! The gateway's own endpoints, as pages of other origins use them.

use serde_json::json;

use super::{APP, EVIL, H5, asking, fields, origin, preflight, vary, world};
use crate::common::{Response, World};

fn post(world: &World, path: &str, from: &str, headers: &str, body: &str) -> Response {
    world.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{}{headers}Content-Length: {}\r\n\r\n{body}",
        origin(from),
        body.len()
    ))
}

fn allowed(response: &Response) -> Option<&str> {
    assert!(vary(response).contains(&"Origin".to_owned()), "{:?}", response.headers);
    response.header("access-control-allow-origin")
}

#[test]
fn listed_page_signs_in_refreshes_asks_and_signs_out() {
    let world = world();
    for path in ["/auth/login", "/auth/refresh", "/auth/logout", "/auth/session"] {
        let asked = preflight(&world, path, &asking(APP, "POST", "content-type,authorization"));
        assert_eq!(asked.status, 204, "{path}");
        let expected = [
            "allow-headers: Authorization, Content-Type".to_owned(),
            "allow-methods: GET, HEAD, POST".to_owned(),
            format!("allow-origin: {APP}"),
            "max-age: 600".to_owned(),
        ];
        assert_eq!(fields(&asked), expected, "{path}");
        for from in [EVIL, H5, "null"] {
            let asked = preflight(&world, path, &asking(from, "POST", "content-type"));
            assert_eq!((asked.status, fields(&asked)), (204, vec![]), "{path} {from}");
        }
    }

    let body = json!({ "code": world.code("alice") }).to_string();
    let login = post(&world, "/auth/login", APP, "", &body);
    assert_eq!((login.status, allowed(&login)), (200, Some(APP)), "{}", login.text());
    let body = json!({ "refresh_token": login.json()["refresh_token"] }).to_string();
    let refresh = post(&world, "/auth/refresh", APP, "", &body);
    assert_eq!((refresh.status, allowed(&refresh)), (200, Some(APP)), "{}", refresh.text());
    let bearer = format!("Authorization: Bearer {}\r\n", refresh.json()["access_token"].as_str().unwrap());
    let session = world.get("/auth/session", &format!("{}{bearer}", origin(APP)));
    assert_eq!((session.status, allowed(&session)), (200, Some(APP)));
    let session = world.get("/auth/session", &format!("{}{bearer}", origin(EVIL)));
    assert_eq!((session.status, allowed(&session)), (200, None), "a browser does not show it to the page");
    let logout = post(&world, "/auth/logout", APP, &bearer, "{}");
    assert_eq!((logout.status, allowed(&logout)), (204, Some(APP)));
    let keys = world.get("/.well-known/jwks.json", &origin(APP));
    assert_eq!((keys.status, allowed(&keys)), (200, Some(APP)));
}

#[test]
fn without_a_policy_nothing_is_said_of_origins() {
    let world = World::new();
    for path in ["/auth/login", "/.well-known/jwks.json", "/x"] {
        let asked = preflight(&world, path, &asking(APP, "POST", "content-type"));
        assert!(matches!(asked.status, 401 | 405), "{path}: {}", asked.status);
        for response in [asked, world.get(path, &origin(APP))] {
            assert_eq!(fields(&response), Vec::<String>::new(), "{path}");
            assert!(!vary(&response).contains(&"Origin".to_owned()), "{path}");
        }
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn server_itself_is_described_to_listed_pages() {
    let world = world();
    let response =
        world.send(&format!("OPTIONS * HTTP/1.1\r\nHost: gateway.test\r\n{}\r\n", asking(APP, "PUT", "")));
    assert_eq!((response.status, allowed(&response)), (204, Some(APP)), "no preflight: it has no path");
    assert!(response.header("allow").is_some());
}
