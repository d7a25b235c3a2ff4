//! Claims under names that other gateways use, and configurations that would undo what the gateway
//! says.

use menshen::config::Document;
use menshen::server::{self, Sources};

use crate::common::{Backend, NO_THROTTLE, ROUTES, Reply, Tally, World, eventually, install_crypto};
use crate::process::Process;

const VICTIM: &str = "victim";

/// Names under which some backend believes a person, an address or a host, whichever gateway once
/// stood before it.
const CLAIMS: &[&str] = &[
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-Forwarded",
    "Forwarded-For",
    "Client-IP",
    "Proxy-Client-IP",
    "WL-Proxy-Client-IP",
    "X-Remote-IP",
    "X-Remote-Addr",
    "Ali-CDN-Real-IP",
    "X-Original-Host",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Authentik-Username",
    "X-Pomerium-Claim-Email",
    "X-Amzn-Oidc-Identity",
    "X-Consumer-Username",
    "Remote-User",
    "Remote-Groups",
    "Remote-Name",
    "Remote-Email",
    "X-Remote-User",
    "X-WebAuth-User",
    "X-Auth-User",
    "X-Vouch-User",
    "X-MS-CLIENT-PRINCIPAL",
    "X-MS-CLIENT-PRINCIPAL-NAME",
    "X-SSL-Client-Verify",
    "X-SSL-Client-S-DN",
    "SSL-Client-Cert",
    "X-Client-Cert",
    "OIDC-CLAIM-sub",
    "Impersonate-User",
    "Impersonate-Extra-scopes",
    "X-Pomerium-Jwt-Assertion",
    "X-Goog-Authenticated-User-Email",
    "X-Endpoint-API-UserInfo",
    "CF-Access-Authenticated-User-Email",
    "X-WX-Client-IP",
    "X-Real-IP",
    "X-Forwarded-Port",
    "X-Forwarded-Host",
    "X-Request-Id",
    "traceparent",
    "tracestate",
];

/// E1, A11, A12: headers of another gateway have no effect.
#[test]
fn a_client_claims_nothing_in_the_name_of_another_gateway() {
    for header_names in ["refuse", "strip", "pass"] {
        let world =
            World::with(&format!("{ROUTES}{NO_THROTTLE}limits: {{ header_names: {header_names} }}\n"));
        let token = world.bearer("alice");
        let mut tally = Tally::default();
        for name in CLAIMS {
            for (path, lines) in [("/x", &*token), ("/pub/x", ""), ("/opt/x", "")] {
                let before = world.backend.count();
                for spelling in [(*name).to_owned(), name.to_ascii_lowercase(), name.replace('-', "_")] {
                    let response = world.get(path, &format!("{lines}{spelling}: {VICTIM}\r\n"));
                    let is_alias = spelling.contains('_');
                    let expected = if is_alias && header_names == "refuse" { 400 } else { 200 };
                    assert_eq!(response.status, expected, "{header_names} {path} {spelling}");
                    tally.add(response.status, usize::from(response.status == 200));
                }
                for request in &world.backend.requests()[before..] {
                    assert!(!request.head.contains(VICTIM), "{header_names} {path}: {}", request.head);
                }
            }
        }
        tally.report(&format!("hostile: claims for another gateway, {header_names}"));
    }
}

/// A proxy passes on what its client wrote in every header that it does not write itself.
#[test]
fn a_trusted_proxy_is_believed_about_address_and_scheme_alone() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}trusted_proxies: [127.0.0.1]\n"));
    let token = world.bearer("alice");
    let mut tally = Tally::default();

    for name in CLAIMS {
        for (path, lines) in [("/x", &*token), ("/pub/x", ""), ("/opt/x", "")] {
            let response = world.get(path, &format!("{lines}{name}: {VICTIM}\r\n"));
            assert_eq!(response.status, 200, "{name}");
            let request = world.backend.last();
            assert!(!request.head.contains(VICTIM), "{path}: {}", request.head);
            tally.add(response.status, 1);
        }
    }
    let forwarded = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";
    world.get("/pub/x", forwarded);
    let request = world.backend.last();
    for (name, expected) in [
        ("X-Forwarded-For", "203.0.113.7, 127.0.0.1"),
        ("X-Real-IP", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "gateway.test"),
        ("X-Forwarded-Port", "443"),
    ] {
        assert_eq!(request.header(name), [expected], "{name}");
    }
    tally.report("hostile: claims through a trusted proxy");
}

#[test]
fn a_proxy_may_say_what_the_configuration_believes_it_about() {
    let believe = "[X-Forwarded-Client-Cert, X-SSL-Client-*, Remote-User, X-Forwarded-Host, X-Request-Id, traceparent, X-Front]";
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}trusted_proxies: [{{ from: [127.0.0.0/8], believe: {believe}, client_address: X-WX-Client-IP }}]\n"
    ));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    for (name, value) in [
        ("X-Forwarded-Client-Cert", "found-out"),
        ("X-SSL-Client-S-DN", "CN=alice"),
        ("Remote-User", "found-out"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Request-Id", "given-1"),
        ("X-Front", "found-out"),
        ("X-WX-Client-IP", "203.0.113.7"),
        ("traceparent", trace),
    ] {
        assert_eq!(world.get("/pub/x", &format!("{name}: {value}\r\n")).status, 200);
        assert_eq!(world.backend.last().header(name), [value]);
    }
    for name in ["X-Auth-Request-User", "Client-IP", "X-WX-OPENID"] {
        world.get("/pub/x", &format!("{name}: {VICTIM}\r\n"));
        assert!(world.backend.last().header(name).is_empty(), "{name}");
    }
    world.get("/pub/x", "X-WX-Client-IP: 203.0.113.7\r\nX-Forwarded-For: 203.0.113.8\r\n");
    let request = world.backend.last();
    assert_eq!(request.header("X-Real-IP"), ["203.0.113.7"]);
    assert_eq!(request.header("X-Forwarded-For"), ["203.0.113.7, 127.0.0.1"]);
}

#[test]
fn a_header_that_one_proxy_is_believed_about_is_removed_from_all_others() {
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}trusted_proxies: [{{ from: 192.0.2.1, believe: [X-Front], client_address: X-Where }}]\nidentity_headers: {{ remove: [X-Corp-*], pass: [X-Auth-User] }}\n"
    ));

    for name in ["X-Front", "x_front", "X-Where", "X-Corp-User", "X_Corp.Group", "Remote-User"] {
        let response = world.get("/pub/x", &format!("{name}: {VICTIM}\r\n"));
        if response.status == 200 {
            assert!(world.backend.last().folded(name).is_empty(), "{name}");
        }
    }
    assert_eq!(world.get("/pub/x", "X-Auth-User: 7\r\n").status, 200);
    assert_eq!(world.backend.last().header("X-Auth-User"), ["7"]);
}

#[test]
fn a_proxy_that_the_configuration_forgot_is_named_once() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);

    for _ in 0..3 {
        let request = "GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
        assert_eq!(process.connect().send(request.as_bytes()).status, 200);
    }
    let metrics = process.admin("/metrics");
    // A reload that does not trust it says nothing new, and one that does stops the count.
    process.signal("HUP");
    eventually("it is reloaded", || process.stderr().contains("loaded the configuration again"));
    let request = "GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    assert_eq!(process.connect().send(request.as_bytes()).status, 200);
    assert!(process.admin("/metrics").contains("menshen_untrusted_proxies 1\n"));
    let trusting = std::fs::read_to_string(process.config()).unwrap() + "trusted_proxies: [127.0.0.1]\n";
    std::fs::write(process.config(), trusting).unwrap();
    process.signal("HUP");
    eventually("it is trusted", || process.admin("/metrics").contains("menshen_untrusted_proxies 0\n"));
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));

    let log = process.stderr();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("trusted_proxies")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(
        warnings[0].contains("127.0.0.1") && warnings[0].contains("`trusted_proxies: [127.0.0.1]`"),
        "{log}"
    );
    assert!(metrics.contains("menshen_untrusted_proxies 1\n"), "{metrics}");
}

/// A backend that stood behind another gateway goes on unchanged: its name for the person may be
/// ours.
#[test]
fn a_name_of_another_gateway_may_be_ours() {
    for name in ["Remote-User", "X-Forwarded-User", "X-Auth-Request-User"] {
        for trusted in ["", "trusted_proxies: [127.0.0.1]\n"] {
            let world = World::with(&format!(
                "{ROUTES}{NO_THROTTLE}identity_headers: {{ openid: {name} }}\n{trusted}"
            ));
            let token = world.bearer("alice");

            world.get("/x", &format!("{token}{name}: {VICTIM}\r\n"));
            let received = world.backend.last().header(name);
            assert!(received.len() == 1 && received[0] != VICTIM, "{name}: {received:?}");
            world.get("/pub/x", &format!("{name}: {VICTIM}\r\n"));
            assert!(world.backend.last().header(name).is_empty(), "{name}");
        }
    }
}

/// What `check` says of a configuration, and what a start says: both must say the same.
fn refusals(sections: &str) -> [String; 2] {
    install_crypto();
    let data = tempfile::tempdir().unwrap();
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\ndata_dir: '{}'\napps: {{ shop: {{ kind: mini_program, appid: wxe000000000000001, secret: s }} }}\nwechat: {{ hosts: ['http://127.0.0.1:1'] }}\nupstreams: {{ backend: {{ servers: ['127.0.0.1:1'] }} }}\n{ROUTES}{sections}",
        data.path().display()
    );
    let document = Document::parse("test.yaml", &yaml).unwrap_or_else(|report| panic!("{report}"));
    let mut findings = menshen::config::Findings::default();
    server::check(&document.config, &Sources::default(), &mut findings).unwrap();
    let checked = document.report(findings).to_string();
    let started = server::start(&document, data.path().join("menshen.yaml"), Sources::default());
    [checked, started.err().map(|error| error.to_string()).unwrap_or_default()]
}

#[test]
fn a_header_the_gateway_writes_is_no_place_for_a_token() {
    for name in
        ["X-WX-OPENID", "x-wx-source", "X-WX-FROM-OPENID", "X-Forwarded-For", "X-Request-Id", "traceparent"]
    {
        let said = refusals(&format!("tokens: {{ sources: {{ header: {name} }} }}\n"));
        for said in said {
            assert!(said.contains("tokens.sources.header"), "{name}: {said:?}");
        }
    }
    for said in refusals("identity_headers: { openid: X-User }\ntokens: { sources: { header: X-User } }\n") {
        assert!(said.contains("tokens.sources.header"), "{said:?}");
    }
}

#[test]
fn a_header_no_request_can_do_without_is_not_removed() {
    for name in ["Host", "content-length", "Transfer-Encoding", "CONTENT_LENGTH"] {
        for said in refusals(&format!("identity_headers: {{ remove: [{name}] }}\n")) {
            assert!(said.contains("identity_headers.remove[0]"), "{name}: {said:?}");
        }
    }
}

/// C15: a body and a backend's answer are as secret as a token, also if they are malformed.
#[test]
fn a_message_that_does_not_parse_is_not_copied_to_the_log() {
    let backend = Backend::with(|_| {
        Reply::Last(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: session=secret-of-the-backend\r\nBad Name: x\r\n\r\n".to_vec(),
        )
    });
    let world = World::with_backend(
        backend,
        &format!(
            "{ROUTES}{NO_THROTTLE}telemetry: {{ log: {{ level: trace }}, access_log: {{ target: off }} }}\n"
        ),
    );
    let mut process = Process::like(&world);

    let broken = process.connect().send(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(broken.status, 502);
    for chunks in ["zz-secret-of-the-client\r\n", "3\r\nabcsecret-of-the-client\r\n0\r\n\r\n"] {
        let request = format!(
            "POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        let mut connection = process.connect();
        connection.write(request.as_bytes());
        _ = connection.try_read_response(false);
    }
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));

    let log = process.stderr();
    assert!(log.contains("failed: "), "{log}");
    assert!(!log.contains("secret-of"), "{log}");
}
