//! WeChat's API for programs of the business: the gateway adds the token, and the token stays
//! inside.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use menshen::config::{ByteSize, Duration as Span};
use menshen::emulator::{Effect, InjectedFault, LoggedCall};
use serde_json::{Value, json};

use crate::cluster::COMMON;
use crate::common::redis::RedisServer;
use crate::common::{APPID, Connection, NO_THROTTLE, ROUTES, Response, World, eventually, now};
use crate::process::Process;

const SHOP: &str = "shop-token-0123456789";
const BOTH: &str = "both-token-0123456789";
const CRM: &str = "crm-token-0123456789";
const CHECK: &str = "/wxa/msg_sec_check";
const LIFE: Duration = Duration::from_secs(7200);

/// `shop` may call for one app, `both` for two, and `crm` not at all.
fn sections() -> String {
    format!(
        "{ROUTES}{NO_THROTTLE}
apps:
  shop: {{ kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }}
  other: {{ kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }}
telemetry:
  access_log: {{ target: file, file: '{{data}}/access.log' }}
  audit_log: {{ file: '{{data}}/audit.log' }}
internal:
  address: 127.0.0.1:0
  wechat_alias: {{ address: 127.0.0.1:0, client: shop }}
  clients:
    - name: shop
      token: {SHOP}
      may: [wechat_api]
      wechat_api: {{ apps: [shop], paths: [/wxa/msg_sec_check, /wxa/check, /wxa/checksession, /cgi-bin/media], rate: 10000/s }}
    - name: both
      token: {BOTH}
      may: [wechat_api, bind]
      wechat_api: {{ apps: [shop, other], paths: [/wxa], rate: 2/min }}
    - {{ name: crm, token: {CRM}, may: [bind] }}
"
    )
}

fn world() -> World {
    World::with(&sections())
}

fn internal(world: &World) -> SocketAddr {
    world.gateway().internal_address().unwrap()
}

fn alias(world: &World) -> SocketAddr {
    world.gateway().wechat_alias_address().unwrap()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn basic(name: &str, token: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{token}")))
}

/// Sends a request with these header lines and this body.
fn send(address: SocketAddr, line: &str, headers: &str, body: &[u8]) -> Response {
    let head = format!("{line} HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Connection::open(address).send(&[head.as_bytes(), body].concat())
}

/// The check of a text, by the path of the internal listener.
fn check(address: SocketAddr) -> Response {
    let headers = format!("Host: internal\r\n{}Content-Type: application/json\r\n", bearer(SHOP));
    send(address, &format!("POST /wechat/shop{CHECK}"), &headers, br#"{"content":"hello"}"#)
}

fn errcode(response: &Response) -> i64 {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["errcode"].as_i64().unwrap_or_else(|| panic!("{}", response.text()))
}

fn calls(world: &World, path: &str) -> Vec<LoggedCall> {
    world.emulator.calls().into_iter().filter(|call| call.path == path).collect()
}

fn fetches(world: &World) -> usize {
    calls(world, "/cgi-bin/stable_token").len()
}

#[test]
fn each_form_of_a_call_is_answered_by_wechat_without_a_token_of_the_program() {
    let world = world();
    let body = br#"{"content":"hello"}"#;
    let json = "Content-Type: application/json\r\n";
    let api = format!("Host: api.weixin.qq.com\r\n{json}");
    for (address, line, headers) in [
        (
            internal(&world),
            format!("POST /wechat/shop{CHECK}"),
            format!("Host: internal\r\n{json}{}", bearer(SHOP)),
        ),
        (
            internal(&world),
            format!("POST /wechat/shop{CHECK}?access_token=mine&access%5ftoken=mine"),
            format!("Host: internal\r\n{json}{}", bearer(SHOP)),
        ),
        (
            internal(&world),
            format!("POST http://api.weixin.qq.com{CHECK}"),
            format!("{api}{}Proxy-Connection: keep-alive\r\n", basic("shop", SHOP)),
        ),
        (
            internal(&world),
            format!("POST http://api.weixin.qq.com:80{CHECK}?access_token=mine"),
            format!("{api}{}", basic("shop", SHOP)),
        ),
        (alias(&world), format!("POST {CHECK}?access_token="), api.clone()),
        (alias(&world), format!("POST http://api.weixin.qq.com{CHECK}"), api.clone()),
    ] {
        let response = send(address, &line, &headers, body);

        assert_eq!(errcode(&response), 0, "{line}");
        assert_eq!(response.json()["result"]["suggest"], "pass", "{line}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let call = calls(&world, CHECK).pop().unwrap();
        assert_eq!(call.query.len(), 1, "{:?}", call.query);
        assert_eq!(call.body, Some(json!({ "content": "hello" })));
        for hidden in ["authorization", "proxy-authorization", "proxy-connection"] {
            assert!(!call.header_names.iter().any(|name| name == hidden), "{line}: {hidden}");
        }
    }
    assert_eq!(fetches(&world), 1);
}

#[test]
fn nothing_is_fetched_before_a_program_calls() {
    let world = world();
    let login = json!({ "app": "shop", "code": world.code("alice") });
    assert_eq!(world.login_with(&login.to_string()).status, 200);

    assert_eq!(fetches(&world), 0);
}

#[test]
fn a_hundred_calls_at_once_on_a_token_that_wechat_refuses_make_one_fetch() {
    let world = world();
    let address = internal(&world);
    assert_eq!(errcode(&check(address)), 0);
    for (round, spoil) in [
        (1, &(|| world.clock.advance(LIFE)) as &dyn Fn()),
        (2, &|| world.emulator.revoke_tokens(APPID).unwrap()),
    ] {
        spoil();

        thread::scope(|scope| {
            let calls = Vec::from_iter((0..100).map(|_| scope.spawn(|| errcode(&check(address)))));
            for call in calls {
                assert_eq!(call.join().unwrap(), 0, "round {round}");
            }
        });

        assert_eq!(fetches(&world), 1 + round);
    }
    let forced = calls(&world, "/cgi-bin/stable_token").into_iter();
    assert_eq!(forced.filter(|call| call.body.as_ref().unwrap()["force_refresh"] == true).count(), 0);
}

#[test]
fn two_gateways_on_one_redis_make_one_fetch_and_a_restart_makes_none() {
    let redis = RedisServer::start();
    let common = COMMON.replace("{redis}", &redis.address().to_string());
    let mut world = World::with(&format!("{}{common}", sections()));
    let mut nodes = [Process::like(&world), Process::like(&world)];
    world.stop();
    let addresses = nodes.each_ref().map(Process::internal_address);
    for node in &nodes {
        eventually("the node is ready", || node.admin("/readyz") == "ready\n");
    }
    let call_all = || {
        thread::scope(|scope| {
            let addresses = (0..40).map(|number| addresses[number % 2]);
            let calls =
                Vec::from_iter(addresses.map(|address| scope.spawn(move || errcode(&check(address)))));
            assert!(calls.into_iter().all(|call| call.join().unwrap() == 0));
        });
    };

    call_all();
    assert_eq!(fetches(&world), 1);
    world.emulator.revoke_tokens(APPID).unwrap();
    call_all();
    assert_eq!(fetches(&world), 2);

    nodes[0].signal("TERM");
    nodes[0].wait();
    nodes[0].start_again();
    eventually("the node is ready", || nodes[0].admin("/readyz") == "ready\n");
    assert_eq!(errcode(&check(nodes[0].internal_address())), 0);
    assert_eq!(fetches(&world), 2);
}

#[test]
fn a_call_is_made_again_once_and_then_wechats_answer_stands() {
    let world = world();
    let address = internal(&world);
    for (times, expected, made) in [(1, 0, 2), (2, 40001, 2), (9, 40001, 2)] {
        world.emulator.clear_calls();
        world.emulator.inject(InjectedFault::new(Effect::errcode(40001)).path(CHECK).times(times));

        let answered = errcode(&check(address));

        assert_eq!((answered, calls(&world, CHECK).len()), (expected, made), "{times}");
        world.emulator.clear_faults();
        world.clock.advance(Duration::from_secs(31));
    }
    // Another errcode is no reason to make it again.
    world.emulator.clear_calls();
    world.emulator.inject(InjectedFault::new(Effect::errcode(45009)).path(CHECK));
    assert_eq!(errcode(&check(address)), 45009);
    assert_eq!(calls(&world, CHECK).len(), 1);
    // The errcode as text, and JSON that calls itself something else.
    world.emulator.clear_faults();
    for effect in [Effect::ErrcodeAsText, Effect::Bom, Effect::Chunked] {
        world.emulator.inject(InjectedFault::new(Effect::errcode(42001)).path(CHECK).times(1));
        world.emulator.inject(InjectedFault::new(effect.clone()).path(CHECK).times(1));
        assert_eq!(errcode(&check(address)), 0, "{effect:?}");
        world.clock.advance(Duration::from_secs(31));
    }
}

#[test]
fn paths_of_credentials_are_refused_in_every_spelling_whatever_the_form() {
    let world = World::with(&sections().replace("/cgi-bin/media]", "/cgi-bin, /wxa]"));
    let never = [
        "/cgi-bin/token",
        "/cgi-bin/stable_token",
        "/cgi-bin/component/api_component_token",
        "/sns/userinfo",
    ];
    let mut paths = Vec::new();
    for path in never {
        let (first, last) = path[1..].split_once('/').unwrap();
        paths.extend([
            path.to_owned(),
            format!("{path}/"),
            format!("{path}/x"),
            format!("/{path}"),
            format!("/{first}//{last}"),
            path.to_uppercase(),
            path.replacen('c', "C", 1).replacen('s', "S", 1),
            format!("/./{first}/{last}"),
            format!("/{first}/./{last}"),
            format!("/wxa/..{path}"),
            format!("/wxa/%2e%2e{path}"),
            format!("/cgi-bin/x/../..{path}"),
            format!("/{first}%2f{last}"),
            format!("/{first}%2F{last}"),
            format!("/{first}%5c{last}"),
            format!("/{first}\\{last}"),
            format!("{path};x=1"),
            format!("{path}%00"),
            format!("{path}%20"),
            format!("{path}."),
            path.replace('n', "%6e"),
            path.replace('n', "%256e"),
            path.replace('s', "%73").replace('t', "%74"),
        ]);
    }
    for path in &paths {
        for (address, line, headers) in [
            (
                internal(&world),
                format!("POST /wechat/shop{path}"),
                format!("Host: internal\r\n{}", bearer(SHOP)),
            ),
            (
                internal(&world),
                format!("POST http://api.weixin.qq.com{path}"),
                format!("Host: api.weixin.qq.com\r\n{}", basic("shop", SHOP)),
            ),
            (alias(&world), format!("POST {path}"), "Host: api.weixin.qq.com\r\n".to_owned()),
        ] {
            let status = send(address, &line, &headers, b"{}").status;
            assert!([400, 403].contains(&status), "{line}: {status}");
        }
    }
    assert!(world.emulator.calls().is_empty(), "{:?}", world.emulator.calls());
}

#[test]
fn a_credential_says_which_apps_and_paths() {
    let world = world();
    let path = |token: &str, app: &str, path: &str| {
        let headers = format!("Host: internal\r\n{}", bearer(token));
        send(internal(&world), &format!("POST /wechat/{app}{path}"), &headers, br#"{"content":"x"}"#).status
    };
    let proxy = |credential: &str| {
        let headers = format!("Host: api.weixin.qq.com\r\n{credential}");
        let line = format!("POST http://api.weixin.qq.com{CHECK}");
        send(internal(&world), &line, &headers, br#"{"content":"x"}"#)
    };

    for (token, app, called, expected) in [
        (SHOP, "shop", CHECK, 200),
        (SHOP, "other", CHECK, 403),
        (SHOP, "Shop", CHECK, 403),
        (SHOP, "%73hop", CHECK, 403),
        (SHOP, "", CHECK, 403),
        (SHOP, "shop", "/wxa/msg", 403),
        (SHOP, "shop", "/wxa/msg_sec_check_more", 403),
        (SHOP, "shop", "/wxa/business/getuserphonenumber", 403),
        (SHOP, "shop", "/cgi-bin/user/info", 403),
        (SHOP, "shop", "", 400),
        (BOTH, "other", CHECK, 200),
        (CRM, "shop", CHECK, 403),
        ("wrong-token-0123456789", "shop", CHECK, 401),
        ("", "shop", CHECK, 401),
    ] {
        assert_eq!(path(token, app, called), expected, "{token} {app} {called}");
    }
    assert_eq!(proxy(&basic("shop", SHOP)).status, 200);
    for credential in [basic("both", SHOP), basic("shop", BOTH), bearer(SHOP), String::new()] {
        let refused = proxy(&credential);
        assert_eq!(refused.status, 407, "{credential}");
        assert!(refused.header("proxy-authenticate").unwrap().starts_with("Basic "));
    }
    assert_eq!(proxy(&basic("crm", CRM)).status, 403);
    assert_eq!(proxy(&basic("both", BOTH)).json()["code"], "app_unknown", "it has two apps and no default");
    eventually("the refusals are in the audit log", || {
        let audit = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
        audit.contains(r#""event":"refusal","outcome":"not_permitted""#)
    });
}

#[test]
fn a_tunnel_another_host_a_page_and_another_method_are_refused() {
    let world = world();
    let credential = basic("shop", SHOP);
    for (address, line, headers, expected, said) in [
        (internal(&world), "CONNECT api.weixin.qq.com:443", credential.clone(), 405, "tunnel_refused"),
        (
            internal(&world),
            "GET http://example.com/wxa/msg_sec_check",
            credential.clone(),
            403,
            "host_not_permitted",
        ),
        (
            internal(&world),
            "GET http://127.0.0.1:1/wxa/msg_sec_check",
            credential.clone(),
            403,
            "host_not_permitted",
        ),
        (
            internal(&world),
            "DELETE http://api.weixin.qq.com/wxa/msg_sec_check",
            credential.clone(),
            405,
            "method_not_allowed",
        ),
        (internal(&world), "PUT /wechat/shop/wxa/msg_sec_check", bearer(SHOP), 405, "method_not_allowed"),
        (
            alias(&world),
            "POST http://example.com/wxa/msg_sec_check",
            String::new(),
            403,
            "host_not_permitted",
        ),
        (alias(&world), "CONNECT api.weixin.qq.com:443", String::new(), 405, "tunnel_refused"),
        (
            alias(&world),
            "POST /wxa/msg_sec_check",
            "Origin: http://evil.test\r\n".to_owned(),
            403,
            "browser_refused",
        ),
    ] {
        let headers = format!("Host: api.weixin.qq.com\r\n{headers}");
        let response = send(address, line, &headers, b"");

        assert_eq!((response.status, &response.json()["code"]), (expected, &json!(said)), "{line}");
    }
    // The address in its own name is no name of WeChat's: a page could lead a browser there.
    let by_address = send(alias(&world), "POST /wxa/msg_sec_check", "Host: 127.0.0.1\r\n", b"{}");
    assert_eq!(by_address.json()["code"], "host_not_permitted");
    assert!(world.emulator.calls().is_empty());
}

/// [`Connection`] also fails the test when a token comes over it.
#[test]
fn the_token_comes_out_of_no_answer() {
    let world = world();
    let address = internal(&world);
    let inject = |effect| world.emulator.inject(InjectedFault::new(effect).path(CHECK));

    inject(Effect::EchoTarget);
    let echoed = check(address).json();
    let target = echoed["target"].as_str().unwrap();
    assert!(target.contains("access_token=****") && !target.contains("66_"), "{target}");
    // In an answer that is too long to be read at once.
    inject(Effect::HugeBody(ByteSize::kib(300)));
    let long = check(address);
    assert!(long.body.len() > 300 * 1024 && long.text().contains("access_token=****"));
    inject(Effect::errcode(40001));
    assert!(check(address).text().contains("access_token=****"));

    for effect in [Effect::Redirect, Effect::Gzip] {
        world.emulator.clear_faults();
        inject(effect.clone());
        let refused = check(address);
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (502, &json!("wechat_unexpected")),
            "{effect:?}"
        );
        assert_eq!(refused.header("location"), None);
    }
    for (effect, status) in
        [(Effect::DropBefore, 502), (Effect::DropAfter, 502), (Effect::TruncatedBody, 502)]
    {
        world.emulator.clear_faults();
        inject(effect.clone());
        assert_eq!(check(address).status, status, "{effect:?}");
    }
}

#[test]
fn without_a_token_the_call_is_not_made_and_says_so_without_a_secret() {
    let world = world();
    for (errcode, status, code) in [
        (40164, 500, "app_misconfigured"),
        (40125, 500, "app_misconfigured"),
        (45009, 500, "app_misconfigured"),
        (45011, 503, "wechat_busy"),
    ] {
        world
            .emulator
            .inject(InjectedFault::new(Effect::errcode(errcode)).path("/cgi-bin/stable_token").times(1));

        let response = check(internal(&world));

        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)), "{errcode}");
        assert!(calls(&world, CHECK).is_empty());
        world.clock.advance(Duration::from_secs(31));
    }
    assert_eq!(errcode(&check(internal(&world))), 0);
}

/// A picture as a multipart body, and its media type.
fn multipart(picture: &[u8]) -> (Vec<u8>, String) {
    let head = "--cut-here\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n";
    let body = [head.as_bytes(), picture, b"\r\n--cut-here--\r\n"].concat();
    (body, "Content-Type: multipart/form-data; boundary=cut-here\r\n".to_owned())
}

#[test]
fn media_go_up_and_come_down_as_they_are_and_only_a_short_body_is_sent_again() {
    let world = world();
    let headers = format!("Host: internal\r\n{}", bearer(SHOP));
    for size in [1_000, 64 * 1024, 5_000_000] {
        let picture =
            Vec::from_iter((0..size).map(|number: u32| (number.wrapping_mul(2_654_435_761) >> 24) as u8));
        let (body, media_type) = multipart(&picture);
        let upload = || {
            let line = "POST /wechat/shop/cgi-bin/media/upload?type=image";
            send(internal(&world), line, &format!("{headers}{media_type}"), &body)
        };
        let id = upload().json()["media_id"].as_str().unwrap().to_owned();
        let get = format!("GET /wechat/shop/cgi-bin/media/get?media_id={id}");

        let response = send(internal(&world), &get, &headers, b"");

        assert!(response.body == picture, "{size}: {} bytes", response.body.len());
        assert_eq!(response.header("content-type"), Some("image/jpeg"));
        assert_eq!(response.header("content-disposition"), Some("attachment; filename=\"media.jpg\""));

        world.emulator.revoke_tokens(APPID).unwrap();
        let again = upload();
        if body.len() <= 64 * 1024 {
            assert!(again.json()["media_id"].is_string(), "{size}: {}", again.text());
        } else {
            assert_eq!(errcode(&again), 40001, "{size}");
            // But the next call has another token.
            assert!(upload().json()["media_id"].is_string());
        }
        assert_eq!(send(internal(&world), &get, &headers, b"").body.len(), picture.len());
        world.clock.advance(Duration::from_secs(31));
    }
    let missing = send(internal(&world), "GET /wechat/shop/cgi-bin/media/get?media_id=x", &headers, b"");
    assert_eq!(errcode(&missing), 40007);
}

#[test]
fn a_body_of_unknown_length_is_passed_on_in_chunks() {
    let world = world();
    let picture = vec![7; 300_000];
    let (body, media_type) = multipart(&picture);
    let mut connection = Connection::open(internal(&world));
    connection.write(
        format!(
            "POST /wechat/shop/cgi-bin/media/upload HTTP/1.1\r\nHost: internal\r\n{}{media_type}Transfer-Encoding: chunked\r\n\r\n",
            bearer(SHOP)
        )
        .as_bytes(),
    );
    for chunk in body.chunks(50_000) {
        connection.write(format!("{:x}\r\n", chunk.len()).as_bytes());
        connection.write(chunk);
        connection.write(b"\r\n");
    }

    let response = connection.send(b"0\r\n\r\n");

    assert!(response.json()["media_id"].is_string(), "{}", response.text());
}

#[test]
fn each_prefix_of_a_client_has_a_rate() {
    let world = world();
    let call = |path: &str| {
        let headers = format!("Host: internal\r\n{}", bearer(BOTH));
        send(internal(&world), &format!("POST /wechat/other{path}"), &headers, br#"{"content":"x"}"#)
    };

    let statuses = [call(CHECK).status, call(CHECK).status, call(CHECK).status];
    assert_eq!(statuses, [200, 200, 429]);
    let refused = call(CHECK);
    assert_eq!((refused.header("retry-after"), &refused.json()["code"]), (Some("30"), &json!("throttled")));
    assert_eq!(errcode(&check(internal(&world))), 0, "another client");
    world.gateway().reload().unwrap();
    assert_eq!(call(CHECK).status, 429, "a reload forgets nothing");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(call(CHECK).status, 200);
}

#[test]
fn calls_of_one_client_that_hang_leave_room_for_another() {
    let world = world();
    let address = internal(&world);
    assert_eq!(errcode(&check(address)), 0);
    world.emulator.clear_calls();
    let hang = Effect::DelayBefore(Span(Duration::from_secs(4)));
    world.emulator.inject(InjectedFault::new(hang).path(CHECK));

    thread::scope(|scope| {
        for _ in 0..140 {
            scope.spawn(|| check(address).status);
        }
        eventually("many hang", || calls(&world, CHECK).len() >= 64);
        let headers = format!("Host: internal\r\n{}", bearer(BOTH));
        let began = now();
        let line = "GET /wechat/shop/wxa/checksession?openid=x";
        let other = send(address, line, &headers, b"");
        let waited = began.elapsed();
        let hanging = calls(&world, CHECK).len();
        assert_eq!((errcode(&other), hanging), (40003, 64), "{waited:?}");
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    });
}

#[test]
fn each_call_is_in_the_audit_log_and_the_metrics_without_its_query() {
    let world = world();
    let headers = format!("Host: internal\r\n{}", bearer(SHOP));
    let line = "GET /wechat/shop/wxa/checksession?openid=o-secret-openid&signature=secret-signature&sig_method=hmac_sha256";
    assert_eq!(errcode(&send(internal(&world), line, &headers, b"")), 40003);
    assert_eq!(errcode(&check(internal(&world))), 0);

    let audit = || fs::read_to_string(world.data.path().join("audit.log")).unwrap();
    eventually("both lines are written", || audit().matches("\"event\":\"wechat_api\"").count() == 2);
    let lines = audit().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let said = lines.iter().map(|line| {
        ["outcome", "app", "door", "caller", "wechat.path", "wechat.errcode"].map(|key| line[key].clone())
    });
    let expected = [
        ["wechat_refused", "shop", "internal", "shop", "/wxa/checksession", "40003"].map(Value::from),
        ["ok", "shop", "internal", "shop", CHECK, "0"].map(Value::from),
    ];
    assert_eq!(said.collect::<Vec<_>>(), expected);
    let name = r#"menshen_wechat_api_requests_total{app="shop",client="shop",errcode="40003",path="/wxa/checksession"}"#;
    assert_eq!(world.metric(name), 1.0);
    assert_eq!(world.metric(r#"menshen_internal_requests_total{client="shop",code="200"}"#), 2.0);
    let everything = audit() + &world.metrics();
    for hidden in ["secret-openid", "secret-signature", "access_token="] {
        assert!(!everything.contains(hidden), "{hidden}");
    }
}

/// Runs a program, which prints what WeChat answered.
fn output(program: &mut Command, stdin: &str) -> Value {
    let mut child =
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn programs_written_for_the_open_api_service_run_with_a_proxy_or_the_alias() {
    let world = world();
    let url = format!("http://api.weixin.qq.com{CHECK}");
    let proxy = format!("http://shop:{SHOP}@{}", internal(&world));
    let resolve = format!("api.weixin.qq.com:80:{}", alias(&world));
    let python = "
import json, os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], json.dumps({'content': 'hello'}).encode(), {'Content-Type': 'application/json'})
print(urllib.request.urlopen(request, timeout=20).read().decode())
";
    let node = "
const http = require('http')
const [, , url, proxy, direct] = process.argv
const to = new URL(direct || proxy)
const headers = { Host: 'api.weixin.qq.com', 'Content-Type': 'application/json' }
if (!direct) headers['Proxy-Authorization'] = 'Basic ' + Buffer.from(to.username + ':' + to.password).toString('base64')
const path = direct ? new URL(url).pathname : url
const request = http.request({ host: to.hostname, port: to.port, method: 'POST', path, headers }, (answer) => answer.pipe(process.stdout))
request.end(JSON.stringify({ content: 'hello' }))
";
    let direct = format!("http://{}", alias(&world));
    let json = ["-H", "Content-Type: application/json", "-d", r#"{"content":"hello"}"#];
    let mut programs = vec![
        ("curl, proxy", Command::new("curl")),
        ("curl, alias", Command::new("curl")),
        ("python, proxy", Command::new("python3")),
        ("node, proxy", Command::new("node")),
        ("node, alias", Command::new("node")),
    ];
    programs[0].1.args(["-sS", "--max-time", "20"]).args(json).arg(&url).env("http_proxy", &proxy);
    programs[1].1.args(["-sS", "--max-time", "20", "--connect-to", &resolve]).args(json).arg(&url);
    programs[2].1.args(["-", &url]).env("http_proxy", &proxy);
    programs[3].1.args(["-", &url, &proxy]);
    programs[4].1.args(["-", &url, &proxy, &direct]);
    for (name, mut program) in programs {
        program.env_remove("no_proxy").env_remove("NO_PROXY");
        let script = if name.starts_with("python") { python } else { node };

        let answer = output(&mut program, script);

        assert_eq!(answer["errcode"], 0, "{name}: {answer}");
        assert_eq!(answer["result"]["suggest"], "pass", "{name}: {answer}");
    }
    assert_eq!(calls(&world, CHECK).len(), 5);
}

#[test]
fn a_program_that_is_slow_to_read_gets_all_of_a_long_answer() {
    let world = world();
    world.emulator.inject(InjectedFault::new(Effect::HugeBody(ByteSize::kib(2_000))).path(CHECK));
    world
        .emulator
        .inject(InjectedFault::new(Effect::DelayAfter(Span(Duration::from_millis(200)))).path(CHECK));

    let response = check(internal(&world));

    assert!(response.body.len() > 2_000 * 1024);
    assert_eq!(response.json()["errcode"], 0);
}
