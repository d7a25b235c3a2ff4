//! The emulator's contract, over real sockets.

mod access_token;
mod authorization;
mod client;
mod control;
mod exchange;
mod fault;
mod log;
mod page;
mod qr_code;
mod sns;

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::{ManualClock, Timestamp};
use crate::entropy::SystemEntropy;

use super::{Config, EmulatedSignIn, Emulator, Running};
use client::{Client, Seen};

const APP_1: &str = "wxe000000000000001";
const SECRET_1: &str = "emulator-secret-1";
const APP_2: &str = "wxe000000000000002";
const SECRET_2: &str = "emulator-secret-2";
const APP_3: &str = "wxe000000000000003";
const SECRET_3: &str = "emulator-secret-3";

/// A website and an official account, of one platform with app 1.
const WEBSITE: &str = "wxe000000000000004";
const WEBSITE_SECRET: &str = "emulator-secret-4";
const OFFICIAL: &str = "wxe000000000000005";
const OFFICIAL_SECRET: &str = "emulator-secret-5";
const CALLBACK: &str = "http://127.0.0.1:8080/auth/web/site/callback";

/// 2026-11-21T00:00:00Z: the start of a minute and of a day.
const START: Timestamp = Timestamp::from_seconds(1_795_219_200);

struct WeChat {
    emulator: Arc<Emulator>,
    running: Running,
}

fn wechat() -> WeChat {
    wechat_with(Config::default())
}

fn wechat_with(config: Config) -> WeChat {
    let clock = Arc::new(ManualClock::start_at(START));
    let emulator = Emulator::new(config, clock, Arc::new(SystemEntropy));
    let running = emulator.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    WeChat { emulator, running }
}

impl WeChat {
    async fn try_send(&self, method: &str, target: &str, body: &str) -> io::Result<Seen> {
        Client::connect(self.running.address).await.send(method, target, body).await
    }

    async fn get(&self, target: &str) -> Seen {
        self.try_send("GET", target, "").await.unwrap()
    }

    async fn post(&self, target: &str, body: &Value) -> Seen {
        self.try_send("POST", target, &body.to_string()).await.unwrap()
    }

    /// Exchanges a code with app 1's own name and secret.
    async fn exchange(&self, code: &str) -> Seen {
        self.get(&exchange(APP_1, SECRET_1, code)).await
    }

    async fn try_exchange(&self, code: &str) -> io::Result<Seen> {
        self.try_send("GET", &exchange(APP_1, SECRET_1, code), "").await
    }

    /// A fresh code of alice in app 1.
    fn code(&self) -> String {
        self.emulator.wx_login(APP_1, "alice").unwrap()
    }

    /// A request of a browser inside WeChat.
    async fn get_in_wechat(&self, target: &str) -> Seen {
        let headers = "User-Agent: Mozilla/5.0 (Linux; Android 14) MicroMessenger/8.0.49 wxid/bob\r\n";
        Client::connect(self.running.address).await.send_as(headers, "GET", target, "").await.unwrap()
    }

    /// A code of a sign-in page.
    fn page_code(&self, appid: &str, wxid: &str, scope: &str) -> String {
        let order = EmulatedSignIn {
            appid: appid.into(),
            wxid: wxid.into(),
            redirect_uri: CALLBACK.into(),
            scope: scope.into(),
            state: "abc".into(),
        };
        self.emulator.sign_in(&order).unwrap().code
    }

    async fn order(&self, endpoint: &str, body: Value) -> Value {
        let seen = self.post(&format!("/__emu/{endpoint}"), &body).await;
        assert_eq!(seen.status, 200, "{}", seen.text());
        seen.json()
    }
}

fn exchange(appid: &str, secret: &str, code: &str) -> String {
    format!("/sns/jscode2session?appid={appid}&secret={secret}&js_code={code}&grant_type=authorization_code")
}

fn token(appid: &str, secret: &str, code: &str) -> String {
    format!(
        "/sns/oauth2/access_token?appid={appid}&secret={secret}&code={code}&grant_type=authorization_code"
    )
}

/// Percent-encodes a value for a query.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Asserts that two JSON values are equal, and shows both if not.
fn assert_json(seen: &Value, expected: Value) {
    assert_eq!(*seen, expected, "seen: {seen}, expected: {}", json!(expected));
}
