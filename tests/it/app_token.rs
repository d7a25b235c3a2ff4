//! An app's access token at WeChat: one gateway asks for all, and recovers when WeChat refuses it.
//! Real stores, and an emulated WeChat with the quota and the overlap of the real one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use menshen::app_token::{AppToken, AppTokenError, AppTokens};
use menshen::clock::{Clock, ManualClock};
use menshen::config::{self, AppKind, AppTokenApi, Duration as Span, Findings, SecretSource};
use menshen::emulator::{self, Effect, Emulator, InjectedFault};
use menshen::entropy::SystemEntropy;
use menshen::key_file::OnMissingKey;
use menshen::session::{Core, Sessions};
use menshen::store::{Embedded, Redis, Space, Store, StoreHealth};
use menshen::telemetry::metrics::Metrics;
use menshen::wechat::{WeChat, WeChatError};

use crate::common::redis::RedisServer;
use crate::common::{APPID, PATIENCE, install_crypto, leaks, loopback, now};

const LIFE: Duration = Duration::from_secs(7200);
const SECOND: Duration = Duration::from_secs(1);

/// An emulated WeChat and a store, with the clock that all share.
struct Harness {
    emulator: Arc<Emulator>,
    running: emulator::Running,
    clock: ManualClock,
    folder: tempfile::TempDir,
    stores: Stores,
    app_token: AppTokenApi,
    log_position: usize,
}

enum Stores {
    Embedded(Arc<dyn Store>),
    Redis(RedisServer),
}

/// A gateway, as far as the tokens of apps go.
struct Node {
    tokens: Arc<AppTokens>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    _sessions: Sessions,
}

impl Harness {
    fn new() -> Self {
        Self::with(emulator::Config::default(), None)
    }

    fn on_redis() -> Self {
        Self::with(emulator::Config::default(), Some(RedisServer::start()))
    }

    fn with(config: emulator::Config, redis: Option<RedisServer>) -> Self {
        install_crypto();
        let log_position = leaks::log_position();
        let clock = ManualClock::start_now();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let emulator = Emulator::new(config, Arc::clone(&shared), Arc::new(SystemEntropy));
        leaks::watch(&emulator);
        let running = emulator.listen(loopback()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stores = match redis {
            Some(server) => Stores::Redis(server),
            None => {
                let path = folder.path().join("data/sessions.redb");
                let metrics = Metrics::new().unwrap();
                let store = Embedded::open(&path, &config::EmbeddedStore::default(), shared, &metrics);
                Stores::Embedded(Arc::new(store.unwrap()))
            }
        };
        let app_token = AppTokenApi::StableToken;
        Self { emulator, running, clock, folder, stores, app_token, log_position }
    }

    fn store(&self, metrics: &Metrics) -> Arc<dyn Store> {
        let server = match &self.stores {
            Stores::Embedded(store) => return Arc::clone(store),
            Stores::Redis(server) => server,
        };
        let section = config::RedisStore {
            addresses: vec![server.address().to_string()],
            timeout: Span(Duration::from_secs(5)),
            connect_timeout: Span(Duration::from_secs(5)),
            ..config::RedisStore::default()
        };
        let mut findings = Findings::default();
        Arc::new(Redis::build(&section, metrics, &mut findings).unwrap_or_else(|| panic!("{findings:?}")))
    }

    /// A gateway that has just started.
    fn node(&self) -> Node {
        let metrics = Metrics::new().unwrap();
        let store = self.store(&metrics);
        let (clock, entropy) = (Arc::new(self.clock.clone()) as Arc<dyn Clock>, Arc::new(SystemEntropy));
        let mut findings = Findings::default();
        let health = Arc::new(StoreHealth::new(store.as_ref(), &metrics));
        let core = Arc::new(Core::new(
            Arc::clone(&store),
            health,
            Arc::clone(&clock),
            entropy.clone(),
            Arc::new(metrics.clone()),
        ));
        let sessions = Sessions::build(
            &config::Sessions::default(),
            self.folder.path(),
            OnMissingKey::Create,
            Arc::clone(&core),
            &mut findings,
        );
        let wechat = config::WeChat {
            hosts: vec![format!("http://{}", self.running.address)],
            timeout: Span(SECOND),
            ..config::WeChat::default()
        };
        let apps = self.apps();
        let wechat = WeChat::build(&wechat, &apps, &metrics, clock.clone(), entropy.clone(), &mut findings);
        let (sessions, wechat) = sessions.zip(wechat).unwrap_or_else(|| panic!("{findings:?}"));
        let tokens = AppTokens::new(Arc::new(wechat), core, clock, entropy, &metrics);
        Node { tokens, store, metrics, _sessions: sessions }
    }

    fn apps(&self) -> BTreeMap<String, config::App> {
        let app = |kind, number: u8| config::App {
            kind,
            appid: format!("wxe00000000000000{number}"),
            secret: SecretSource::Inline(format!("emulator-secret-{number}")),
            title: None,
            scope: None,
            browser_check: config::BrowserCheck::default(),
            code_login: false,
            unknown_unionid: None,
            app_token: if kind == AppKind::Website { AppTokenApi::default() } else { self.app_token },
            hand_over: None,
        };
        BTreeMap::from([
            ("shop".to_owned(), app(AppKind::MiniProgram, 1)),
            ("other".to_owned(), app(AppKind::MiniProgram, 2)),
            ("site".to_owned(), app(AppKind::Website, 4)),
        ])
    }

    /// The calls for a token so far: whether each was forced.
    fn fetches(&self) -> Vec<bool> {
        let calls = self.emulator.calls();
        let tokens =
            calls.iter().filter(|call| ["/cgi-bin/stable_token", "/cgi-bin/token"].contains(&&*call.path));
        let is_forced = |body: &serde_json::Value| body["force_refresh"] == true;
        tokens.map(|call| call.body.as_ref().is_some_and(is_forced)).collect()
    }

    /// What WeChat says to a token: 40003, for the openid is missing, if it is valid.
    async fn verdict(&self, token: &AppToken) -> i64 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let mut stream = tokio::net::TcpStream::connect(self.running.address).await.unwrap();
        let request = format!(
            "GET /wxa/checksession?access_token={} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n\r\n",
            token.expose()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()["errcode"].as_i64().unwrap()
    }

    /// All that was logged since this began.
    fn logged(&self) -> String {
        String::from_utf8_lossy(&leaks::logged_since(self.log_position)).into_owned()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let logged = self.logged();
        for token in self.emulator.app_tokens() {
            assert!(!logged.contains(&token), "a token is in the log");
        }
        leaks::assert_absent_in_files(self.folder.path());
    }
}

impl Node {
    async fn token(&self) -> AppToken {
        self.tokens.token("shop").await.unwrap()
    }

    fn fetches(&self, reason: &str) -> u64 {
        self.metrics.wechat_app_token_fetches.with_label_values(&["shop", reason]).get()
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = threads.block_on(test);
    threads.shutdown_background();
    result
}

/// Runs a test on both engines.
fn on_each_engine<F: Future<Output = ()>>(test: impl Fn(Harness) -> F) {
    run(async {
        test(Harness::new()).await;
        test(Harness::on_redis()).await;
    });
}

async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !is_true().await {
        assert!(now() < deadline, "did not happen in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn nothing_is_asked_before_a_token_is_needed_and_an_app_without_one_has_none() {
    on_each_engine(async |harness| {
        let node = harness.node();
        assert!(harness.fetches().is_empty());

        for name in ["site", "unknown"] {
            assert_eq!(node.tokens.token(name).await.unwrap_err(), AppTokenError::NoSuchToken, "{name}");
        }

        assert!(harness.fetches().is_empty());
        assert_eq!(harness.verdict(&node.token().await).await, 40003);
        assert_eq!(harness.fetches(), [false]);
    });
}

#[test]
fn all_that_need_a_token_at_once_on_all_gateways_make_one_fetch() {
    on_each_engine(async |harness| {
        let nodes = [harness.node(), harness.node()];
        // The answer is slow, so that all come while it is under way.
        harness.emulator.inject(InjectedFault::new(Effect::DelayBefore(Span(Duration::from_millis(300)))));

        let tokens = join_all((0..100).map(|number| nodes[number % 2].token())).await;

        assert!(tokens.iter().all(|token| token.is_same(&tokens[0])));
        assert_eq!(harness.fetches(), [false]);
        // And each app has a token of its own.
        let other = nodes[0].tokens.token("other").await.unwrap();
        assert!(!other.is_same(&tokens[0]));
    });
}

#[test]
fn a_token_that_all_find_expired_at_once_is_fetched_once() {
    on_each_engine(async |harness| {
        let nodes = [harness.node(), harness.node()];
        let old = nodes[0].token().await;
        assert!(nodes[1].token().await.is_same(&old));
        harness.clock.advance(LIFE);
        assert_eq!(harness.verdict(&old).await, 42001);

        let tokens = join_all((0..100).map(|number| nodes[number % 2].tokens.renew("shop", &old))).await;

        let tokens = tokens.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert!(tokens.iter().all(|token| token.is_same(&tokens[0]) && !token.is_same(&old)));
        assert_eq!(harness.fetches(), [false, false]);
    });
}

#[test]
fn a_gateway_that_starts_again_uses_the_token_that_is_stored() {
    on_each_engine(async |harness| {
        let first = harness.node().token().await;
        harness.clock.advance(Duration::from_secs(3600));

        let again = harness.node().token().await;

        assert!(again.is_same(&first));
        assert_eq!(harness.fetches(), [false]);
    });
}

#[test]
fn the_store_has_no_token_that_can_be_read() {
    on_each_engine(async |harness| {
        let node = harness.node();
        let token = node.token().await;

        let page = node.store.scan(Space::AppToken, None, 10).await.unwrap();

        assert_eq!(page.rows.len(), 1);
        for (_, value) in page.rows {
            let text = token.expose().as_bytes();
            assert!(!value.windows(text.len()).any(|part| part == text));
        }
        assert!(!format!("{token:?} {:?}", node.tokens).contains(token.expose()));
    });
}

#[test]
fn the_next_token_is_asked_for_in_the_last_five_minutes_and_the_old_one_is_used_meanwhile() {
    on_each_engine(async |harness| {
        let nodes = [harness.node(), harness.node()];
        let old = nodes[0].token().await;
        assert!(nodes[1].token().await.is_same(&old));
        harness.clock.advance(LIFE - Duration::from_secs(301));
        for node in &nodes {
            assert!(node.token().await.is_same(&old));
        }
        assert_eq!(harness.fetches(), [false], "earlier, the same token would come");

        // The latest moment, whatever the random delay.
        harness.clock.advance(Duration::from_secs(301 - 230));
        harness.emulator.inject(InjectedFault::new(Effect::DelayBefore(Span(Duration::from_millis(200)))));
        let meanwhile = join_all((0..50).map(|number| nodes[number % 2].token())).await;
        assert!(meanwhile.iter().all(|token| token.is_same(&old)));
        for node in &nodes {
            eventually("the next token is used", async || !node.token().await.is_same(&old)).await;
        }

        let [new, other] = [nodes[0].token().await, nodes[1].token().await];
        assert!(new.is_same(&other));
        assert_eq!(harness.fetches(), [false, false]);
        assert_eq!((harness.verdict(&old).await, harness.verdict(&new).await), (40003, 40003));
        let expiry = nodes[0].metrics.wechat_app_token_expiry.with_label_values(&["shop"]).get();
        let left = u64::try_from(expiry).unwrap() - harness.clock.now().seconds();
        assert!((7190..=7200).contains(&left), "{left}");
    });
}

#[test]
fn a_token_stays_in_use_while_the_next_one_cannot_be_had() {
    run(async {
        let harness = Harness::new();
        let node = harness.node();
        let old = node.token().await;
        harness.clock.advance(LIFE - Duration::from_secs(200));
        harness.emulator.inject(InjectedFault::new(Effect::BadGateway));

        assert!(node.token().await.is_same(&old));
        eventually("the attempt was made", async || harness.fetches().len() == 2).await;
        for _ in 0..20 {
            assert!(node.token().await.is_same(&old));
        }
        assert_eq!(harness.fetches().len(), 2, "one attempt in ten seconds");

        harness.emulator.clear_faults();
        harness.clock.advance(Duration::from_secs(10));
        eventually("the next token is used", async || !node.token().await.is_same(&old)).await;
    });
}

#[test]
fn a_token_that_another_party_revoked_is_replaced_unforced_and_by_one_fetch() {
    on_each_engine(async |harness| {
        let nodes = [harness.node(), harness.node()];
        let old = nodes[0].token().await;
        assert!(nodes[1].token().await.is_same(&old));
        harness.clock.advance(Duration::from_secs(60));
        harness.emulator.revoke_tokens(APPID).unwrap();
        assert_eq!(harness.verdict(&old).await, 40001);

        let new = nodes[0].tokens.renew("shop", &old).await.unwrap();

        assert_eq!(harness.verdict(&new).await, 40003);
        // The other one finds it in the store.
        assert!(nodes[1].tokens.renew("shop", &old).await.unwrap().is_same(&new));
        assert_eq!(harness.fetches(), [false, false]);
        assert_eq!([nodes[0].fetches("missing"), nodes[0].fetches("refused")], [1, 1]);
        // A late report of the old one changes nothing.
        assert!(nodes[0].tokens.renew("shop", &old).await.unwrap().is_same(&new));
        assert_eq!(harness.fetches().len(), 2);
    });
}

#[test]
fn a_refresh_is_forced_only_if_the_same_token_comes_back_and_within_the_quota() {
    on_each_engine(async |harness| {
        let nodes = [harness.node(), harness.node()];
        let mut token = nodes[0].token().await;

        let next = nodes[0].tokens.renew("shop", &token).await.unwrap();
        assert!(!next.is_same(&token));
        assert_eq!(harness.fetches(), [false, false, true]);
        assert_eq!((harness.verdict(&token).await, harness.verdict(&next).await), (40001, 40003));
        token = next;

        // Too soon, on whichever gateway: WeChat is asked unforced, and then not at all for a
        // while.
        for _ in 0..3 {
            let refused = nodes[1].tokens.renew("shop", &token).await.unwrap_err();
            assert_eq!(refused, AppTokenError::StillRefused);
        }
        assert_eq!(harness.fetches(), [false, false, true, false]);
        assert!(nodes[1].token().await.is_same(&token), "who does not report it goes on");

        let forced = || harness.fetches().into_iter().filter(|is_forced| *is_forced).count();
        for number in 2..=20 {
            harness.clock.advance(Duration::from_secs(31));
            token = nodes[number % 2].tokens.renew("shop", &token).await.unwrap();
            assert_eq!(forced(), number);
        }
        harness.clock.advance(Duration::from_secs(31));
        let refused = nodes[0].tokens.renew("shop", &token).await.unwrap_err();
        assert_eq!((refused, forced()), (AppTokenError::StillRefused, 20));
        // A gateway that starts again knows of them.
        let refused = harness.node().tokens.renew("shop", &token).await.unwrap_err();
        assert_eq!((refused, forced()), (AppTokenError::StillRefused, 20));
    });
}

#[test]
fn a_gateway_that_ends_while_it_asks_holds_up_the_others_for_one_call_at_most() {
    run(async {
        let harness = Harness::on_redis();
        let survivor = harness.node();
        let hang = InjectedFault::new(Effect::DelayBefore(Span(Duration::from_secs(60)))).times(1);
        harness.emulator.inject(hang);
        let dying =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = {
            let _context = dying.enter();
            harness.node()
        };
        dying.spawn(async move { node.tokens.token("shop").await });
        eventually("it asks WeChat", async || harness.fetches().len() == 1).await;
        dying.shutdown_background();

        let began = now();
        let token = survivor.token().await;

        assert_eq!(harness.verdict(&token).await, 40003);
        // Two seconds more than the longest call, which is one second here.
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert_eq!(harness.fetches(), [false, false]);
    });
}

#[test]
fn one_that_hangs_up_costs_the_others_nothing() {
    run(async {
        let harness = Harness::new();
        let node = harness.node();
        harness.emulator.inject(InjectedFault::new(Effect::DelayBefore(Span(Duration::from_millis(300)))));
        let tokens = Arc::clone(&node.tokens);
        let hasty = tokio::spawn(async move { tokens.token("shop").await });
        eventually("it asks WeChat", async || harness.fetches().len() == 1).await;
        hasty.abort();

        let token = node.token().await;

        assert_eq!(harness.verdict(&token).await, 40003);
        assert_eq!(harness.fetches(), [false]);
    });
}

#[test]
fn the_address_that_wechat_saw_is_logged_and_in_no_metric() {
    run(async {
        let mut config = emulator::Config::default();
        config.apps[0].ip_whitelist = vec!["192.0.2.1".parse().unwrap()];
        let harness = Harness::with(config, None);
        let node = harness.node();

        let failure = node.tokens.token("shop").await.unwrap_err();

        let address = Some("127.0.0.1".parse().unwrap());
        let expected = AppTokenError::WeChat(WeChatError::AddressRefused { errcode: 40164, address });
        assert_eq!(failure, expected);
        let logged = harness.logged();
        let said = "wechat gave no access token to app shop: the address 127.0.0.1 is not admitted for the app: errcode 40164";
        assert!(logged.contains(said), "{logged}");
        let metrics = String::from_utf8(node.metrics.encode().unwrap()).unwrap();
        assert!(
            metrics.contains(r#"menshen_wechat_errors_total{app="shop",errcode="40164"} 1"#),
            "{metrics}"
        );
        assert!(!metrics.contains("127.0.0.1"));
        // An operator must change something: WeChat is not asked again at once, and then is.
        for _ in 0..10 {
            assert_eq!(node.tokens.token("shop").await.unwrap_err(), expected);
        }
        assert_eq!(harness.fetches().len(), 1);
        harness.clock.advance(Duration::from_secs(30));
        assert_eq!(node.tokens.token("shop").await.unwrap_err(), expected);
        assert_eq!(harness.fetches().len(), 2);
        assert!(node.tokens.token("other").await.is_ok(), "another app is not affected");
    });
}

#[test]
fn what_wechat_refuses_is_told_apart() {
    run(async {
        for (errcode, expected) in [
            (45009, WeChatError::QuotaExhausted),
            (45011, WeChatError::RateLimited),
            (40125, WeChatError::AppMisconfigured { errcode: 40125 }),
            (40243, WeChatError::AppMisconfigured { errcode: 40243 }),
            (89503, WeChatError::AddressRefused { errcode: 89503, address: None }),
            (-1, WeChatError::Busy),
            (99999, WeChatError::Unknown { errcode: 99999 }),
        ] {
            let harness = Harness::new();
            harness.emulator.inject(InjectedFault::new(Effect::errcode(errcode)));

            let failure = harness.node().tokens.token("shop").await.unwrap_err();

            assert_eq!(failure, AppTokenError::WeChat(expected), "{errcode}");
        }
    });
}

#[test]
fn an_app_that_says_token_uses_the_other_api_and_replaces_what_is_refused_in_moderation() {
    on_each_engine(async |mut harness| {
        let stable = harness.node().token().await;
        harness.app_token = AppTokenApi::Token;
        let nodes = [harness.node(), harness.node()];

        let first = nodes[0].token().await;

        assert!(!first.is_same(&stable));
        assert!(nodes[1].token().await.is_same(&first));
        let paths = harness.emulator.calls().into_iter().map(|call| call.path).collect::<Vec<_>>();
        assert_eq!(paths, ["/cgi-bin/stable_token", "/cgi-bin/token"]);
        let second = nodes[1].tokens.renew("shop", &first).await.unwrap();
        assert!(!second.is_same(&first));
        // Each call would make a token that ends the one before.
        assert_eq!(nodes[0].tokens.renew("shop", &second).await.unwrap_err(), AppTokenError::StillRefused);
        assert_eq!(harness.fetches().len(), 3);
        harness.clock.advance(Duration::from_secs(31));
        assert!(!nodes[0].tokens.renew("shop", &second).await.unwrap().is_same(&second));
    });
}

#[test]
fn a_row_that_cannot_be_read_is_replaced() {
    on_each_engine(async |harness| {
        let node = harness.node();
        node.token().await;
        let page = node.store.scan(Space::AppToken, None, 10).await.unwrap();
        let (key, good) = page.rows.into_iter().next().unwrap();
        let mut flipped = good.to_vec();
        flipped[20] ^= 1;
        for bytes in [flipped, b"garbage".to_vec(), Vec::new()] {
            node.store.put(&key, Bytes::from(bytes), LIFE).await.unwrap();

            let token = harness.node().token().await;

            assert_eq!(harness.verdict(&token).await, 40003);
            assert!(harness.node().token().await.is_same(&token));
        }
        assert_eq!(harness.fetches().len(), 4);
    });
}

#[test]
fn a_token_in_use_outlives_an_outage_of_the_store() {
    run(async {
        let mut harness = Harness::on_redis();
        let node = harness.node();
        let token = node.token().await;
        let Stores::Redis(server) = &mut harness.stores else { unreachable!() };
        server.kill();

        assert!(node.token().await.is_same(&token));
        let refused = node.tokens.renew("shop", &token).await.unwrap_err();

        assert!(matches!(refused, AppTokenError::Store(_)), "{refused:?}");
        assert_eq!(harness.fetches(), [false]);
    });
}
