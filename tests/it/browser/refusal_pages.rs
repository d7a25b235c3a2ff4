//! What a user reads who opens a page and does not get it: a page in the user's language, whichever
//! layer refuses. A program that sends the same request gets a problem document.

use menshen::emulator::Config;
use serde_json::{Value, json};

use crate::common::browser::{self, Browser};
use crate::common::{Connection, Response, Site, Visitor, eventually};

const NAVIGATE: &str =
    "Accept: text/html,*/*;q=0.8\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
const LANGUAGES: [(&str, &str); 2] = [("zh", "zh-CN,zh"), ("en", "en-US,en")];

/// A site with a route for each way to refuse.
fn site() -> Site {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstreams =
        format!("\nupstreams:\n  backend: {{ servers: ['{{backend}}'] }}\n  gone: {{ servers: ['{gone}'] }}");
    let routes = "
  - { name: gone, path: /gone, access: public, upstream: gone }
  - { name: slow, path: /slow, access: public, upstream: backend, read_timeout: 100ms }
  - { name: write-only, path: /write-only, methods: [POST], access: public, upstream: backend }
  - { name: rare, path: /rare, access: public, rate_limits: [{ by: address, rate: 1/h, burst: 1 }], upstream: backend }
  - { name: api, path: /api, access: authenticated, apps: [shop], upstream: backend }
  - { name: elsewhere, path: /elsewhere, hosts: [elsewhere.test], access: public, upstream: backend }
";
    Site::with_parts(
        Config::default(),
        crate::common::Backend::with(|request| {
            if request.target().starts_with("/slow") {
                std::thread::park_timeout(std::time::Duration::from_millis(400));
            }
            crate::common::Reply::ok(b"x")
        }),
        &[
            ("\nroutes:\n", &format!("{upstreams}\nroutes:{routes}")),
            ("  - { name: protected, path: /, access", "  - { name: protected, path: /page, access"),
        ],
    )
}

/// Every refusal that a client can cause: what it sends, the status and the reason.
fn table() -> Vec<(String, u16, &'static str)> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {{origin}}\r\n");
    vec![
        (get("/nothing"), 404, "route_unknown"),
        (get("/write-only"), 405, "method_not_allowed"),
        (get("/auth/nothing"), 404, "endpoint_unknown"),
        (get("/auth/refresh"), 405, "method_not_allowed"),
        (get("/auth/session"), 401, "no_token"),
        (get("/api"), 401, "no_token"),
        (get("/gone"), 502, "upstream_unreachable"),
        (get("/slow"), 504, "upstream_timeout"),
        (get("/rare"), 429, "rate_limited"),
        (get("/pub/%2e%2e/x"), 400, "path_refused"),
        (get(&format!("/{}", "x".repeat(20_000))), 414, "target_too_long"),
        (format!("{}Expect: x\r\n", get("/pub")), 417, "expectation_failed"),
        // Before Pingora reads them.
        ("GET /pub HTTP/1.2\r\nHost: a\r\n".into(), 400, "request_line_malformed"),
        (format!("{}X-A : b\r\n", get("/pub")), 400, "header_name_refused"),
        (format!("{}X-A: \u{1}\r\n", get("/pub")), 400, "header_value_malformed"),
        (format!("{}Content-Length: +1\r\n", get("/pub")), 400, "framing_ambiguous"),
        ("GET /pub HTTP/1.1\r\n".into(), 400, "host_malformed"),
    ]
}

fn send(site: &Site, head: &str, lines: &str) -> Response {
    let origin = format!("127.0.0.1:{}", site.port());
    let request = format!("{}{lines}\r\n", head.replace("{origin}", &origin));
    Connection::open(site.world.address()).send(request.as_bytes())
}

fn access_log(site: &Site) -> Vec<Value> {
    let text = std::fs::read_to_string(site.world.data.path().join("access.log")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_refusal_is_a_page_for_a_user_and_a_document_for_a_program() {
    let site = site();
    // Takes the one request of the hour.
    assert_eq!(send(&site, "GET /rare HTTP/1.1\r\nHost: a\r\n", "").status, 200);
    for (head, status, reason) in table() {
        let shown: String = head.chars().take(80).collect();
        for (language, lines) in [("zh-CN", "zh-CN,zh"), ("en", "en-US")] {
            let page = send(&site, &head, &format!("{NAVIGATE}Accept-Language: {lines}\r\n"));

            assert_eq!(page.status, status, "{shown}: {}", page.text());
            assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{shown}");
            assert_eq!(page.header("content-language"), Some(language), "{shown}");
            assert_eq!(page.header("cache-control"), Some("no-store"), "{shown}");
            assert_eq!(page.header("x-frame-options"), Some("DENY"), "{shown}");
            let id = page.header("x-request-id").unwrap();
            assert!(page.text().contains(&format!("<code>{id}</code>")), "{shown}");
            eventually("it is logged", || access_log(&site).iter().any(|line| line["request_id"] == id));
            let log = access_log(&site);
            let line = log.iter().find(|line| line["request_id"] == id).unwrap();
            assert_eq!((&line["reason"], &line["decision"]), (&reason.into(), &"refused".into()), "{shown}");
        }
        let document = send(&site, &head, "Accept: application/json\r\n");

        assert_eq!(document.status, status, "{shown}");
        // RFC 6749 has a document of its own for those who ask for tokens.
        let form = if shown.contains("/auth/refresh") { "json" } else { "problem+json" };
        assert_eq!(document.header("content-type"), Some(&*format!("application/{form}")), "{shown}");
        assert_eq!(document.json()["code"], reason, "{shown}");
        let page = send(&site, &head, NAVIGATE);
        for name in ["retry-after", "allow", "www-authenticate", "ratelimit"] {
            let has = |response: &Response| response.header(name).is_some();
            assert_eq!(has(&page), has(&document), "{shown}: {name}");
        }
    }
}

#[test]
fn a_host_that_is_no_origin_has_a_reason_of_its_own_and_stands_in_the_log_with_its_port() {
    let site = site();
    for (path, status) in [("/page", 401), ("/auth/login", 404), ("/auth/web/site/start", 404)] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: Other.Example:8443\r\n");
        let page = send(&site, &head, NAVIGATE);

        assert_eq!((page.status, page.header("location")), (status, None), "{path}");
        assert!(page.text().contains("login.origins") && page.text().contains("server.address"), "{path}");
        let id = page.header("x-request-id").unwrap();
        eventually("it is logged", || access_log(&site).iter().any(|line| line["request_id"] == id));
        let log = access_log(&site);
        let line = log.iter().find(|line| line["request_id"] == id).unwrap();
        assert_eq!(
            (&line["reason"], &line["server.address"]),
            (&"origin_unknown".into(), &"Other.Example:8443".into()),
            "{path}"
        );
    }
    // A program needs no origin, and is told what it lacks.
    let document = send(&site, "GET /page HTTP/1.1\r\nHost: Other.Example:8443\r\n", "");
    assert_eq!((document.status, document.json()["code"].as_str()), (401, Some("no_token")));
    assert!(site.world.metric(r#"menshen_refused_requests_total{reason="origin_unknown"}"#) >= 3.0);
}

#[test]
fn pages_of_refusals_fit_a_phone_and_a_desktop_in_both_languages() {
    let site = site();
    assert_eq!(send(&site, "GET /rare HTTP/1.1\r\nHost: a\r\n", "").status, 200);
    let pages = ["/nothing", "/write-only", "/api", "/gone", "/rare", "/auth/login?app=account"];
    for (language, languages) in LANGUAGES {
        let browser = Browser::speaking(languages);
        let elsewhere = site.url("/page").replace("127.0.0.1", "other.localhost");
        let addresses = pages.map(|path| site.url(path));
        for (width, height) in [(390, 844), (1280, 800)] {
            for url in addresses.iter().chain([&elsewhere]) {
                let tab = browser.open("about:blank");
                tab.set_size(width, height);
                if width < 600 {
                    tab.set_user_agent(PHONE);
                }
                tab.go(url);
                tab.wait_for("h1");
                let fits = tab.evaluate("document.documentElement.scrollWidth <= innerWidth");
                assert_eq!(fits, json!(true), "{url}");
                let name: String =
                    url.rsplit('/').next().unwrap().chars().filter(char::is_ascii_alphanumeric).collect();
                tab.screenshot(
                    &browser::screenshots().join(format!("refusal-{name}-{language}-{width}x{height}.png")),
                );
            }
        }
    }
}

/// Whoever prefers dark pages reads light text on them, also in the button.
#[test]
fn pages_are_dark_for_those_who_prefer_it() {
    let site = Site::new();
    let browser = Browser::speaking("en-US,en");
    for (name, path) in [("sign-in", "/auth/login?app=site&app=account"), ("message", "/auth/login?app=none")]
    {
        let tab = browser.open("about:blank");
        tab.set_size(390, 844);
        tab.set_user_agent(PHONE);
        tab.prefer_dark();
        tab.go(&site.url(path));
        tab.wait_for("h1");
        let contrast = tab.evaluate(
            "const light = (element, what) => getComputedStyle(element)[what].match(/\\d+/g).slice(0, 3) \
                 .reduce((sum, part) => sum + Number(part), 0); \
             [light(document.body, 'backgroundColor') < 200, light(document.querySelector('h1'), 'color') > 500]",
        );
        assert_eq!(contrast, json!([true, true]), "{name}");
        tab.screenshot(&browser::screenshots().join(format!("dark-{name}.png")));
    }
}

#[test]
fn a_phone_gets_a_button_that_copies_the_address() {
    let site = Site::new();
    for (language, languages) in LANGUAGES {
        let browser = Browser::speaking(languages);
        for path in
            ["/auth/login?return_to=%2F&app=site&app=account", "/auth/login?return_to=%2F&app=account"]
        {
            let tab = browser.open("about:blank");
            tab.set_size(390, 844);
            tab.set_user_agent(PHONE);
            tab.go(&site.url(path));
            tab.wait("the button is shown", |tab| {
                tab.evaluate("!document.getElementById('copy').hidden") == json!(true)
            });
            let kind = if path.contains("site") { "both" } else { "account" };
            tab.screenshot(&browser::screenshots().join(format!("copy-{kind}-{language}.png")));
            let label = tab.evaluate("document.getElementById('copy').textContent");

            // What it writes is read where it is written: a headless browser has no clipboard.
            tab.evaluate(
                "navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve() }",
            );
            tab.click("#copy");

            tab.wait("the button says so", |tab| {
                tab.evaluate("document.getElementById('copy').textContent") != label
            });
            assert_eq!(tab.evaluate("window.copied"), json!(site.url(path)));
        }
    }
}

#[test]
fn a_browser_that_shows_a_page_of_the_gateway_asks_for_no_icon() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    tab.wait_for("h1");
    let icon = tab.evaluate("document.querySelector('link[rel=icon]').href.slice(0, 26)");
    assert_eq!(icon, json!("data:image/svg+xml;base64,"));
    // The icon is allowed by the policy of the page.
    let loads = "new Promise(done => { const i = new Image(); i.onload = () => done(true); \
                 i.onerror = () => done(false); i.src = document.querySelector('link[rel=icon]').href })";
    assert_eq!(tab.evaluate(loads), json!(true));
    Visitor::at(site.world.address()).open("/last");
    eventually("the last one is logged", || access_log(&site).iter().any(|line| line["url.path"] == "/last"));
    let asked: Vec<_> = access_log(&site).iter().map(|line| line["url.path"].clone()).collect();
    assert!(!asked.iter().any(|path| path == "/favicon.ico"), "{asked:?}");
}
