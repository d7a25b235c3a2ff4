//! What the other tests stand on: the emulator's pages do in a browser what WeChat's do.

use super::use_phone;
use crate::common::browser::Browser;
use crate::common::{Backend, Reply, World};

#[test]
fn qr_code_page_comes_back_once_the_phone_confirmed() {
    let world = World::new();
    // Not the world's own, which may be sent no code.
    let backend = Backend::echo();
    let browser = Browser::start();
    for has_scripts in [true, false] {
        let tab = browser.open("about:blank");
        if !has_scripts {
            tab.disable_scripts();
        }
        let back = format!("http://{}/back", backend.address());
        tab.go(&format!(
            "{}/connect/qrconnect?appid=wxe000000000000004&redirect_uri={}&response_type=code&scope=snsapi_login&state=abc",
            world.emulator_url(),
            back.replace(':', "%3A").replace('/', "%2F"),
        ));

        use_phone(&browser, &tab.href("a[href*='/connect/confirm']"), "alice", "confirm");

        tab.wait_for_url(&format!("{back}?code="));
        assert!(tab.url().ends_with("&state=abc"), "{}", tab.url());
        assert!(tab.text().starts_with("GET /back?code="), "{}", tab.text());
    }
}

#[test]
fn browser_keeps_host_cookies_of_a_gateway_on_loopback() {
    let world = World::with_backend(
        Backend::with(|_| {
            let cookie = "Set-Cookie: __Host-a=1; Path=/; Secure; HttpOnly; SameSite=Lax\r\n";
            Reply::Bytes(format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: 2\r\n\r\nok").into_bytes())
        }),
        "routes: [{ path: /, access: public, upstream: backend }]\n",
    );
    let browser = Browser::start();
    for host in ["127.0.0.1", "localhost"] {
        let tab = browser.open(&format!("http://{host}:{}/", world.address().port()));
        tab.wait_for_text("ok");
        let cookies = browser.cookies();
        assert!(cookies.iter().any(|cookie| cookie["domain"] == host), "{host}: {cookies:?}");
    }
}
