//! Façades: another protocol, the same sign-in.

use serde_json::json;

use super::*;

/// A façade as an operator writes it.
fn facade(yaml: Value) -> config::Facade {
    serde_json::from_value(yaml).unwrap()
}

/// The façade `/api/login.php`, with these keys besides.
fn written(keys: Value) -> config::Facade {
    let mut written = json!({
        "path": "/api/login.php",
        "methods": ["GET", "POST"],
        "code": { "query": "code" },
        "answer": { "sessionId": "{access_token}", "left": "{expires_in}", "ok": true },
        "error": { "why": "{code}", "text": "{message}" },
    });
    written.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    facade(written)
}

async fn harness(replies: impl IntoIterator<Item = Reply>, keys: Value) -> Harness {
    Harness::with(replies, |setup| setup.login.facades = vec![written(keys)]).await
}

fn get(path: &str) -> Request<&'static str> {
    request("GET", path, None, "")
}

#[tokio::test]
async fn code_is_read_where_the_facade_says() {
    let json_type = Some("application/json");
    let form = Some("application/x-www-form-urlencoded");
    let with_header = |method: &str| {
        let mut request = request(method, "/api/login.php", None, "");
        request.headers_mut().insert("x-wx-code", CODE.parse().unwrap());
        request
    };
    let query = format!("/api/login.php?x=1&c%6fde={CODE}&username=a&username=b");
    let json_body = json!({ "js_code": CODE, "code": "other" }).to_string();
    let form_body = format!("js_code={CODE}");
    let by_field = json!({ "code": { "field": "js_code" }, "methods": ["POST"] });
    let by_header = json!({ "code": { "header": "X-WX-Code" } });
    for (keys, request) in [
        (json!({}), get(&query)),
        (json!({}), request("POST", &query, Some("text/plain"), "anything")),
        (by_header.clone(), with_header("GET")),
        (by_header, with_header("POST")),
        (by_field.clone(), request("POST", "/api/login.php", json_type, &json_body)),
        (by_field, request("POST", "/api/login.php", form, &form_body)),
    ] {
        let harness = harness([Reply::json(SUCCESS)], keys.clone()).await;

        let answer = harness.send(request).await;

        assert_eq!(answer.outcome, "ok", "{keys}");
        let document = json_of(&answer);
        let token = document["sessionId"].as_str().unwrap();
        let claims = harness.login.deps.tokens.verify(token, harness.clock.now()).unwrap();
        assert_eq!(claims.identity().subject.openid.as_str(), OPENID);
        assert!((7199..=7200).contains(&document["left"].as_u64().unwrap()), "{document}");
        assert_eq!(document["ok"], true);
        assert_eq!(answer.app.as_deref(), Some("shop"));
        assert_eq!(answer.identity.as_ref(), Some(claims.identity()));
        assert_eq!(harness.logins("ok"), 1);
        for (name, value) in [("cache-control", "no-store"), ("content-type", "application/json")] {
            assert_eq!(header(&answer, name), Some(value));
        }
        assert_eq!(header(&answer, "set-cookie"), None);
    }
}

#[tokio::test]
async fn value_that_is_not_known_is_null_and_nothing_in_a_text() {
    let answer = json!({ "u": "{unionid}", "t": "[{unionid}]", "user": "{user}", "r": "{refresh_token}", "token": "{access_token}" });
    let unionid = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
    let with_unionid = SUCCESS.replace('}', &format!(r#","unionid":"{unionid}"}}"#));
    for (reply, u, t) in [
        (SUCCESS.to_owned(), Value::Null, "[]".to_owned()),
        (with_unionid, json!(unionid), format!("[{unionid}]")),
    ] {
        let harness = harness([Reply::json(&reply)], json!({ "answer": answer })).await;

        let document = json_of(&harness.send(get(&format!("/api/login.php?code={CODE}"))).await);

        assert_eq!((&document["u"], &document["t"], &document["user"]), (&u, &json!(t), &Value::Null));
        assert!(RefreshToken::parse(document["r"].as_str().unwrap()).is_ok());
    }
}

#[tokio::test]
async fn request_without_one_good_code_is_malformed_and_not_counted() {
    let header = json!({ "code": { "header": "X-WX-Code" } });
    let with = |values: &[&str]| {
        let mut request = get("/api/login.php?code=x");
        for value in values {
            request.headers_mut().append("x-wx-code", value.parse().unwrap());
        }
        request
    };
    let table = vec![
        (json!({}), get("/api/login.php")),
        (json!({}), get("/api/login.php?code=")),
        (json!({}), get("/api/login.php?Code=x")),
        (json!({}), get("/api/login.php?code=x&code=x")),
        (json!({}), get("/api/login.php?code=x&c%6fde=y")),
        (json!({}), get("/api/login.php?code=x%26secret%3dy")),
        (json!({}), get("/api/login.php?code=x+y")),
        (header.clone(), with(&[])),
        (header.clone(), with(&["x", "x"])),
        (header, with(&["x y"])),
    ];
    for (keys, request) in table {
        let harness = harness([Reply::json(SUCCESS)], keys).await;
        let uri = request.uri().clone();

        let answer = harness.send(request).await;

        assert_eq!((answer.outcome, answer.response.status().as_u16()), ("request_malformed", 400), "{uri}");
        assert_eq!(json_of(&answer)["why"], "request_malformed");
        assert_eq!(harness.fake.requests().len(), 0);
        assert!(!harness.is_slowed());
    }
}

#[tokio::test]
async fn error_has_the_shape_and_the_status_of_the_facade() {
    let errcode = |errcode: i64| Reply::json(&format!(r#"{{"errcode":{errcode}}}"#));
    for (status, reply, seen, meant, code, retry_after, challenge) in [
        (json!(null), errcode(40029), 401, 401, "code_invalid", None, Some("Bearer")),
        (json!(200), errcode(40029), 200, 401, "code_invalid", None, None),
        (json!(403), errcode(40029), 403, 401, "code_invalid", None, None),
        (json!(401), errcode(40226), 401, 403, "user_blocked", None, Some("Bearer")),
        (json!(200), errcode(45011), 200, 429, "throttled", Some("60"), None),
        (json!(null), errcode(-1), 503, 503, "wechat_busy", Some("1"), None),
    ] {
        let error =
            json!({ "why": "{code}", "text": "{message}", "status": "{status}", "id": "{request_id}" });
        let harness = harness([reply], json!({ "status": status, "error": error })).await;

        let answer = harness.send(get(&format!("/api/login.php?code={CODE}"))).await;

        let document = json_of(&answer);
        assert_eq!((answer.response.status().as_u16(), answer.meant_status().as_u16()), (seen, meant));
        assert_eq!((answer.outcome, &document["why"]), (code, &json!(code)));
        assert_eq!((&document["status"], &document["id"]), (&json!(meant), &json!("req-1")));
        assert!(!document["text"].as_str().unwrap().is_empty());
        assert_eq!(header(&answer, "retry-after"), retry_after);
        assert_eq!(header(&answer, "www-authenticate"), challenge);
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(harness.logins(code), 1);
    }
}

#[tokio::test]
async fn facade_and_login_share_limits_and_remembered_codes() {
    let harness = Harness::with([Reply::json(r#"{"errcode":40029}"#)], |setup| {
        setup.throttle.login = few_failures(3);
        setup.login.facades = vec![written(json!({ "status": 200 }))];
    })
    .await;

    let bad = harness.send(get("/api/login.php?code=a")).await;
    let again = harness.login("a").await;
    harness.login("b").await;
    let throttled = harness.send(get("/api/login.php?code=c")).await;

    assert_eq!(
        (bad.outcome, again.outcome, throttled.outcome),
        ("code_invalid", "code_invalid", "throttled")
    );
    assert_eq!(harness.fake.requests().len(), 2, "the first code was asked about once");
    assert_eq!(header(&throttled, "retry-after"), Some("10"));
}

#[tokio::test]
async fn path_of_a_facade_is_its_own_alone() {
    let harness = harness([], json!({})).await;
    for (path, is_own) in [
        ("/api/login.php", true),
        ("/api/login.php/", false),
        ("/api/login.php/x", false),
        ("/api/login", false),
        ("/api/Login.php", false),
        ("/api", false),
    ] {
        let expected = is_own.then_some(Endpoint::Facade(0));
        assert_eq!(harness.login.endpoint(path), expected, "{path}");
    }
    let ambiguous = |path| crate::path::AmbiguousPath::parse(path).unwrap();
    assert!(harness.login.is_in_a_reading_of(&ambiguous("/api/login.php;x=1")));
    assert!(harness.login.is_in_a_reading_of(&ambiguous("/api//login.php")));
    assert!(!harness.login.is_in_a_reading_of(&ambiguous("/api/other.php;x=1")));
}

#[test]
fn every_answer_to_a_facade_that_judged_a_code_is_in_the_audit_log() {
    use crate::telemetry::audit_log::AuditEvent;

    for (status, outcome, expected) in [
        (200, "ok", Some(AuditEvent::Login)),
        (401, "code_invalid", Some(AuditEvent::Login)),
        (405, "method_not_allowed", None),
        (400, "request_malformed", None),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let event = Endpoint::Facade(3).audit_event(&http::Method::GET, status, outcome, outcome == "ok");
        assert_eq!(event, expected, "{outcome}");
    }
}

/// What is said about façades beside a route `/shop` and two mini programs and a website.
fn findings(facades: Vec<config::Facade>) -> Vec<String> {
    let login = config::Login { facades, ..Default::default() };
    let setup = Setup {
        apps: vec!["shop", "other"],
        browser_apps: vec![("site", AppKind::Website, config::BrowserCheck::Strict)],
        ..Setup::default()
    };
    let route = json!({ "path": "/shop/", "access": "public", "upstream": "backend" });
    let routes = [serde_json::from_value(route).unwrap()];
    let mut findings = Findings::default();
    SignInSettings::build(&login, &apps(&setup), &routes, &SystemEntropy, &mut findings);
    let said = findings.iter().filter(|finding| finding.path.starts_with("login.facades"));
    said.map(ToString::to_string).collect()
}

#[test]
fn every_mistake_in_a_facade_is_found_at_its_key() {
    let table: Vec<(Value, &[&str])> = vec![
        (json!({}), &[]),
        (json!({ "path": "/login/" }), &[]),
        (json!({ "path": "/shop/login" }), &[]),
        (json!({ "path": "/" }), &["path: `/` cannot be the path of a façade"]),
        (json!({ "path": "login" }), &["path: `login` cannot be the path of a façade"]),
        (json!({ "path": "/a//b" }), &["path: `/a//b` cannot be the path of a façade"]),
        (json!({ "path": "/a/../b" }), &["path: `/a/../b` cannot be the path of a façade"]),
        (json!({ "path": "/a/*" }), &["path: `/a/*` cannot be the path of a façade"]),
        (json!({ "path": "/a%41" }), &["path: `/a%41` cannot be the path of a façade"]),
        (json!({ "path": "/auth" }), &["path: `/auth` is a path of the gateway's own endpoints"]),
        (json!({ "path": "/auth/x" }), &["path: `/auth/x` is a path of the gateway's own endpoints"]),
        (json!({ "path": "/.well-known/login" }), &["path: `/.well-known/login` is reserved by RFC 8615"]),
        (json!({ "path": "/shop" }), &["path: route `/shop/` has this path too"]),
        (json!({ "methods": ["HEAD"] }), &["methods[0]: no client signs in with `HEAD`"]),
        (json!({ "methods": ["GET", "get"] }), &["methods[1]: no client signs in with `get`"]),
        (json!({ "methods": ["GET", "GET"] }), &["methods[1]: `GET` is listed twice"]),
        (json!({ "app": "shopp" }), &["app: app `shopp` is not defined; did you mean `shop`?"]),
        (json!({ "app": "site" }), &["app: app `site` is a `website`"]),
        (json!({ "app": null }), &["app: the app must be named"]),
        (json!({ "code": {} }), &["code: the code is in one place"]),
        (json!({ "code": { "query": "a", "header": "X-A" } }), &["code: the code is in one place"]),
        (json!({ "code": { "query": "" } }), &["code: the name is empty"]),
        (json!({ "code": { "field": "code" } }), &["code: a GET has no body"]),
        (
            json!({ "code": { "header": "Accept" } }),
            &["code.header: `Accept` is not a header that can have a code"],
        ),
        (
            json!({ "code": { "header": "a b" } }),
            &["code.header: `a b` is not a header that can have a code"],
        ),
        (
            json!({ "answer": { "a": "{acess_token}" } }),
            &[
                "answer.a: `{acess_token}` stands for no value here; did you mean `access_token`?",
                "answer: the client gets no access token",
            ],
        ),
        (
            json!({ "answer": ["{access_token}", "{code} {user}"] }),
            &["answer[1]: `{code}` stands for no value here"],
        ),
        (json!({ "error": "{openid}" }), &["error: `{openid}` stands for no value here"]),
        (json!({ "status": 302 }), &["status: `302` is not the status of an error"]),
        (json!({ "status": 204 }), &["status: `204` is not the status of an error"]),
    ];
    for (keys, expected) in table {
        let mut all = json!({ "app": "shop" });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());

        let found = findings(vec![written(all)]);

        assert_eq!(found.len(), expected.len(), "{keys}: {found:?}");
        for expected in expected {
            let expected = format!("login.facades[0].{expected}");
            assert!(found.iter().any(|said| said.starts_with(&expected)), "{keys}: {found:?}");
        }
    }
}

#[test]
fn two_facades_have_two_paths() {
    let one = || written(json!({ "app": "shop" }));
    let slash = written(json!({ "app": "shop", "path": "/api/login.php/" }));

    for other in [one(), slash] {
        let found = findings(vec![one(), other]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("login.facades[1].path: another façade has the path"), "{found:?}");
    }
    let many = (0..33).map(|number| written(json!({ "app": "shop", "path": format!("/{number}") })));
    assert!(findings(many.collect())[0].starts_with("login.facades: there are more than 32"));
}
