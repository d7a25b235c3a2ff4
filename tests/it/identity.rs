//! What the backend learns about the caller: exactly what the gateway knows, whatever the client
//! sends.
//!
//! The rows A1 to A16 of the attack suites. Each forged header is sent in every spelling that a
//! CGI-style backend would read as a managed name; the backend here reads names as such a backend
//! does.

pub mod spelling;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use menshen::emulator::{Effect, InjectedFault};
use serde_json::json;

use self::spelling::{CLOUD_RUN, OTHERS, VICTIM, aliases, plain};
use crate::common::http2::{self, Http2};
use crate::common::{APPID, Connection, Recorded, Response, Tally, World, fold, install_crypto};

pub const GENEROUS: &str = "max_header: 1MiB, max_header_fields: 240";
pub const LISTENERS: &str = "
listeners:
  - { address: 127.0.0.1:0, h2c: true }
";
/// Every name is the operator's own.
const OWN_NAMES: &str = "
identity_headers:
  openid: X-User-Id
  unionid: x-union
  appid: X-App-Id
  user: X-Account-Id
  source: X-Auth-Source
  env: X-Env-Name
  environment: test-1
  remove: [X-Internal-User, X_Legacy.User]
";
pub const CLOUD_RUN_NAMES: &str = "
identity_headers: { environment: test-1 }
";

/// A world, and what its gateway may tell the backend of `alice`.
pub struct Scene {
    pub world: World,
    bearer: String,
    /// Header names with the one value they may have when `alice` is signed in.
    pub injected: Vec<(&'static str, String)>,
    /// Every managed name, those above too.
    pub managed: Vec<&'static str>,
}

/// One kind of request: route, token, and what must become of it.
#[derive(Clone, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub path: &'static str,
    pub authorization: String,
    pub is_identified: bool,
    pub status: u16,
}

impl Scene {
    fn new(header_names: &str, names: &str) -> Self {
        let routes = crate::common::ROUTES;
        let throttle = crate::common::NO_THROTTLE;
        let limits = format!("limits: {{ header_names: {header_names}, {GENEROUS} }}\n");
        Self::of(World::with(&format!("{routes}{throttle}{limits}{LISTENERS}{names}")), names == OWN_NAMES)
    }

    pub fn of(world: World, has_own_names: bool) -> Self {
        let bearer = world.bearer("alice");
        let openid = world.emulator.openid(APPID, "alice");
        let who =
            json!({ "app": "shop", "openid": openid, "user": "user-42", "claims": { "role": "editor" } });
        assert_eq!(world.control("POST /people/bind", &who).status, 200);
        let values = [
            openid,
            world.emulator.unionid(APPID, "alice").unwrap(),
            APPID.to_owned(),
            "user-42".to_owned(),
            "wx_client".to_owned(),
            "test-1".to_owned(),
        ];
        let names = if has_own_names {
            ["X-User-Id", "x-union", "X-App-Id", "X-Account-Id", "X-Auth-Source", "X-Env-Name"]
        } else {
            ["X-WX-OPENID", "X-WX-UNIONID", "X-WX-APPID", "X-WX-USER-ID", "X-WX-SOURCE", "X-WX-ENV"]
        };
        let mut managed = [CLOUD_RUN, OTHERS].concat();
        if has_own_names {
            managed.extend(names);
            managed.extend(["X-Internal-User", "X-Legacy-User"]);
        }
        Self { world, bearer, injected: names.into_iter().zip(values).collect(), managed }
    }

    pub fn kinds(&self) -> Vec<Kind> {
        let kind = |name, path, signs_in: bool, is_identified, status| Kind {
            name,
            path,
            authorization: if signs_in { self.bearer.clone() } else { String::new() },
            is_identified,
            status,
        };
        vec![
            kind("protected with a token", "/x", true, true, 200),
            kind("protected without", "/x", false, false, 401),
            kind("public with a token", "/pub/x", true, false, 200),
            kind("public without", "/pub/x", false, false, 200),
            kind("optional with a token", "/opt/x", true, true, 200),
            kind("optional without", "/opt/x", false, false, 200),
        ]
    }

    /// What is wrong with what the backend was told; nothing, if all is well.
    fn faults(&self, kind: &Kind, received: &Recorded) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in received.lines() {
            let is_managed = self.managed.iter().any(|managed| fold(managed) == fold(name));
            if is_managed && value.contains(VICTIM) {
                faults.push(format!("{name}: {value}"));
            }
        }
        let mut expect = |name: &str, expected: &[&str]| {
            let found = received.folded(name);
            if found != expected {
                faults.push(format!("{name} is {found:?}, not {expected:?}"));
            }
        };
        let origin = ["X-Forwarded-Proto", "X-Request-Id", "traceparent"];
        let is_https = received.folded("X-Forwarded-Proto") == ["https"];
        let known = [
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Real-IP", "127.0.0.1"),
            ("X-Forwarded-Host", "gateway.test"),
            ("X-Forwarded-Port", if is_https { "443" } else { "80" }),
        ];
        for name in &self.managed {
            match self.injected.iter().find(|(injected, _)| injected == name) {
                Some((_, value)) if kind.is_identified => expect(name, &[value]),
                _ if origin.contains(name) || known.iter().any(|(known, _)| known == name) => {}
                _ => expect(name, &[]),
            }
        }
        for (name, value) in known {
            expect(name, &[value]);
        }
        expect("Authorization", &[]);
        for name in ["X-Request-Id", "X-Forwarded-Proto", "traceparent", "Host"] {
            if received.folded(name).len() != 1 {
                faults.push(format!("{name} is {:?}", received.folded(name)));
            }
        }
        faults
    }

    /// How the operator calls the first header, to tell scenes apart.
    fn naming(&self) -> &str {
        self.injected[0].0
    }

    /// Judges one answer; `None` when there was none.
    pub fn judge(&self, kind: &Kind, input: &str, status: u16, echoed: Option<&Recorded>, tally: &mut Tally) {
        tally.add(status, usize::from(echoed.is_some()));
        let Some(received) = echoed else { return };
        let faults = self.faults(kind, received);
        assert!(faults.is_empty(), "{}: {input}: {faults:#?}\n{}", kind.name, received.head);
    }
}

/// One client connection after another: a new one where the last was closed.
pub struct Client<'w> {
    world: &'w World,
    connection: Connection,
}

impl<'w> Client<'w> {
    pub fn new(world: &'w World) -> Self {
        Self { world, connection: world.connect() }
    }

    /// `GET` with header lines before and after `Host`.
    pub fn get(&mut self, kind: &Kind, before: &str, after: &str) -> Option<Response> {
        let Kind { path, authorization, .. } = kind;
        self.send(
            format!("GET {path} HTTP/1.1\r\n{before}Host: gateway.test\r\n{authorization}{after}\r\n")
                .as_bytes(),
        )
    }

    pub fn send(&mut self, request: &[u8]) -> Option<Response> {
        self.connection.write(request);
        let response = self.connection.try_read_response(false);
        let is_over = response.as_ref().is_none_or(|response| response.header("connection") == Some("close"));
        if is_over {
            self.connection = self.world.connect();
        }
        response
    }
}

fn echoed(response: Option<&Response>) -> Option<Recorded> {
    let response = response.filter(|response| response.status == 200)?;
    Some(Recorded { head: response.text(), body: Vec::new() })
}

pub fn status(response: Option<&Response>) -> u16 {
    response.map_or(0, |response| response.status)
}

#[test]
fn a_signed_in_request_reaches_the_backend_with_exactly_the_identity_headers() {
    let world = World::new();
    let bearer = world.bearer("alice");

    let response = world.get("/x?y=1", &bearer);

    assert_eq!(response.status, 200, "{}", response.text());
    let received = world.backend.last();
    assert_eq!(received.request_line(), "GET /x?y=1 HTTP/1.1");
    assert_eq!(received.folded("X-WX-OPENID"), [world.emulator.openid(APPID, "alice")]);
    assert_eq!(received.folded("X-WX-UNIONID"), [world.emulator.unionid(APPID, "alice").unwrap()]);
    assert_eq!(received.folded("X-WX-APPID"), [APPID]);
    assert_eq!(received.folded("X-WX-SOURCE"), ["wx_client"]);
    assert!(received.folded("X-WX-ENV").is_empty());
    assert!(received.folded("Authorization").is_empty());
}

#[test]
fn a_request_without_a_token_never_reaches_the_backend() {
    let world = World::new();

    let response = world.get("/x", "");

    assert_eq!(response.status, 401);
    assert_eq!(response.header("www-authenticate"), Some(r#"Bearer realm="menshen""#));
    assert_eq!(response.json()["code"], "no_token");
    assert_eq!(world.backend.count(), 0);
}

/// A1, A2, A6: in its own spelling a forged header is removed, on every kind of route.
#[test]
fn a_forged_header_in_its_own_name_is_removed_on_every_kind_of_route() {
    for (header_names, names) in
        [("refuse", CLOUD_RUN_NAMES), ("strip", OWN_NAMES), ("pass", CLOUD_RUN_NAMES), ("pass", OWN_NAMES)]
    {
        let scene = Scene::new(header_names, names);
        let mut client = Client::new(&scene.world);
        let mut tally = Tally::default();
        for kind in scene.kinds() {
            for spelled in scene.managed.iter().flat_map(|name| plain(name)) {
                let forged = format!("{spelled}: {VICTIM}\r\n");
                for (before, after) in [(&*forged, ""), ("", &*forged), (&*forged, &*forged)] {
                    let response = client.get(&kind, before, after);
                    assert_eq!(status(response.as_ref()), kind.status, "{}: {forged}", kind.name);
                    scene.judge(&kind, &forged, kind.status, echoed(response.as_ref()).as_ref(), &mut tally);
                }
            }
        }
        tally.report(&format!("identity: own names, {header_names}, {}", scene.naming()));
        assert!(tally.inputs > 2000, "{tally:?}");
    }
}

/// A3, A4, A5: no other spelling of a managed name gets through; by default the request is refused.
#[test]
fn no_alias_of_a_managed_name_reaches_the_backend() {
    for names in [CLOUD_RUN_NAMES, OWN_NAMES] {
        let scene = Scene::new("refuse", names);
        let mut client = Client::new(&scene.world);
        let mut tally = Tally::default();
        for kind in scene.kinds() {
            // The name is refused before the route is known: on one route all spellings, on the
            // others each name's.
            let step = if kind.name == "public without" { 1 } else { 61 };
            for spelled in scene.managed.iter().flat_map(|name| aliases(name)).step_by(step) {
                let response = client.get(&kind, "", &format!("{spelled}: {VICTIM}\r\n"));
                let status = status(response.as_ref());
                assert_eq!(status, 400, "{}: {spelled}", kind.name);
                scene.judge(&kind, &spelled, status, echoed(response.as_ref()).as_ref(), &mut tally);
            }
        }
        tally.report(&format!("identity: aliases, refuse, {}", scene.naming()));
        assert!(tally.inputs > 3000, "{tally:?}");
        assert_eq!(tally.reached, 0);
    }
    for (header_names, names) in
        [("strip", CLOUD_RUN_NAMES), ("strip", OWN_NAMES), ("pass", CLOUD_RUN_NAMES), ("pass", OWN_NAMES)]
    {
        let scene = Scene::new(header_names, names);
        let mut client = Client::new(&scene.world);
        let mut tally = Tally::default();
        let spelled: Vec<String> = scene.managed.iter().flat_map(|name| aliases(name)).collect();
        for kind in scene.kinds() {
            for batch in spelled.chunks(100) {
                let lines: String = batch.iter().map(|name| format!("{name}: {VICTIM}\r\n")).collect();
                for (before, after) in [(&*lines, ""), ("", &*lines)] {
                    let response = client.get(&kind, before, after);
                    let status = status(response.as_ref());
                    assert_eq!(status, kind.status, "{}: {lines}", kind.name);
                    scene.judge(&kind, &lines, status, echoed(response.as_ref()).as_ref(), &mut tally);
                }
            }
        }
        tally.remark = format!("{} aliases, 100 in each", spelled.len());
        tally.report(&format!("identity: aliases, {header_names}, {}", scene.naming()));
        assert!(spelled.len() > 3000);
    }
}

#[test]
fn a_name_with_a_character_no_header_name_may_have_is_refused() {
    let scene = Scene::new("pass", CLOUD_RUN_NAMES);
    let mut client = Client::new(&scene.world);
    let mut tally = Tally::default();
    for kind in scene.kinds() {
        for separator in
            [" ", "\t", "(", ")", "/", "@", "\"", "\0", "\u{7f}", "\u{80}", ",", ";", "[", "{", "\\"]
        {
            for name in ["X-WX-OPENID", "X-Forwarded-For"] {
                let spelled = name.replace('-', separator);
                for line in [format!("{spelled}: {VICTIM}"), format!("{name}{separator}: {VICTIM}")] {
                    let response = client.get(&kind, "", &format!("{line}\r\n"));
                    let status = status(response.as_ref());
                    assert!(matches!(status, 400 | 0), "{}: {line:?}: {status}", kind.name);
                    scene.judge(&kind, &line, status, echoed(response.as_ref()).as_ref(), &mut tally);
                }
            }
        }
    }
    tally.report("identity: characters outside names");
    assert_eq!(tally.reached, 0);
    assert_eq!(scene.world.backend.count(), 0);
}

/// A9, A10: `Connection` takes nothing away that the gateway says, and no alias takes its place.
#[test]
fn what_connection_nominates_cannot_remove_an_identity_header() {
    for (header_names, names) in [("refuse", CLOUD_RUN_NAMES), ("pass", CLOUD_RUN_NAMES), ("pass", OWN_NAMES)]
    {
        let scene = Scene::new(header_names, names);
        let mut client = Client::new(&scene.world);
        let mut tally = Tally::default();
        for kind in scene.kinds() {
            for name in ["Authorization", "Cookie", "traceparent", "Content-Length"] {
                let lines = format!("Connection: keep-alive, {name}\r\n");
                let response = client.get(&kind, "", &lines);
                let status = status(response.as_ref());
                assert_eq!(status, kind.status, "{}: {lines}", kind.name);
                scene.judge(&kind, &lines, status, echoed(response.as_ref()).as_ref(), &mut tally);
            }
            for name in &scene.managed {
                let alias = name.replace('-', "_");
                for lines in [
                    format!("Connection: close, {name}\r\n"),
                    format!("Connection: keep-alive\r\nConnection: {name}\r\n{name}: {VICTIM}\r\n"),
                    format!("Connection: {name}, {alias}\r\n{name}: {VICTIM}\r\n{alias}: {VICTIM}\r\n"),
                    format!("Connection: \"{name}\"\r\n{name}: {VICTIM}\r\n"),
                    format!("Keep-Alive: {name}\r\nProxy-Connection: {name}\r\nTE: {name}\r\n"),
                    format!("Connection:{}{name}\r\n", ",".repeat(20)),
                    format!("Connection: a,b,c,d,e,f,g,h,i,j,{name}\r\n"),
                ] {
                    let response = client.get(&kind, "", &lines);
                    let status = status(response.as_ref());
                    assert!([kind.status, 400].contains(&status), "{}: {lines}: {status}", kind.name);
                    scene.judge(&kind, &lines, status, echoed(response.as_ref()).as_ref(), &mut tally);
                }
            }
        }
        tally.report(&format!("identity: nominated by Connection, {header_names}, {}", scene.naming()));
        assert!(tally.reached > 300, "{tally:?}");
    }
}

/// A16: trailers are not headers.
#[test]
fn trailers_carry_nothing_to_the_backend() {
    let mut tally = Tally::default();
    for header_names in ["refuse", "pass"] {
        let scene = Scene::new(header_names, CLOUD_RUN_NAMES);
        for kind in scene.kinds() {
            for name in ["X-WX-OPENID", "X_WX_OPENID", "x.wx.openid", "Authorization", "X-Forwarded-For"] {
                let Kind { path, authorization, .. } = &kind;
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: gateway.test\r\n{authorization}Transfer-Encoding: chunked\r\n\
                     Trailer: {name}\r\n\r\n"
                );
                let body = format!("1\r\nx\r\n0\r\n{name}: {VICTIM}\r\n\r\n");
                let before = scene.world.backend.count();
                let mut connection = scene.world.connect();

                let response = connection.send(format!("{head}{body}").as_bytes());

                assert_eq!(response.status, kind.status, "{}", kind.name);
                if response.status == 200 {
                    let received = scene.world.backend.last();
                    assert_eq!(scene.faults(&kind, &received), [""; 0], "{}: {name}", kind.name);
                    assert_eq!(received.body, b"x");
                    assert!(received.header("trailer").is_empty());
                }
                let reached = scene.world.backend.count() - before;
                assert_eq!(reached, usize::from(response.status == 200), "{}: {name}", kind.name);
                tally.add(response.status, reached);
            }
        }
    }
    tally.report("identity: trailers");
}

/// A3 to A6 and A16 over HTTP/2, where names come in lower case.
#[test]
fn over_http2_no_spelling_of_a_managed_name_reaches_the_backend() {
    for (header_names, names) in [("refuse", CLOUD_RUN_NAMES), ("strip", OWN_NAMES), ("pass", OWN_NAMES)] {
        let scene = Scene::new(header_names, names);
        let connection = TcpStream::connect(scene.world.address()).unwrap();
        forge_over_http2(&scene, header_names, Http2::over(connection))
            .report(&format!("identity: HTTP/2, {header_names}"));
    }
}

#[test]
fn over_http2_with_tls_no_spelling_of_a_managed_name_reaches_the_backend() {
    let (listener, roots, _files) = tls_listener();
    let routes = crate::common::ROUTES;
    let throttle = crate::common::NO_THROTTLE;
    let limits = format!("limits: {{ header_names: pass, {GENEROUS} }}\n");
    // The first listener serves the sign-in in clear.
    let world = World::with(&format!("{routes}{throttle}{limits}{CLOUD_RUN_NAMES}{LISTENERS}{listener}"));
    let scene = Scene::of(world, false);
    let address = scene.world.gateway().addresses()[1];

    let tally = forge_over_http2(&scene, "pass", Http2::over(tls_client(address, roots)));
    tally.report("identity: HTTP/2 with TLS, pass");
}

fn forge_over_http2<S: Read + Write>(scene: &Scene, header_names: &str, mut connection: Http2<S>) -> Tally {
    let mut tally = Tally::default();
    for kind in scene.kinds() {
        let token = kind.authorization.trim().strip_prefix("Authorization: ").unwrap_or_default();
        let mut own: Vec<(&[u8], &[u8])> = Vec::new();
        if !token.is_empty() {
            own.push((b"authorization", token.as_bytes()));
        }
        let lower = |names: Vec<String>| -> Vec<String> {
            names.into_iter().filter(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase())).collect()
        };
        let aliases: Vec<String> = scene.managed.iter().flat_map(|name| lower(aliases(name))).collect();
        let plain: Vec<String> = scene.managed.iter().flat_map(|name| lower(plain(name))).collect();
        let alone = header_names == "refuse";
        let batches: Vec<&[String]> =
            if alone { aliases.chunks(1).step_by(7).collect() } else { aliases.chunks(50).collect() };
        for batch in batches.into_iter().chain(plain.chunks(1)) {
            let mut forged = own.clone();
            forged.extend(batch.iter().map(|name| (name.as_bytes(), VICTIM.as_bytes())));
            let outcome = connection.send(&http2::fields("GET", kind.path.as_bytes(), &forged));
            let is_alias = alone && batch.iter().any(|name| !plain.contains(name));
            let expected = if is_alias { 400 } else { kind.status };
            assert_eq!(outcome.status(), expected, "{}: {batch:?}: {outcome:?}", kind.name);
            scene.judge(&kind, &format!("{batch:?}"), expected, outcome.echoed().as_ref(), &mut tally);
        }
        let trailers: http2::Fields<'_> = vec![(b"x-wx-openid", b"victim"), (b"x_wx_openid", b"victim")];
        let outcome =
            connection.send_with(&http2::fields("POST", kind.path.as_bytes(), &own), b"x", &trailers);
        assert_eq!(outcome.status(), kind.status, "{}: trailers: {outcome:?}", kind.name);
        scene.judge(&kind, "trailers", kind.status, outcome.echoed().as_ref(), &mut tally);
    }
    tally
}

#[test]
fn what_a_client_of_wafer_sends_passes() {
    let world = World::new();

    let response = world.get(
        "/pub/x",
        "X-WX-Code: c1\r\nX-WX-IV: i1\r\nX-WX-Skey: s1\r\nX-WX-Encrypted-Data: e1\r\nX-WX-Id: 1\r\nX-WX-Service: s\r\n",
    );

    assert_eq!(response.status, 200);
    let received = world.backend.last();
    for (name, value) in [
        ("X-WX-Code", "c1"),
        ("X-WX-IV", "i1"),
        ("X-WX-Skey", "s1"),
        ("X-WX-Encrypted-Data", "e1"),
        ("X-WX-Id", "1"),
        ("X-WX-Service", "s"),
    ] {
        assert_eq!(received.header(name), [value]);
    }
}

#[test]
fn names_that_are_no_alias_are_handled_as_configured() {
    for (header_names, status, reaches) in
        [("refuse", 400, false), ("strip", 200, false), ("pass", 200, true)]
    {
        let scene = Scene::new(header_names, CLOUD_RUN_NAMES);

        for name in ["access_token", "x.trace", "X_WX_Code", "X-WX-OPENID_", "_X-WX-OPENID", "X-WX-OPENID2"] {
            let response = scene.world.get("/pub/x", &format!("{name}: 1\r\n"));

            let is_plain = name == "X-WX-OPENID2";
            assert_eq!(response.status, if is_plain { 200 } else { status }, "{name}, {header_names}");
            if response.status == 200 {
                let found = scene.world.backend.last().header(name).len();
                assert_eq!(found, usize::from(reaches || is_plain), "{name}, {header_names}");
            }
        }
    }
}

/// A7, A8: more than one token is no token.
#[test]
fn several_tokens_in_one_request_are_refused() {
    let sources = "
tokens:
  sources: { bearer: true, raw_authorization: true, header: X-Token, cookie: session }
";
    let routes = crate::common::ROUTES;
    let world = World::with(&format!("{routes}{}{sources}", crate::common::NO_THROTTLE));
    let (good, other) = (world.sign_in("alice"), world.sign_in("bob"));
    let openid = world.emulator.openid(APPID, "alice");

    let same = [
        format!("Authorization: Bearer {good}\r\n"),
        format!("Authorization: {good}\r\n"),
        format!("Authorization: Bearer {good}\r\nX-Token: {good}\r\nCookie: session={good}\r\n"),
        format!("Cookie: a=1; session={good}; b=2\r\nAuthorization: Basic YTpi\r\n"),
    ];
    let different = [
        format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {other}\r\n"),
        format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
        format!("Authorization: Bearer {good}\r\nAuthorization: Basic YTpi\r\n"),
        format!("Authorization: Bearer {good}\r\nX-Token: {other}\r\n"),
        format!("Authorization: Bearer {good}\r\nX-Token: junk\r\n"),
        format!("X-Token: {good}\r\nX-Token: {good}\r\n"),
        format!("Cookie: session={good}; session={other}\r\n"),
        format!("Cookie: session={good}; session={good}\r\n"),
        format!("Cookie: session={good}\r\nCookie: session={other}\r\n"),
        format!("Authorization: Bearer {good}\r\nCookie: session={other}\r\n"),
        format!("Authorization: Bearer {good}, Bearer {other}\r\n"),
        format!("Authorization: Bearer {good} {other}\r\n"),
    ];
    let mut tally = Tally::default();
    for path in ["/x", "/opt/x"] {
        for headers in &same {
            let response = world.get(path, headers);
            assert_eq!(response.status, 200, "{path}: {headers}");
            let received = world.backend.last();
            assert_eq!(received.folded("X-WX-OPENID"), [&*openid], "{path}: {headers}");
            assert!(!received.head.contains("eyJ"), "{path}: {}", received.head);
        }
        let before = world.backend.count();
        for headers in &different {
            let status = world.get(path, headers).status;
            assert_eq!(status, 401, "{path}: {headers}");
            tally.add(status, 0);
        }
        assert_eq!(world.backend.count(), before);
    }
    tally.report("identity: several tokens");
}

/// A11, A12: neither a control header nor a private address gives a client any right.
#[test]
fn a_private_address_or_a_control_header_gives_no_trust() {
    let world = World::new();
    let mut tally = Tally::default();

    for forged in [
        "X-Original-URL: /pub/x",
        "X-Original-URI: /pub/x",
        "X-Rewrite-URL: /pub/x",
        "X-Forwarded-Uri: /pub/x",
        "X-Forwarded-Path: /pub/x",
        "X-Forwarded-Prefix: /pub",
        "X-Forwarded-Method: OPTIONS",
        "X-HTTP-Method-Override: OPTIONS",
        "X-Middleware-Subrequest: middleware",
        "X-Forwarded-For: 127.0.0.1",
        "X-Envoy-Internal: true",
        "X-Gw-Route: public",
        "User-Agent: kube-probe/1.0",
        "User-Agent: GoogleHC/1.0",
        "X-WX-SOURCE: wx_client",
    ] {
        let status = world.get("/x", &format!("{forged}\r\n")).status;
        assert_eq!(status, 401, "{forged}");
        tally.add(status, 0);
    }

    assert_eq!(world.backend.count(), 0);
    tally.report("identity: control headers without a token");
}

/// A12: a trusted proxy is believed where a request came from, and nothing else.
#[test]
fn a_trusted_proxy_may_not_claim_an_identity() {
    let routes = crate::common::ROUTES;
    let throttle = crate::common::NO_THROTTLE;
    let trusting = format!("{routes}{throttle}limits: {{ header_names: pass, {GENEROUS} }}\n");
    let world = World::with(&format!("{trusting}trusted_proxies: [127.0.0.0/8]\n"));

    for name in CLOUD_RUN.iter().chain(&["X-Original-URL", "X-Forwarded-Prefix", "Proxy"]) {
        for spelled in plain(name).into_iter().chain(aliases(name).into_iter().step_by(5)) {
            assert_eq!(world.get("/pub/x", &format!("{spelled}: {VICTIM}\r\n")).status, 200);
            assert_eq!(world.backend.last().folded(name), [""; 0], "{spelled}");
        }
    }
    let forwarded = "X-Forwarded-For: 192.0.2.7\r\nX_Forwarded_For: victim\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(world.get("/pub/x", forwarded).status, 200);
    let received = world.backend.last();
    assert_eq!(received.folded("X-Forwarded-For"), ["192.0.2.7, 127.0.0.1"]);
    assert_eq!(received.folded("X-Forwarded-Proto"), ["https"]);
    assert_eq!(received.folded("X-Real-IP"), ["192.0.2.7"]);
}

/// A13: what WeChat answers is checked before it becomes an identity.
#[test]
fn an_identifier_that_could_forge_a_header_is_refused_at_login() {
    let routes = crate::common::ROUTES;
    let throttle = crate::common::NO_THROTTLE;
    // A breaker that opened would refuse the rest for the wrong reason.
    let patient = "wechat: { hosts: ['{emulator}'], breaker: { failures: 1000 } }\n";
    let world = World::with(&format!("{routes}{throttle}{patient}"));
    let mut tally = Tally::default();
    for hostile in [
        "o1\r\nX-Role: admin",
        "o1\nX-Role: admin",
        "o1\rX",
        "o1\0",
        "o1 x",
        "o1,o2",
        "o1;x",
        "微信",
        "o\u{e9}",
        "",
        "o1\u{7f}",
        &"o".repeat(8192),
    ] {
        for member in ["openid", "unionid"] {
            world.emulator.clear_faults();
            let members = json!({ member: hostile }).as_object().cloned().unwrap();
            world.emulator.inject(InjectedFault::new(Effect::Set(members)).times(1));

            let before = world.backend.count();
            let response = world.login_with(&format!(r#"{{"code":"{}"}}"#, world.code("alice")));

            if response.status == 200 && member == "unionid" {
                // A person may have no unionid; a token without one is right, one with a hostile
                // one is not.
                let bearer = response.json()["access_token"].as_str().unwrap().to_owned();
                world.get("/x", &format!("Authorization: Bearer {bearer}\r\n"));
                let received = world.backend.last();
                assert_eq!(received.folded("X-WX-UNIONID"), [""; 0], "{hostile:?}");
                assert_eq!(received.folded("X-Role"), [""; 0], "{hostile:?}");
            } else {
                assert!(matches!(response.status, 500..=503), "{member} {hostile:?}: {}", response.status);
                assert!(!response.text().contains("access_token"), "{member} {hostile:?}");
            }
            tally.add(response.status, world.backend.count() - before);
        }
    }
    tally.report("identity: hostile openids and unionids");
    world.emulator.clear_faults();
    let members = json!({ "openid": "o".repeat(64) }).as_object().cloned().unwrap();
    world.emulator.inject(InjectedFault::new(Effect::Set(members)).times(1));
    assert_eq!(world.login_with(&format!(r#"{{"code":"{}"}}"#, world.code("bob"))).status, 200);
}

/// A14: bytes above 0x7f are no token and give no access.
#[test]
fn bytes_that_are_no_text_identify_no_caller() {
    let scene = Scene::new("refuse", CLOUD_RUN_NAMES);
    let mut client = Client::new(&scene.world);
    let token = scene.bearer.trim().strip_prefix("Authorization: Bearer ").unwrap();
    let lines: Vec<Vec<u8>> = vec![
        b"Authorization: Bearer \xff\xfe".to_vec(),
        b"Authorization: \xff".to_vec(),
        [b"Authorization: Bearer ", token.as_bytes(), b"\xff"].concat(),
        [b"Authorization: Bearer \xc2\xa0", token.as_bytes()].concat(),
        [b"Authorization: Bearer\xa0", token.as_bytes()].concat(),
        b"User-Agent: \x80".to_vec(),
        b"Cookie: \xff=\xff".to_vec(),
    ];
    let mut tally = Tally::default();
    for line in &lines {
        let get = |path: &str| {
            [format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n").as_bytes(), line, b"\r\n\r\n"].concat()
        };
        let response = client.send(&get("/x"));
        assert!(matches!(status(response.as_ref()), 400 | 401), "{}", line.escape_ascii());
        tally.add(status(response.as_ref()), 0);
        for path in ["/pub/x", "/opt/x"] {
            let response = client.send(&get(path));
            let received = echoed(response.as_ref());
            tally.add(status(response.as_ref()), usize::from(received.is_some()));
            if let Some(received) = received {
                for (name, _) in &scene.injected {
                    assert_eq!(received.folded(name), [""; 0], "{}", line.escape_ascii());
                }
            }
        }
    }
    tally.report("identity: bytes that are no text");
}

/// A15: a token names its issuer, audience and app; a token of another gateway is refused.
#[test]
fn a_token_of_another_gateway_is_refused() {
    use base64::Engine as _;

    let (world, other) = (World::new(), World::new());
    let token = other.sign_in("alice");
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();

    for path in ["/x", "/opt/x"] {
        assert_eq!(world.get(path, &format!("Authorization: Bearer {token}\r\n")).status, 401);
    }

    assert_eq!(world.backend.count(), 0);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("menshen"), &json!("menshen")));
    assert_eq!(claims["appid"], json!(APPID), "{claims}");
}

/// The token leaves the request in whatever spelling it was read in.
#[test]
fn the_token_of_a_websocket_query_is_removed_however_its_name_is_escaped() {
    let routes = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend, websocket: true }
tokens: { sources: { bearer: true, websocket_query: access_token } }
";
    let world = World::with(&format!("{routes}{}", crate::common::NO_THROTTLE));
    let token = world.sign_in("alice");
    for name in ["access_token", "%61ccess_token", "access%5Ftoken", "%61%63%63%65%73%73%5f%74%6f%6b%65%6e"] {
        let response = world.get(
            &format!("/x?a=1&{name}={token}&b=2"),
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        );

        assert_eq!(response.status, 200, "{name}");
        assert_eq!(world.backend.last().target(), "/x?a=1&b=2", "{name}");
    }
}

/// A TLS listener with a certificate of its own, what a client must trust, and the files'
/// directory.
fn tls_listener() -> (String, rustls::RootCertStore, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["gateway.test".into()]).unwrap();
    let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let listener = format!(
        "  - address: 127.0.0.1:0\n    tls: {{ certificates: [{{ certificate: '{}', key: '{}' }}] }}\n",
        certificate.display(),
        key.display()
    );
    (listener, roots, files)
}

fn tls_client(
    address: std::net::SocketAddr,
    roots: rustls::RootCertStore,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    install_crypto();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "gateway.test".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}
