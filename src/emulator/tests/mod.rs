//! The emulator's contract, over real sockets.

mod access_token;
mod client;
mod control;
mod exchange;
mod fault;
mod log;

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::{ManualClock, Timestamp};
use crate::entropy::SystemEntropy;

use super::{Config, Emulator, Running};
use client::{Client, Seen};

const APP_1: &str = "wxe000000000000001";
const SECRET_1: &str = "emulator-secret-1";
const APP_2: &str = "wxe000000000000002";
const SECRET_2: &str = "emulator-secret-2";
const APP_3: &str = "wxe000000000000003";
const SECRET_3: &str = "emulator-secret-3";

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

    async fn order(&self, endpoint: &str, body: Value) -> Value {
        let seen = self.post(&format!("/__emu/{endpoint}"), &body).await;
        assert_eq!(seen.status, 200, "{}", seen.text());
        seen.json()
    }
}

fn exchange(appid: &str, secret: &str, code: &str) -> String {
    format!("/sns/jscode2session?appid={appid}&secret={secret}&js_code={code}&grant_type=authorization_code")
}

/// Whether two JSON values are the same, said with both when not.
fn assert_json(seen: &Value, expected: Value) {
    assert_eq!(*seen, expected, "seen: {seen}, expected: {}", json!(expected));
}
