//! A world that users sign in to with a browser: a website, an official account and the mini
//! program.

use std::cell::RefCell;
use std::collections::BTreeSet;

use menshen::emulator::{self, QrCodeStep};

use super::{Backend, NO_THROTTLE, Reply, World, eventually};

/// The emulator's website, as the gateway's `apps.site`.
pub const SITE_APPID: &str = "wxe000000000000004";
/// The emulator's official account, as the gateway's `apps.account`.
pub const ACCOUNT_APPID: &str = "wxe000000000000005";
/// The cookie of a session.
pub const SESSION: &str = "__Host-menshen";
/// The cookie that tells a browser from another.
pub const BROWSER: &str = "__Host-menshen-browser";

/// A gateway that browsers reach at `http://127.0.0.1:{port}` and `http://localhost:{port}`.
pub struct Site {
    pub world: World,
    /// QR codes that a test was given.
    taken: RefCell<BTreeSet<String>>,
}

/// What a [`Site`] has besides routes; the official account asks for the profile.
const SECTIONS: &str = "
listeners: [{ address: '127.0.0.1:{port}' }]
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  site: { kind: website, appid: wxe000000000000004, secret: emulator-secret-4, title: 小店 }
  account: { kind: official_account, appid: wxe000000000000005, secret: emulator-secret-5, scope: snsapi_userinfo }
wechat:
  hosts: ['{emulator}']
  pages: '{emulator}'
  widget: '{emulator}/connect/zh_CN/htmledition/js/wxLogin.js'
identity_headers: { nickname: X-WX-NICKNAME, avatar: X-WX-AVATAR }
login:
  origins: ['http://127.0.0.1:{port}', 'http://localhost:{port}']
";
const ROUTES: &str = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: public, path: /pub, access: public, upstream: backend }
  - { name: optional, path: /opt, access: optional, upstream: backend }
  - { name: open, path: /open-to-others, access: authenticated, allow_cross_site: true, upstream: backend }
";

impl Site {
    pub fn new() -> Self {
        Self::with(emulator::Config::default(), &[])
    }

    /// A site before another backend than one that shows pages.
    pub fn with_backend(backend: Backend) -> Self {
        Self::over(World::with_parts(
            emulator::Config::default(),
            backend,
            &format!("{SECTIONS}{ROUTES}{NO_THROTTLE}"),
        ))
    }

    /// A site with a WeChat of the test's own, and with parts of the configuration replaced.
    pub fn with(emulator: emulator::Config, replaced: &[(&str, &str)]) -> Self {
        Self::with_parts(emulator, Backend::with(|request| page(&request.head)), replaced)
    }

    /// As [`Site::with`], before a backend of the test's own.
    pub fn with_parts(emulator: emulator::Config, backend: Backend, replaced: &[(&str, &str)]) -> Self {
        let mut sections = format!("{SECTIONS}{ROUTES}{NO_THROTTLE}");
        for (before, after) in replaced {
            assert!(sections.contains(before), "there is no `{before}` to replace");
            sections = sections.replace(before, after);
        }
        Self::over(World::with_parts(emulator, backend, &sections))
    }

    pub fn over(world: World) -> Self {
        Self { world, taken: RefCell::default() }
    }

    pub fn port(&self) -> u16 {
        self.world.address().port()
    }

    /// Where browsers reach it, without a slash at the end.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// Waits for a QR code that no test was given yet, and gives it: its name.
    pub fn next_qr_code(&self) -> String {
        let mut next = None;
        eventually("a page shows a QR code", || {
            let taken = self.taken.borrow();
            let codes = self.world.emulator.qr_codes();
            next = codes
                .into_iter()
                .find(|code| code.step == QrCodeStep::Waiting && !taken.contains(&code.uuid));
            next.is_some()
        });
        let uuid = next.unwrap().uuid;
        self.taken.borrow_mut().insert(uuid.clone());
        uuid
    }

    /// The address of the phone that scans a QR code.
    pub fn phone_url(&self, uuid: &str) -> String {
        format!("{}/connect/confirm?uuid={uuid}", self.world.emulator_url())
    }

    /// How often the backend was asked for a path; a browser asks for more than a test does, such
    /// as icons.
    pub fn asked(&self, path: &str) -> usize {
        self.world.backend.requests().iter().filter(|request| request.target() == path).count()
    }

    /// How often WeChat was asked to exchange a code that came with a browser.
    pub fn exchanges(&self) -> usize {
        self.world.emulator.calls().iter().filter(|call| call.path == "/sns/oauth2/access_token").count()
    }
}

/// A page that shows what the backend received, and has a button to sign out.
fn page(head: &str) -> Reply {
    let shown = head.replace('&', "&amp;").replace('<', "&lt;");
    let html = format!(
        "<!doctype html><meta charset=utf-8><title>backend</title><pre>{shown}</pre>\
         <form method=post action=/auth/logout><button id=logout>Sign out</button></form>"
    );
    let header = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length:";
    Reply::Bytes(format!("{header} {}\r\n\r\n{html}", html.len()).into_bytes())
}
