//! Promise 2: keys, secrets, codes and tokens appear nowhere but in the one answer that exists to
//! carry them.

use std::fs;

use menshen::emulator::{CodeState, Effect, InjectedFault};
use serde_json::json;

use crate::common::{APPID, Backend, Connection, NO_THROTTLE, Reply, Response, World, eventually};
use crate::process::Process;

/// A gateway that logs all it can, and all secrets that it received.
struct Confessional {
    world: World,
    process: Process,
    secrets: Vec<(&'static str, String)>,
    /// Answers of the gateway that are not successful logins, headers and all.
    answers: String,
}

impl Confessional {
    fn new(level: &str) -> Self {
        let world = World::with_backend(
            Backend::with(|_| Reply::ok(b"ok")),
            &format!(
                "
wechat: {{ hosts: ['{{emulator}}'], timeout: 300ms, breaker: {{ failures: 1000 }} }}
tokens: {{ sources: {{ raw_authorization: true, header: X-Token, cookie: sid, websocket_query: token }} }}
telemetry: {{ log: {{ level: '{level}' }}, access_log: {{ target: file, file: '{{data}}/access.log' }} }}
routes:
  - {{ path: /, access: authenticated, upstream: backend, websocket: true }}
  - {{ path: /pub, access: public, upstream: backend }}
{NO_THROTTLE}"
            ),
        );
        let process = Process::like(&world);
        let secrets = vec![("app secret", "emulator-secret-1".to_owned())];
        Self { world, process, secrets, answers: String::new() }
    }

    fn send(&mut self, request: &str) -> Response {
        let response = self.process.connect().try_send(request.as_bytes());
        self.note(&response);
        response
    }

    fn note(&mut self, response: &Response) {
        let is_grant = response.status == 200 && response.text().contains("access_token");
        self.answers += &format!("{} {:?}\n", response.status, response.headers);
        if !is_grant {
            self.answers += &response.text();
        }
    }

    fn login_with(&mut self, code: &str, fault: Option<Effect>) -> Response {
        self.secrets.push(("code", code.to_owned()));
        self.world.emulator.clear_faults();
        if let Some(effect) = fault {
            self.world.emulator.inject(InjectedFault::new(effect));
        }
        let body = format!(r#"{{"code":"{code}"}}"#);
        self.send(&format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn sign_in(&mut self, person: &str) -> String {
        let code = self.world.code(person);
        let response = self.login_with(&code, None);
        assert_eq!(response.status, 200, "{}", response.text());
        let token = response.json()["access_token"].as_str().unwrap().to_owned();
        self.secrets.push(("token", token.clone()));
        self.secrets.extend(token.split('.').skip(1).map(|part| ("part of a token", part.to_owned())));
        self.secrets.push(("session key", self.world.emulator.session_key(APPID, person).unwrap()));
        self.secrets.push(("openid", self.world.emulator.openid(APPID, person)));
        self.secrets.push(("unionid", self.world.emulator.unionid(APPID, person).unwrap()));
        token
    }
}

trait TrySend {
    fn try_send(&mut self, request: &[u8]) -> Response;
}

impl TrySend for Connection {
    /// As `send`; a connection closed without an answer is status 0.
    fn try_send(&mut self, request: &[u8]) -> Response {
        _ = std::io::Write::write_all(&mut self.stream, request);
        let response = self.try_read_response(request.starts_with(b"HEAD "));
        response.unwrap_or(Response { status: 0, headers: Vec::new(), body: Vec::new() })
    }
}

#[test]
fn nothing_secret_is_said_at_any_level() {
    for level in ["debug", "trace", "trace,pingora=trace"] {
        let mut heard = Confessional::new(level);

        let token = heard.sign_in("alice");
        heard.sign_in("bob");
        logins_that_fail(&mut heard);
        requests_with_tokens(&mut heard, &token);
        malformed_requests(&mut heard, &token);
        bad_configurations(&mut heard);
        let private_key = heard.process.read("state/signing-key.pem");
        heard.secrets.extend(
            private_key
                .lines()
                .filter(|line| !line.starts_with('-'))
                .map(|line| ("private key", line.to_owned())),
        );
        let admin: Vec<String> = ["/metrics", "/livez", "/readyz", "/status", "/sessions", "/debug", "/"]
            .iter()
            .map(|path| heard.process.admin(path))
            .collect();
        heard.process.signal("TERM");
        assert_eq!(heard.process.wait(), Some(0));

        let Confessional { process, secrets, answers, .. } = &heard;
        let outputs = [
            ("standard error", process.stderr()),
            ("standard output", process.read("stdout")),
            ("access log", process.read("access.log")),
            ("admin listener", admin.concat()),
            ("answers", answers.clone()),
        ];
        assert!(outputs[0].1.lines().count() > 50, "the log says nothing: {}", outputs[0].1);
        assert!(outputs[2].1.lines().count() > 50, "the access log says nothing");
        assert!(secrets.len() > 60);
        for (place, text) in &outputs {
            for (kind, secret) in secrets {
                let at = text.find(secret.as_str());
                let line = at.map(|at| {
                    text[..at].rfind('\n').map_or(0, |start| start + 1)
                        ..text[at..].find('\n').map_or(text.len(), |end| at + end)
                });
                assert!(at.is_none(), "{place} names a {kind} at level {level}: {}", &text[line.unwrap()]);
            }
        }
    }
}

fn logins_that_fail(heard: &mut Confessional) {
    let set = |name: &str, value| Effect::Set([(name.to_owned(), value)].into_iter().collect());
    heard.secrets.push(("openid", "o-hostile\r\nX-Role".into()));
    heard.secrets.push(("session key", "bm90IDE2IGJ5dGVzIGxvbmc".into()));
    for effect in [
        Effect::errcode(-1),
        Effect::errcode(40029),
        Effect::errcode(40163),
        Effect::errcode(45011),
        Effect::errcode(45009),
        Effect::errcode(41008),
        Effect::errcode(99999),
        Effect::ErrcodeAsText,
        Effect::HtmlPage,
        Effect::BadGateway,
        Effect::TruncatedJson,
        Effect::TruncatedBody,
        Effect::Gzip,
        Effect::HugeBody(menshen::config::ByteSize::kib(65)),
        Effect::ShortSessionKey,
        Effect::Omit(vec!["openid".into()]),
        Effect::DropBefore,
        Effect::DropAfter,
        Effect::ResetAfter,
        Effect::DelayAfter(menshen::config::Duration::from_secs(20)),
        set("openid", json!("o-hostile\r\nX-Role")),
        set("session_key", json!("bm90IDE2IGJ5dGVzIGxvbmc=")),
        set("unionid", json!({"session_key": "bm90IDE2IGJ5dGVzIGxvbmc="})),
        set("errcode", json!("bm90IDE2IGJ5dGVzIGxvbmc")),
        set("errmsg", json!("rid: bm90IDE2IGJ5dGVzIGxvbmc")),
    ] {
        let code = heard.world.code("alice");
        heard.login_with(&code, Some(effect));
    }
    for (person, state) in
        [("alice", CodeState::Used), ("alice", CodeState::Expired), ("mallory", CodeState::Fresh)]
    {
        let code = heard.world.emulator.wx_login_as(APPID, person, state).unwrap();
        heard.login_with(&code, None);
        // Once more, from memory; and as another user.
        heard.login_with(&code, None);
    }
    for code in ["made-up-code-1", "made-up-code-2&appid=x", "made-up-code-3\\u0000", "made-up-code-4\" x"] {
        heard.login_with(code, None);
    }
    // WeChat itself is gone, then the app is wrong.
    let code = heard.world.code("alice");
    heard.login_with(&code, Some(Effect::errcode(40125)));
}

fn requests_with_tokens(heard: &mut Confessional, token: &str) {
    let forged = format!("{}.forged-part-of-a-token", token.rsplit_once('.').unwrap().0);
    heard.secrets.push(("forged token", "forged-part-of-a-token".into()));
    let (head, rest) = token.split_once('.').unwrap();
    let unknown_key = format!("{}x.{rest}", &head[..head.len() - 1]);
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for token in [token, &forged, &unknown_key, "short-junk-token"] {
        for headers in [
            format!("Authorization: Bearer {token}\r\n"),
            format!("Authorization: {token}\r\n"),
            format!("Authorization: Basic {token}\r\n"),
            format!("X-Token: {token}\r\n"),
            format!("Cookie: sid={token}\r\n"),
            format!("Authorization: Bearer {token}\r\nX-Token: another-{token}\r\n"),
            format!("Referer: https://x/?token={token}\r\n"),
            format!("User-Agent: {token}\r\n"),
            format!("X-Request-Id: {token}\r\n"),
            format!("X-Forwarded-For: {token}\r\nForwarded: for={token}\r\n"),
            format!("X-WX-OPENID: {token}\r\nX_WX_OPENID: {token}\r\n"),
        ] {
            heard.send(&format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\n{headers}\r\n"));
            heard.send(&format!("GET /pub HTTP/1.1\r\nHost: gateway.test\r\n{headers}\r\n"));
        }
        heard.send(&format!("GET /x?token={token} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        heard.send(&format!("GET /ws?token={token} HTTP/1.1\r\nHost: gateway.test\r\n{websocket}\r\n"));
        heard.send(&format!("GET /pub?a=b&token={token} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        heard.send(&format!("GET /auth/login?code={token} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
    }
    heard.secrets.push(("junk token", "short-junk-token".into()));
}

/// What Pingora or the admission refuses before the route is known.
fn malformed_requests(heard: &mut Confessional, token: &str) {
    let long = "x".repeat(40_000);
    for request in [
        format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\nAuthorization Bearer {token}\r\n\r\n"),
        format!(
            "GET /x HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\nX-Long: {long}\r\n\r\n"
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: gateway.test\r\nHost: other\r\nAuthorization: Bearer {token}\r\n\r\n"
        ),
        format!("GET /x?token={token} HTTP/9.9\r\nHost: gateway.test\r\n\r\n"),
        format!("GET /x?token={token}#x HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
        format!("GET /x%zz?token={token} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
        format!("GET http://other/?token={token} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
        format!("GET /x?token={token} HTTP/1.1\r\nHost: gateway.test/{token}\r\n\r\n"),
        format!("{token} /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
        format!("CONNECT gateway.test:1?token={token} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: {token}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {token}\r\n\r\n"),
        format!("{token}\r\n\r\n"),
    ] {
        heard.send(&request);
    }
}

/// What a configuration with a mistake in it says of itself.
fn bad_configurations(heard: &mut Confessional) {
    let good = fs::read_to_string(heard.process.config()).unwrap();
    let secrets = ["top-secret-inline", "top-secret-password", "another-top-secret"];
    heard.secrets.extend(secrets.map(|secret| ("configured secret", secret.to_owned())));
    for (from, to) in [
        ("secret: emulator-secret-1", "secret: { inline: top-secret-inline }"),
        ("secret: emulator-secret-1", "secret: [top-secret-inline]"),
        ("secret: emulator-secret-1", "secret: top-secret-inline, secret: another-top-secret"),
        ("secret: emulator-secret-1", "secrt: top-secret-inline"),
        ("secret: emulator-secret-1 }", "secret: top-secret-inline ]"),
        ("secret: emulator-secret-1 }", "secret: \"top-secret-inline"),
        ("hosts: ['http://", "hosts: ['https://user:top-secret-password@example.com', 'http://"),
        ("tokens: {", "tokens: { keys: [{ kid: k, algorithm: HS256, secret: top-secret-inline }],"),
        ("tokens: {", "tokens: { keys: [{ kid: k, algorithm: ES256, secret: top-secret-inline }],"),
        ("tokens: {", "tokens: { keys: top-secret-inline,"),
    ] {
        assert!(good.contains(from), "{from}");
        let refused = heard.process.stderr().matches("kept the old configuration").count();
        fs::write(heard.process.config(), good.replace(from, to)).unwrap();
        heard.process.signal("HUP");
        eventually("the mistake is named", || {
            heard.process.stderr().matches("kept the old configuration").count() > refused
        });
    }
    fs::write(heard.process.config(), &good).unwrap();
    heard.process.signal("HUP");
    eventually("the good one is loaded", || {
        heard.process.stderr().contains("loaded the configuration again")
    });
}
