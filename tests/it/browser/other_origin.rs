//! A page at another origin than the gateway's (H5): it signs in, refreshes and calls, as far as
//! its origin is listed.

use std::time::Duration;

use menshen::emulator::Config;
use serde_json::{Value, json};

use super::confirm_on_phone;
use crate::common::browser::{Browser, Tab};
use crate::common::site::{ACCOUNT_APPID, SITE_APPID};
use crate::common::{Backend, Reply, Site};

/// What a page of another origin does, by itself: it goes to WeChat with a state of its own, brings
/// the code to the gateway, and keeps the tokens.
const SCRIPT: &str = r"
const json = { 'content-type': 'application/json' };
const told = async answer => [answer.status, await answer.json().catch(() => null)];
const ask = (path, options) => fetch(GATEWAY + path, options).then(told, error => ['network error', error.name]);
const goToWeChat = () => {
    sessionStorage.state = crypto.randomUUID().replaceAll('-', '');
    const parameters = { appid: APPID, redirect_uri: location.href, response_type: 'code', scope: 'snsapi_base', state: sessionStorage.state };
    location.href = `${WECHAT}/connect/oauth2/authorize?${new URLSearchParams(parameters)}#wechat_redirect`;
};
const post = (path, body) => ask(path, { method: 'POST', headers: json, body: JSON.stringify(body) });
const keep = ([status, tokens]) => { if (status === 200) window.tokens = tokens; return status; };
const signIn = async () => {
    const query = new URLSearchParams(location.search);
    if (query.get('state') !== sessionStorage.state) return 'not my sign-in';
    return keep(await post('/auth/login', { app: 'account', code: query.get('code') }));
};
const refresh = async () => keep(await post('/auth/refresh', { refresh_token: tokens.refresh_token }));
const call = (path, method = 'GET', more = {}) =>
    ask(path, { method, headers: { authorization: `Bearer ${tokens.access_token}`, ...more } });
";

/// A server of pages, whose scripts know the gateway once there is one.
fn pages() -> Backend {
    Backend::with(|_| {
        let html = "<!doctype html><meta charset=utf-8><title>h5</title>";
        let header = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length:";
        Reply::Bytes(format!("{header} {}\r\n\r\n{html}", html.len()).into_bytes())
    })
}

/// A gateway whose policies list these origins.
fn site(origins: &[&str], credentials: bool) -> Site {
    let cors =
        format!("cors: {{ origins: {origins:?}, credentials: {credentials}, methods: [PUT, DELETE] }}");
    let routes = format!(
        "\n{cors}\nroutes:\n  - {{ name: api, path: /api, access: authenticated, upstream: backend, websocket: true, {cors} }}\n"
    );
    let backend = Backend::with(|request| {
        let openid = request.header("x-wx-openid").pop().unwrap_or_default();
        let body = json!({ "openid": openid }).to_string();
        Reply::ok(body.as_bytes())
    });
    let with_code_login = "scope: snsapi_userinfo, code_login: true }";
    Site::with_parts(
        Config::default(),
        backend,
        &[("scope: snsapi_userinfo }", with_code_login), ("\nroutes:\n", &routes)],
    )
}

/// Gives the page its script. Scripts of a tab are lost when it goes on.
fn prepare(tab: &Tab<'_>, site: &Site) {
    let known = format!(
        "var GATEWAY = '{}', WECHAT = '{}', APPID = '{ACCOUNT_APPID}';",
        site.origin(),
        site.world.emulator_url()
    );
    let script = SCRIPT.replace("\nconst ", "\nvar ");
    tab.evaluate(&format!("{known}{script}; null"));
}

/// WeChat's browser on a phone of this person, at a page.
fn open_in_wechat<'a>(browser: &'a Browser, person: &str, url: &str) -> Tab<'a> {
    let tab = browser.open("about:blank");
    tab.set_user_agent(&format!(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.60 NetType/WIFI Language/zh_CN wxid/{person}"
    ));
    tab.go(url);
    tab
}

fn of_another(network_error: &Value) -> bool {
    *network_error == json!(["network error", "TypeError"])
}

/// `localhost` and `127.0.0.1` are two sites.
#[test]
fn page_of_another_site_signs_in_refreshes_and_calls_with_tokens() {
    let pages = pages();
    let h5 = format!("http://localhost:{}", pages.address().port());
    let site = site(&[&h5], false);
    let browser = Browser::start();
    let tab = open_in_wechat(&browser, "bob", &format!("{h5}/shop"));
    prepare(&tab, &site);
    assert_eq!(
        tab.evaluate("ask('/api/orders').then(([status, it]) => [status, it.code])"),
        json!([401, "no_token"])
    );

    tab.evaluate("goToWeChat()");
    tab.wait_for_url(&format!("{h5}/shop?code="));
    prepare(&tab, &site);
    assert_eq!(tab.evaluate("signIn()"), json!(200));

    let openid = site.world.emulator.openid(ACCOUNT_APPID, "bob");
    let answered = json!([200, { "openid": openid }]);
    for method in ["GET", "POST", "PUT", "DELETE"] {
        assert_eq!(tab.evaluate(&format!("call('/api/orders', '{method}')")), answered, "{method}");
    }
    assert_eq!(tab.evaluate("refresh()"), json!(200));
    assert_eq!(tab.evaluate("call('/api/orders')"), answered);
    let session = tab.evaluate("call('/auth/session')");
    assert_eq!((&session[0], &session[1]["app"]), (&json!(200), &json!("account")));

    // The page learns why it is refused, and what to do.
    site.world.clock.advance(Duration::from_secs(3 * 3600));
    let code = "call('/api/orders').then(([status, it]) => [status, it.code])";
    assert_eq!(tab.evaluate(code), json!([401, "invalid_token"]));
    assert_eq!(tab.evaluate("refresh()"), json!(200));
    assert_eq!(tab.evaluate("call('/api/orders')"), answered);
    let nothing = "call('/auth/nothing').then(([status, it]) => [status, it.code])";
    assert_eq!(tab.evaluate(nothing), json!([404, "endpoint_unknown"]));
    // What the policy does not have is not sent.
    let asked = site.world.backend.count();
    assert!(of_another(&tab.evaluate("call('/api/orders', 'PATCH')")));
    assert!(of_another(&tab.evaluate("call('/api/orders', 'GET', { 'x-other': '1' })")));
    assert_eq!(site.world.backend.count(), asked);
    let preflights =
        site.world.backend.requests().iter().filter(|request| request.head.starts_with("OPTIONS")).count();
    assert_eq!(preflights, 0, "the gateway answered them all");
}

#[test]
fn page_of_an_unlisted_origin_learns_nothing_and_sends_no_code() {
    let (listed, unlisted) = (pages(), pages());
    let site = site(&[&format!("http://localhost:{}", listed.address().port())], true);
    let browser = Browser::start();
    for host in ["localhost", "127.0.0.1"] {
        let tab = browser.open(&format!("http://{host}:{}/", unlisted.address().port()));
        prepare(&tab, &site);
        tab.evaluate("tokens = { access_token: 'eyJ.x.y', refresh_token: 'x' }");

        for script in [
            "ask('/api/orders')",
            "call('/api/orders')",
            "call('/api/orders', 'PUT')",
            "ask('/auth/session', { credentials: 'include' })",
            "post('/auth/login', { app: 'account', code: 'guess' })",
            "post('/auth/refresh', { refresh_token: 'guess' })",
        ] {
            assert!(of_another(&tab.evaluate(script)), "{host} {script}");
        }
    }
    assert_eq!(site.exchanges(), 0);
    assert_eq!(site.world.backend.count(), 0);
    assert_eq!(
        site.world
            .metric(r#"menshen_logins_total{flow="mini_program",outcome="code_invalid",provider="wechat"}"#),
        0.0
    );
}

/// Two ports of one host are two origins of one site: the browser sends the cookie.
#[test]
fn listed_page_of_the_same_site_uses_the_session_cookie_and_others_do_not() {
    let (listed, unlisted) = (pages(), pages());
    let at = |host: &str, pages: &Backend| format!("http://{host}:{}", pages.address().port());
    let (near, far) = (at("127.0.0.1", &listed), at("localhost", &listed));
    let site = site(&[&near, &far], true);
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    tab.wait_for_text("openid");
    let openid = site.world.emulator.openid(SITE_APPID, "alice");
    let answered = json!([200, { "openid": openid }]);
    let send = |method: &str| {
        format!(
            "ask('/api/x', {{ method: '{method}', credentials: 'include', body: {} }})",
            if method == "GET" { "undefined" } else { "'x'" }
        )
    };

    tab.go(&near);
    prepare(&tab, &site);
    for method in ["GET", "POST", "PUT"] {
        assert_eq!(tab.evaluate(&send(method)), answered, "{method}");
    }
    let changed = site.world.backend.count();
    let open = "new Promise(done => { const socket = new WebSocket(GATEWAY.replace('http', 'ws') + '/api/ws'); socket.onopen = socket.onerror = () => done(null); })";
    tab.evaluate(open);
    assert_eq!(site.asked("/api/ws"), 1, "the WebSocket of a listed page reaches the backend");

    // Another site gets no cookie from the browser, though it is listed.
    tab.go(&far);
    prepare(&tab, &site);
    assert_eq!(tab.evaluate(&send("POST"))[1]["code"], "no_token");
    // A neighbour that is not listed gets the browser to send the cookie, and the gateway refuses.
    tab.go(&at("127.0.0.1", &unlisted));
    prepare(&tab, &site);
    for method in ["GET", "POST", "PUT"] {
        assert!(of_another(&tab.evaluate(&send(method))), "{method}");
    }
    tab.evaluate(open);
    let asked = |method: &str| {
        let requests = site.world.backend.requests();
        requests
            .iter()
            .skip(changed)
            .filter(|request| request.request_line() == format!("{method} /api/x HTTP/1.1"))
            .count()
    };
    assert_eq!((asked("GET"), asked("POST"), asked("PUT")), (1, 0, 0), "a GET is sent, and not shown");
    assert_eq!(site.asked("/api/ws"), 1);

    tab.go(&near);
    prepare(&tab, &site);
    let sign_out =
        "ask('/auth/logout', { method: 'POST', credentials: 'include', headers: json, body: '{}' })";
    assert_eq!(tab.evaluate(sign_out), json!([204, null]));
    assert_eq!(tab.evaluate(&send("GET"))[0], json!(401));
    assert_eq!(browser.cookie("__Host-menshen"), None);
}
