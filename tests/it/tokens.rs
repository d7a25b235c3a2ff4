//! Tokens at the gateway's door: where they may stand, which are believed, and what is left of them
//! behind it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use menshen::clock::Clock as _;
use menshen::config::KeyAlgorithm;
use serde_json::{Value, json};

use crate::common::{APPID, Backend, NO_THROTTLE, ROUTES, Reply, Response, Tally, World};

/// Takes real tokens of a gateway apart and puts forged ones together.
struct Forger {
    header: Value,
    claims: Value,
    token: String,
    key: EncodingKey,
}

impl Forger {
    fn of(world: &World) -> Self {
        let token = world.sign_in("alice");
        let part = |at: usize| {
            let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let pem = std::fs::read(world.data.path().join("state/signing-key.pem")).unwrap();
        let (header, claims) = (part(0), part(1));
        Self { header, claims, token, key: EncodingKey::from_ec_pem(&pem).unwrap() }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        Self::sign_with(header, claims, &self.key, Algorithm::ES256)
    }

    fn sign_with(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
        let message = Self::message(header, claims);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn message(header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}", encode(header), encode(claims))
    }

    fn header_with(&self, name: &str, value: Value) -> Value {
        with(&self.header, name, value)
    }

    fn claims_with(&self, name: &str, value: Value) -> Value {
        with(&self.claims, name, value)
    }
}

fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    if value == json!("[absent]") {
        object.as_object_mut().unwrap().remove(name);
    } else {
        object[name] = value;
    }
    object
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The client learns that its token is no good; which check it failed, the metric and the access
/// log alone.
#[track_caller]
fn assert_refused(world: &World, response: &Response, reason: &str) {
    assert_eq!(response.status, 401, "{}", response.text());
    let (code, challenge) =
        if reason == "no_token" { (reason, "") } else { ("invalid_token", r#", error="invalid_token""#) };
    assert_eq!(response.json()["code"], code);
    assert_eq!(response.header("www-authenticate"), Some(&*format!(r#"Bearer realm="menshen"{challenge}"#)));
    let metric = format!(r#"menshen_refused_requests_total{{reason="{reason}"}}"#);
    assert!(world.metric(&metric) > 0.0, "{metric} has not moved");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

#[test]
fn a_token_put_together_again_as_it_was_passes() {
    // Else the tables below would prove nothing.
    let world = World::new();
    let forger = Forger::of(&world);

    assert_eq!(world.get("/x", &bearer(&forger.token)).status, 200);
    assert_eq!(world.get("/x", &bearer(&forger.sign(&forger.header, &forger.claims))).status, 200);
}

#[test]
fn a_forged_token_never_reaches_the_backend() {
    let world = World::new();
    let forger = Forger::of(&world);
    let Forger { header, claims, token, .. } = &forger;
    let (message, signature) = token.rsplit_once('.').unwrap();
    let jwks = world.get("/.well-known/jwks.json", "").body;
    let stranger = menshen::token::generate_key(KeyAlgorithm::ES256).unwrap();
    let stranger =
        EncodingKey::from_ec_pem(secrecy::ExposeSecret::expose_secret(&stranger.pem).as_bytes()).unwrap();
    let by_stranger = |header: &Value| Forger::sign_with(header, claims, &stranger, Algorithm::ES256);
    let hmac = |secret: &[u8]| {
        let header = forger.header_with("alg", json!("HS256"));
        Forger::sign_with(&header, claims, &EncodingKey::from_secret(secret), Algorithm::HS256)
    };
    let unsigned = |alg: &str| Forger::message(&forger.header_with("alg", json!(alg)), claims);
    let signed_header = |name: &str, value: Value| forger.sign(&forger.header_with(name, value), claims);
    let mut tally = Tally::default();
    let mut set: Value = serde_json::from_slice(&jwks).unwrap();
    let jwk = set["keys"][0].take();

    for (name, forged) in [
        ("none", format!("{}.", unsigned("none"))),
        ("None", format!("{}.{signature}", unsigned("None"))),
        ("two parts", unsigned("none")),
        ("no signature", format!("{message}.")),
        ("hs256 by the jwks", hmac(&jwks)),
        ("hs256 by the jwk", hmac(jwk.to_string().as_bytes())),
        ("hs256 by x", hmac(&URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap())),
        ("hs256 by nothing", hmac(b"")),
        ("another key of the same kid", by_stranger(header)),
        ("another key, brought along", by_stranger(&forger.header_with("jwk", jwk))),
        ("our key, with a jku", signed_header("jku", json!("http://127.0.0.1/jwks"))),
        ("our key, with crit", signed_header("crit", json!(["x"]))),
        ("our key, another typ", signed_header("typ", json!("JWT"))),
        ("no kid", signed_header("kid", json!("[absent]"))),
        ("kid of a path", signed_header("kid", json!("../../dev/null"))),
        ("kid with a NUL", signed_header("kid", json!("\u{0}"))),
        ("kid of sql", signed_header("kid", json!("x' OR '1'='1"))),
        ("kid of a list", signed_header("kid", json!([header["kid"]]))),
        ("kid empty", signed_header("kid", json!(""))),
        (
            "signature of another message",
            format!(
                "{}.{signature}",
                Forger::message(header, &forger.claims_with("openid", json!("o-victim")))
            ),
        ),
        ("signature cut", token[..token.len() - 4].to_owned()),
        ("padding", format!("{token}=")),
        ("a dot more", format!("{token}.")),
        ("five parts", format!("{token}.x.y")),
        (
            "standard base64",
            message.split('.').map(|_| STANDARD.encode("{}")).collect::<Vec<_>>().join(".") + "." + signature,
        ),
        ("junk", "junk".to_owned()),
        ("8 KiB and more", format!("{}.{}.{}", "a".repeat(4000), "b".repeat(4000), "c".repeat(1000))),
        ("deep", format!("{}.{}.x", URL_SAFE_NO_PAD.encode("[".repeat(3000)), URL_SAFE_NO_PAD.encode("{}"))),
    ] {
        let response = world.get("/x", &bearer(&forged));

        assert_eq!(response.status, 401, "{name}");
        assert_eq!(
            response.header("www-authenticate"),
            Some(r#"Bearer realm="menshen", error="invalid_token""#),
            "{name}"
        );
        tally.add(response.status, 0);
        // Neither is it remembered as good.
        assert_eq!(world.get("/x", &bearer(&forged)).status, 401, "{name}");
    }
    assert_eq!(world.backend.count(), 0);
    tally.report("tokens: forged");
    assert_eq!(world.metric(r#"menshen_token_verifications_total{outcome="valid"}"#), 0.0);
}

#[test]
fn claims_signed_by_our_own_key_must_still_be_ours_and_of_now() {
    let world = World::new();
    let forger = Forger::of(&world);
    let now = world.clock.now().seconds();
    let mut tally = Tally::default();

    for (name, value, code) in [
        ("iss", json!("another-gateway"), "wrong_issuer"),
        ("iss", json!("[absent]"), "invalid_claims"),
        ("aud", json!("somebody-else"), "wrong_audience"),
        ("aud", json!(["menshen", "somebody-else"]), "invalid_claims"),
        ("exp", json!(-1), "invalid_claims"),
        ("exp", json!("9999999999"), "invalid_claims"),
        ("exp", json!(null), "invalid_claims"),
        ("exp", json!("[absent]"), "invalid_claims"),
        ("exp", json!(253_402_300_800_u64), "invalid_claims"),
        ("nbf", json!(now + 60), "not_yet_valid"),
        ("nbf", json!("x"), "invalid_claims"),
        ("iat", json!(now + 60), "not_yet_valid"),
        ("iat", json!("[absent]"), "invalid_claims"),
        ("sub", json!("[absent]"), "invalid_claims"),
        ("sub", json!(format!("{APPID}:o-victim")), "invalid_claims"),
        ("openid", json!("o-victim"), "invalid_claims"),
        ("openid", json!("o\r\nX-Role: admin"), "invalid_claims"),
        ("appid", json!("wxe000000000000002"), "invalid_claims"),
    ] {
        let token = forger.sign(&forger.header, &forger.claims_with(name, value.clone()));

        let response = world.get("/x", &bearer(&token));
        println!("{name}: {value}");
        assert_refused(&world, &response, code);
        tally.add(response.status, 0);
    }
    tally.report("tokens: hostile claims, signed by our key");
    for exp in [now, now - 1] {
        let mut claims = forger.claims_with("exp", json!(exp));
        (claims["iat"], claims["nbf"]) = (json!(now - 100), json!(now - 100));
        assert_refused(&world, &world.get("/x", &bearer(&forger.sign(&forger.header, &claims))), "expired");
    }
    let mut claims = forger.claims_with("appid", json!("wxe000000000000002"));
    claims["sub"] = json!(format!("wxe000000000000002:{}", claims["openid"].as_str().unwrap()));
    assert_refused(&world, &world.get("/x", &bearer(&forger.sign(&forger.header, &claims))), "unknown_app");
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_token_ends_when_it_says_also_where_it_is_remembered() {
    let world = World::new();
    let token = world.sign_in("alice");
    assert_eq!(world.get("/x", &bearer(&token)).status, 200);

    world.clock.advance(Duration::from_secs(7199 - 1));
    assert_eq!(world.get("/x", &bearer(&token)).status, 200);
    world.clock.advance(Duration::from_secs(2));

    assert_refused(&world, &world.get("/x", &bearer(&token)), "expired");
    assert_refused(&world, &world.get("/opt", &bearer(&token)), "expired");
    assert_eq!(world.get("/pub", &bearer(&token)).status, 200, "a public route looks at no token");
}

#[test]
fn a_token_as_large_as_a_header_is_no_way_to_hurt() {
    let world = World::new();

    let response = world.get("/x", &bearer(&"a".repeat(20_000)));
    assert_refused(&world, &response, "malformed_token");
    let response = world.get("/x", &bearer(&"a".repeat(1 << 20)));
    assert!(matches!(response.status, 400 | 431), "{}", response.status);
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn bytes_that_are_no_text_are_no_token() {
    let world = World::new();
    let token = world.sign_in("alice");
    for value in [&b"Bearer \xff\xfe"[..], b"Bearer \x80", format!("Bearer {token}\u{a0}").as_bytes()] {
        let mut request = b"GET /x HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: ".to_vec();
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n\r\n");

        assert!(matches!(world.connect().send(&request).status, 400 | 401));
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn two_tokens_identify_no_caller() {
    let world = World::with(&format!(
        "tokens: {{ sources: {{ header: X-Token, cookie: sid }} }}\n{ROUTES}{NO_THROTTLE}"
    ));
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));

    for headers in [
        format!("Authorization: Bearer {alice}\r\nAuthorization: Bearer {bob}\r\n"),
        format!("Authorization: Bearer {alice}\r\nAuthorization: Bearer junk\r\n"),
        format!("Authorization: Bearer junk\r\nAuthorization: Bearer {alice}\r\n"),
        format!("Authorization: Bearer {alice}\r\nX-Token: {bob}\r\n"),
        format!("Authorization: Bearer {alice}\r\nX-Token: junk\r\n"),
        format!("X-Token: {alice}\r\nX-Token: {bob}\r\n"),
        format!("X-Token: {alice}\r\nCookie: sid={bob}\r\n"),
        format!("Cookie: sid={alice}; sid={bob}\r\n"),
        format!("Cookie: sid={alice}\r\nCookie: a=b; sid={bob}\r\n"),
    ] {
        for path in ["/x", "/opt"] {
            assert_refused(&world, &world.get(path, &headers), "several_tokens");
        }
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_token_counts_only_where_the_configuration_says_and_goes_no_further() {
    let world = World::with(&format!(
        "tokens: {{ sources: {{ bearer: true, raw_authorization: true, header: X-Token, cookie: sid, websocket_query: token }} }}\n\
         {ROUTES}  - {{ name: ws, path: /ws, access: authenticated, upstream: backend, websocket: true }}
  - {{ name: keep, path: /keep, access: authenticated, upstream: backend, forward_token: true }}\n{NO_THROTTLE}"
    ));
    let strict = World::new();
    let token = world.sign_in("alice");
    let strangers_token = strict.sign_in("alice");

    for write in [
        (|token| format!("Authorization: Bearer {token}\r\n")) as fn(&str) -> String,
        |token| format!("authorization: bearer   {token}\r\n"),
        |token| format!("Authorization: {token}\r\n"),
        |token| format!("x-token: {token}\r\n"),
        |token| format!("Cookie: a=b; sid={token}; c=d\r\n"),
        |token| format!("Cookie: sid={token}\r\n"),
        |token| format!("Authorization: Bearer {token}\r\nX-Token: {token}\r\nCookie: sid={token}\r\n"),
    ] {
        let headers = write(&token);
        assert_eq!(world.get("/x", &headers).status, 200, "{headers}");
        assert!(!world.backend.last().head.contains(&token), "{headers}");
        assert_eq!(world.get("/keep", &headers).status, 200);
        assert!(world.backend.last().head.contains(&token), "{headers}");
    }
    // Nothing but `Authorization: Bearer` is read where nothing else is configured.
    for headers in [
        format!("Authorization: {strangers_token}\r\n"),
        format!("X-Token: {strangers_token}\r\n"),
        format!("Cookie: sid={strangers_token}\r\n"),
        format!("Authorization: Basic {strangers_token}\r\n"),
    ] {
        assert_refused(&strict, &strict.get("/x", &headers), "no_token");
    }
    // The query is read on an opening handshake only, on a route that lets it through.
    assert_refused(&world, &world.get(&format!("/x?token={token}"), ""), "no_token");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(world.get(&format!("/x?token={token}"), upgrade).status, 401);
    assert_refused(&world, &world.get(&format!("/ws?token={token}"), ""), "no_token");
    assert_refused(&strict, &strict.get(&format!("/x?token={strangers_token}"), upgrade), "no_token");
}

#[test]
fn a_cookie_of_the_gateways_own_reaches_no_backend_whatever_the_route_lets_through() {
    let world = World::with(&format!(
        "tokens: {{ sources: {{ bearer: true, cookie: sid }} }}\n{ROUTES}  \
         - {{ name: keep, path: /keep, access: authenticated, upstream: backend, forward_token: true }}\n{NO_THROTTLE}"
    ));
    let token = world.sign_in("alice");
    let cookie = format!("Cookie: a=1; __Host-menshen-browser=b; sid={token}; c=3\r\n");

    for (path, headers, left) in [
        ("/x", &cookie, "a=1; c=3"),
        ("/opt", &cookie, "a=1; c=3"),
        ("/keep", &cookie, &*format!("a=1; sid={token}; c=3")),
        ("/pub", &"Cookie: a=1;__host-Menshen = s; c=3\r\n".to_owned(), "a=1; c=3"),
    ] {
        assert_eq!(world.get(path, headers).status, 200, "{path}");
        assert_eq!(world.backend.last().header("cookie"), [left], "{path}");
    }
}

#[test]
fn a_backend_sets_no_cookie_of_the_gateways_own() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1; Path=/\r\n\
        Set-Cookie: __Host-menshen=planted; Path=/; Secure\r\nset-cookie: __HOST-Menshen-Browser = x; Secure\r\n\
        Set-Cookie: =__Host-menshen=planted; Path=/; Secure\r\nSet-Cookie: b=2; Comment=__Host-menshen\r\n\r\n";
    let backend = Backend::with(move |_| Reply::Bytes(answer.into()));
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));
    for (path, headers) in [("/pub", String::new()), ("/x", world.bearer("alice"))] {
        let response = world.get(path, &headers);

        let set = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let set: Vec<&str> = set.map(|(_, value)| value.as_str()).collect();
        assert_eq!(set, ["a=1; Path=/", "b=2; Comment=__Host-menshen"], "{path}");
    }
}

#[test]
fn a_made_up_session_cookie_is_no_session_and_is_refused_together_with_a_token() {
    let world = World::new();
    let made_up = format!("Cookie: __Host-menshen={}\r\n", "A".repeat(64));
    let beside_a_token = format!("{made_up}{}", world.bearer("alice"));

    assert_refused(&world, &world.get("/x", &made_up), "session_ended");
    assert_refused(&world, &world.get("/x", "Cookie: __Host-menshen=x\r\n"), "malformed_token");
    for path in ["/x", "/opt"] {
        assert_refused(&world, &world.get(path, &beside_a_token), "several_tokens");
    }
    assert_eq!(world.backend.count(), 0);
    // A browser goes on sending a cookie whose session has ended, and no page can make it stop.
    for (path, cookie) in [("/pub", &*made_up), ("/opt", &made_up), ("/opt", "Cookie: __Host-menshen=x\r\n")]
    {
        assert_eq!(world.get(path, cookie).status, 200, "{path}");
        assert!(world.backend.last().folded("X-WX-OPENID").is_empty());
        assert!(world.backend.last().header("cookie").is_empty());
    }
}

#[test]
fn a_page_of_another_site_does_nothing_with_a_cookie_unless_the_route_allows_it() {
    let world = World::with(&format!(
        "tokens: {{ sources: {{ bearer: true, cookie: sid }} }}\n{ROUTES}  \
         - {{ name: open, path: /open, access: authenticated, upstream: backend, allow_cross_site: true }}\n  \
         - {{ name: code, path: /code, access: authenticated, upstream: backend, reject: code_200 }}\n{NO_THROTTLE}"
    ));
    let token = world.sign_in("alice");
    let post = |path: &str, headers: &str| {
        world.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{headers}\r\n"
        ))
    };
    let cookie = format!("Cookie: sid={token}\r\n");
    let foreign = format!("{cookie}Origin: https://evil.test\r\n");

    for path in ["/x", "/opt"] {
        let refused = post(path, &foreign);
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("cross_site")), "{path}");
        assert_eq!(post(path, &format!("{cookie}Sec-Fetch-Site: same-site\r\n")).status, 403, "{path}");
    }
    let refused = post("/code", &foreign);
    assert_eq!((refused.status, &refused.json()["code"]), (200, &json!(403)));
    assert_eq!(world.backend.count(), 0);
    for (path, headers) in [
        ("/x", &format!("{cookie}Origin: https://gateway.test\r\n")),
        ("/x", &format!("{cookie}Sec-Fetch-Site: same-origin\r\n")),
        ("/x", &cookie),
        ("/x", &format!("Authorization: Bearer {token}\r\nOrigin: https://evil.test\r\n")),
        ("/open", &foreign),
        ("/pub", &foreign),
    ] {
        assert_eq!(post(path, headers).status, 200, "{path} {headers}");
    }
    assert_eq!(world.get("/x", &foreign).status, 200, "to read");
}

#[test]
fn a_websocket_may_bring_its_token_in_the_query_and_the_backend_does_not_see_it() {
    let backend = Backend::with(|_| {
        Reply::Take(Box::new(|mut stream| {
            _ = stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
            );
        }))
    });
    let world = World::with_backend(
        backend,
        &format!(
            "tokens: {{ sources: {{ websocket_query: token }} }}\nroutes:\n  - {{ path: /, access: authenticated, upstream: backend, websocket: true }}\n{NO_THROTTLE}"
        ),
    );
    let token = world.sign_in("alice");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    let mut connection = world.connect();
    connection.write(
        format!("GET /ws?room=1&token={token}&x=y HTTP/1.1\r\nHost: gateway.test\r\n{upgrade}\r\n")
            .as_bytes(),
    );
    let response = connection.read_response(false);

    assert_eq!(response.status, 101, "{}", response.text());
    assert_eq!(connection.read_exact(5), b"hello");
    assert_eq!(world.backend.last().target(), "/ws?room=1&x=y");
    assert!(!world.backend.last().head.contains(&token));
    for query in
        ["token=junk", &format!("token={token}&token={token}"), &format!("token={token}&%74oken=x"), "token="]
    {
        assert_eq!(world.get(&format!("/ws?{query}"), upgrade).status, 401, "{query}");
    }
    assert_eq!(world.get("/ws?x=y", upgrade).status, 401);
    assert_eq!(world.backend.count(), 1);
}

#[test]
fn an_optional_route_accepts_no_token_or_a_good_one() {
    let world = World::new();
    let token = world.sign_in("alice");

    assert_eq!(world.get("/opt", "").status, 200);
    assert!(world.backend.last().folded("X-WX-OPENID").is_empty());
    assert!(world.backend.last().folded("X-WX-SOURCE").is_empty());
    assert_eq!(world.get("/opt", &bearer(&token)).status, 200);
    assert_eq!(world.backend.last().folded("X-WX-OPENID"), [world.emulator.openid(APPID, "alice")]);
    for junk in ["junk", &format!("{token}x"), &token[1..]] {
        assert_eq!(world.get("/opt", &bearer(junk)).status, 401, "{junk}");
    }
    assert_eq!(world.backend.count(), 2);
    assert_eq!(world.get("/opt", &bearer("")).status, 200, "an empty token is none");
}

#[test]
fn a_route_that_permits_one_app_refuses_another_whatever_is_remembered() {
    let world = World::with(&format!(
        "
apps:
  one: {{ kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }}
  two: {{ kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }}
routes:
  - {{ path: /, access: authenticated, upstream: backend }}
  - {{ path: /one, access: authenticated, upstream: backend, apps: [one] }}
  - {{ path: /two, access: authenticated, upstream: backend, apps: [two] }}
  - {{ path: /opt2, access: optional, upstream: backend, apps: [two] }}
  - {{ path: /wafer2, access: authenticated, upstream: backend, apps: [two], reject: code_200 }}
{NO_THROTTLE}"
    ));
    let sign_in = |app: &str, appid: &str| {
        let code = world.emulator.wx_login(appid, "alice").unwrap();
        let response = world.login_with(&format!(r#"{{"code":"{code}","app":"{app}"}}"#));
        bearer(response.json()["access_token"].as_str().unwrap())
    };
    let (one, two) = (sign_in("one", APPID), sign_in("two", "wxe000000000000002"));
    let statuses = |token: &str| ["/", "/one", "/two", "/opt2"].map(|path| world.get(path, token).status);

    for _ in 0..2 {
        assert_eq!(statuses(&one), [200, 200, 403, 403]);
        assert_eq!(statuses(&two), [200, 403, 200, 200]);
    }
    let refused = world.get("/two", &one);
    assert_eq!(refused.json()["code"], "app_not_admitted");
    let refused = world.get("/wafer2", &one);
    assert_eq!((refused.status, refused.json()["code"].as_u64()), (200, Some(403)));
    // The same person has another openid in each app: neither is ever taken for the other.
    world.get("/", &two);
    assert_eq!(world.backend.last().folded("X-WX-APPID"), ["wxe000000000000002"]);
    assert_eq!(
        world.backend.last().folded("X-WX-OPENID"),
        [world.emulator.openid("wxe000000000000002", "alice")]
    );
}

#[test]
fn clients_that_look_at_bodies_alone_are_refused_in_one() {
    let world = World::with(&format!(
        "
routes:
  - {{ path: /, access: authenticated, upstream: backend, reject: code_200 }}
  - {{ path: /opt, access: optional, upstream: backend, reject: code_200 }}
{NO_THROTTLE}"
    ));
    for (path, headers, reason) in [
        ("/x", "", "no_token"),
        ("/x", "Authorization: Bearer junk\r\n", "invalid_token"),
        ("/opt", "Authorization: Bearer junk\r\n", "invalid_token"),
    ] {
        let response = world.get(path, headers);

        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let document = response.json();
        assert_eq!((document["code"].as_u64(), document["message"].as_str()), (Some(401), Some(reason)));
        assert_eq!(document["request_id"].as_str(), response.header("x-request-id"));
    }
    assert_eq!(world.backend.count(), 0);
    assert_eq!(world.metric(r#"menshen_refused_requests_total{reason="no_token"}"#), 1.0);
}

#[test]
fn a_head_is_refused_as_a_get_is_without_the_body() {
    for reject in ["problem", "code_200"] {
        let world = World::with(&format!(
            "routes:\n  - {{ path: /, access: authenticated, upstream: backend, reject: {reject} }}\n{NO_THROTTLE}"
        ));
        let got = world.get("/x", "");
        let mut connection = world.connect();

        let headed = connection.send(b"HEAD /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n");

        assert_eq!(headed.status, got.status);
        assert_eq!(headed.header("content-type"), got.header("content-type"));
        assert_eq!(headed.header("www-authenticate"), got.header("www-authenticate"));
        // No byte of a body follows: the next answer on the connection is read as one.
        let bearer = world.bearer("alice");
        let next =
            connection.send(format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n").as_bytes());
        assert_eq!(next.status, 200);
    }
}

#[test]
fn every_method_needs_the_token() {
    let world = World::new();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} /x HTTP/1.1\r\nHost: gateway.test\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(world.send(&request).status, 401, "{method}");
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn the_published_keys_verify_tokens_and_say_nothing_else() {
    let world = World::new();
    let token = world.sign_in("alice");

    let response = world.get("/.well-known/jwks.json", "");

    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(response.header("cache-control"), Some("public, max-age=300"));
    let set = response.json();
    let jwk = &set["keys"][0];
    let members: Vec<&str> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["crv", "kty", "x", "y", "kid", "alg", "use"]);
    let key =
        DecodingKey::from_ec_components(jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&["menshen"]);
    validation.set_audience(&["menshen"]);
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
    assert_eq!(claims["openid"], world.emulator.openid(APPID, "alice"));

    let head = world.connect().send(b"HEAD /.well-known/jwks.json HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = world.send(&format!(
            "{method} /.well-known/jwks.json HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(world.backend.count(), 0);
}

/// Writes a fresh key into the folder of the configuration.
fn write_key(folder: &Path, name: &str) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt as _;

    let key = menshen::token::generate_key(KeyAlgorithm::ES256).unwrap();
    let path = folder.join(name);
    let mut file =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(secrecy::ExposeSecret::expose_secret(&key.pem).as_bytes()).unwrap();
    path
}

#[test]
fn keys_rotate_by_reload_and_a_key_removed_ends_its_tokens_at_once() {
    let keys = tempfile::tempdir().unwrap();
    let key = |kid: &str| {
        let file = write_key(keys.path(), kid);
        format!("{{ kid: {kid}, algorithm: ES256, file: '{}' }}", file.display())
    };
    let (old, new) = (key("old"), key("new"));
    let world = World::with(&format!("tokens: {{ keys: [{old}] }}\n{ROUTES}{NO_THROTTLE}"));
    let file = world.data.path().join("menshen.yaml");
    let first = std::fs::read_to_string(&file).unwrap();
    let reload_with = |list: &str| {
        std::fs::write(&file, first.replace(&format!("keys: [{old}]"), &format!("keys: [{list}]"))).unwrap();
        world.gateway().reload().unwrap_or_else(|report| panic!("{report}"));
    };
    let kids = || -> Vec<String> {
        let set = world.get("/.well-known/jwks.json", "").json();
        set["keys"].as_array().unwrap().iter().map(|jwk| jwk["kid"].as_str().unwrap().to_owned()).collect()
    };
    let code = world.code("alice");
    let sign_in =
        || world.login_with(&format!(r#"{{"code":"{code}"}}"#)).json()["access_token"].as_str().map(bearer);
    let old_token = sign_in().unwrap();
    assert_eq!(world.get("/x", &old_token).status, 200);

    reload_with(&format!("{new}, {old}"));
    assert_eq!(kids(), ["new", "old"]);
    assert_eq!(world.get("/x", &old_token).status, 200, "both keys verify");
    let new_token = world.bearer("bob");
    assert_eq!(world.get("/x", &new_token).status, 200);

    reload_with(&new);
    assert_eq!(kids(), ["new"]);
    assert_refused(&world, &world.get("/x", &old_token), "unknown_key");
    assert_refused(&world, &world.get("/opt", &old_token), "unknown_key");
    assert_eq!(world.get("/x", &new_token).status, 200);
    // A login remembered from before hands out no token that is refused everywhere: its code is
    // spent.
    let again = sign_in().unwrap();
    assert_eq!(world.get("/x", &again).status, 200);
    assert_eq!(world.backend.last().folded("X-WX-OPENID"), [world.emulator.openid(APPID, "alice")]);
    assert_eq!(world.exchanges(), 2, "alice's and bob's");
}
