//! Sessions on a store in memory that can be shared and told to fail.

mod binding;
mod block;
mod browser;
mod durable;
mod erase;
mod expiry;
mod follow;
mod hand_over;
mod interleaved;
mod loss;
mod model;
mod opening;
mod outage;
mod pure;
mod refresh;
mod revoke;
mod sealing;
mod store;
mod version_before;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use zeroize::Zeroizing;

use self::store::TestStore;
use super::{
    CheckedSession, Client, Core, NewSession, OpenedBrowserSession, OpenedSession, RefreshError,
    RefreshToken, RefreshedSession, SessionCookie, SessionError, SessionScope, Sessions,
};
use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::config::{self, Findings};
use crate::entropy::SystemEntropy;
use crate::identity::{AppId, Identity, OpenId, Profile, SessionId, Subject, UnionId};
use crate::key_file::OnMissingKey;
use crate::store::{Store, StoreHealth};
use crate::telemetry::metrics::Metrics;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// One node, with a store that it may share with others.
struct Node {
    clock: ManualClock,
    store: Arc<TestStore>,
    metrics: Arc<Metrics>,
    core: Arc<Core>,
    sessions: Arc<Sessions>,
    folder: Arc<TempDir>,
}

impl Node {
    /// A single node.
    fn new() -> Self {
        Self::with(config::Sessions::default())
    }

    fn with(config: config::Sessions) -> Self {
        let clock = ManualClock::start_now();
        let store = Arc::new(TestStore::new(clock.clone(), false));
        Self::on(store, clock, Arc::new(tempfile::tempdir().unwrap()), &config)
    }

    /// A node that shares its store with those that [`Node::another`] makes.
    fn shared() -> Self {
        let clock = ManualClock::start_now();
        let store = Arc::new(TestStore::new(clock.clone(), true));
        Self::on(store, clock, Arc::new(tempfile::tempdir().unwrap()), &config::Sessions::default())
    }

    fn another(&self) -> Self {
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        Self::on(store, clock, Arc::clone(&self.folder), &config::Sessions::default())
    }

    /// The same node after a reload.
    fn reloaded(&self, config: &config::Sessions) -> Self {
        let core = Arc::clone(&self.core);
        let sessions = build(config, &core, &self.folder);
        Self {
            clock: self.clock.clone(),
            store: Arc::clone(&self.store),
            metrics: Arc::clone(&self.metrics),
            core,
            sessions,
            folder: Arc::clone(&self.folder),
        }
    }

    /// A node on the embedded engine, in a folder that may have been used before.
    fn durable(folder: &Arc<TempDir>, clock: &ManualClock, config: &config::Sessions) -> Self {
        let metrics = Metrics::new().unwrap();
        let mut findings = Findings::default();
        let (store, time) = (config::Store::default(), Arc::new(clock.clone()));
        let opened = crate::store::open(&store, folder.path(), time, &metrics, &mut findings);
        let engine = opened.unwrap_or_else(|| panic!("{findings:?}"));
        let unused = Arc::new(TestStore::new(clock.clone(), false));
        Self::over(engine, unused, clock.clone(), Arc::clone(folder), config)
    }

    fn on(
        store: Arc<TestStore>,
        clock: ManualClock,
        folder: Arc<TempDir>,
        config: &config::Sessions,
    ) -> Self {
        Self::over(Arc::clone(&store) as Arc<dyn Store>, store, clock, folder, config)
    }

    fn over(
        engine: Arc<dyn Store>,
        store: Arc<TestStore>,
        clock: ManualClock,
        folder: Arc<TempDir>,
        config: &config::Sessions,
    ) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Arc::new(StoreHealth::new(engine.as_ref(), &metrics));
        let core = Arc::new(Core::new(
            engine,
            health,
            Arc::new(clock.clone()),
            Arc::new(SystemEntropy),
            Arc::clone(&metrics),
        ));
        let sessions = build(config, &core, &folder);
        Self { clock, store, metrics, core, sessions, folder }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn open(&self, identity: &Identity) -> OpenedSession {
        self.try_open(identity, None).await.unwrap()
    }

    async fn open_with_key(&self, identity: &Identity, key: [u8; 16]) -> OpenedSession {
        self.try_open(identity, Some(key)).await.unwrap()
    }

    async fn try_open(
        &self,
        identity: &Identity,
        key: Option<[u8; 16]>,
    ) -> Result<OpenedSession, SessionError> {
        let key = key.map(Zeroizing::new);
        let new =
            NewSession { identity, session_key: key.as_ref(), user_agent: Some("curl/8.0"), profile: None };
        self.sessions.open(new, self.now()).await
    }

    async fn check(
        &self,
        identity: &Identity,
        opened: &OpenedSession,
    ) -> Result<CheckedSession, SessionError> {
        let checked = self.sessions.check(&identity.subject, &opened.id, self.now()).await;
        self.wait_for_writes(identity).await;
        checked
    }

    /// Waits until the background write of `check` is done.
    async fn wait_for_writes(&self, identity: &Identity) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let state = self.core.leases.subject(&crate::session::row::name::locator(&identity.subject));
        drop(state.lock().await.unwrap());
    }

    async fn is_active(&self, identity: &Identity, opened: &OpenedSession) -> bool {
        match self.check(identity, opened).await {
            Ok(_) => true,
            Err(SessionError::Ended) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn refresh(&self, token: &RefreshToken) -> Result<RefreshedSession, RefreshError> {
        self.sessions.refresh(token, &client(), self.now()).await
    }

    async fn refresh_as(
        &self,
        client: &Client,
        token: &RefreshToken,
    ) -> Result<RefreshedSession, RefreshError> {
        self.sessions.refresh(token, client, self.now()).await
    }

    async fn revoke(&self, scope: SessionScope) -> Result<Option<u64>, SessionError> {
        self.sessions.revoke(&scope, self.now()).await
    }
}

fn build(config: &config::Sessions, core: &Arc<Core>, folder: &TempDir) -> Arc<Sessions> {
    let mut findings = Findings::default();
    let sessions =
        Sessions::build(config, folder.path(), OnMissingKey::Create, Arc::clone(core), &mut findings);
    let mut sessions = sessions.unwrap_or_else(|| panic!("{findings:?}"));
    sessions.keeps_session_keys = true;
    Arc::new(sessions)
}

/// The client of most tests.
fn client() -> Client {
    Client::for_test([192, 0, 2, 1], "curl/8.0")
}

fn person(name: &str) -> Identity {
    in_app("wx1", name)
}

fn in_app(appid: &str, name: &str) -> Identity {
    let subject = Subject { appid: AppId::parse(appid).unwrap(), openid: OpenId::parse(name).unwrap() };
    Identity { subject, unionid: None }
}

fn with_unionid(identity: &Identity, unionid: &str) -> Identity {
    Identity { unionid: Some(UnionId::parse(unionid).unwrap()), ..identity.clone() }
}

fn seconds(seconds: u64) -> config::Duration {
    config::Duration::from_secs(seconds)
}
