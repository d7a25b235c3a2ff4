//! Two nodes at once, with the store's answers in any order: what was acknowledged holds.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::session::PersonId;
use crate::store::StoreError;

#[derive(Clone, Debug)]
enum Action {
    Open,
    /// Ends the session that this client opened last.
    Refresh,
    Revoke,
    /// Ends every session in the app.
    RevokeApp,
    /// Changes the revocations, and ends no session.
    RevokeOtherApp,
    Block,
    Unblock,
}

/// A session, and when its sign-in began and ended.
struct ClientSession {
    opened: OpenedSession,
    began: u64,
    ended: u64,
    token: RefreshToken,
    is_revoked: bool,
}

/// A call that ended sessions, or may have.
struct Revocation {
    began: u64,
    ended: u64,
}

#[derive(Default)]
struct World {
    steps: AtomicU64,
    revocations: Mutex<Vec<Revocation>>,
    sessions: Mutex<Vec<ClientSession>>,
}

impl World {
    fn step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::SeqCst)
    }

    fn must_live(&self, session: &ClientSession) -> bool {
        let revocations = self.revocations.lock();
        !session.is_revoked && revocations.iter().all(|revocation| revocation.ended < session.began)
    }

    fn must_be_dead(&self, session: &ClientSession) -> bool {
        let revocations = self.revocations.lock();
        session.is_revoked || revocations.iter().any(|revocation| revocation.began > session.ended)
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => Just(Action::Open),
        3 => Just(Action::Refresh),
        1 => Just(Action::Revoke),
        1 => Just(Action::RevokeApp),
        2 => Just(Action::RevokeOtherApp),
        1 => Just(Action::Block),
        1 => Just(Action::Unblock),
    ];
    proptest::collection::vec(action, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_acknowledged_session_is_live_and_a_revoked_one_is_dead_whatever_two_nodes_do_at_once(
        clients in proptest::collection::vec(actions(), 2..4),
        seed in 1..u64::MAX,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(clients, seed))?;
    }
}

async fn run(clients: Vec<Vec<Action>>, seed: u64) -> Result<(), TestCaseError> {
    let one = Arc::new(Node::shared());
    let nodes = [Arc::clone(&one), Arc::new(one.another())];
    one.open(&person("alice")).await;
    one.store.set_jitter(seed);
    let world = Arc::new(World::default());
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(index, actions)| {
            tokio::spawn(client(Arc::clone(&nodes[index % 2]), actions, Arc::clone(&world)))
        })
        .collect();
    for task in tasks {
        task.await.unwrap()?;
    }

    one.store.set_jitter(0);
    let alice = person("alice");
    let third = one.another();
    let _following = follow::follow(&third).await;
    let all = std::mem::take(&mut *world.sessions.lock());
    for session in &all {
        let is_active = third.is_active(&alice, &session.opened).await;
        prop_assert!(is_active || !world.must_live(session), "an acknowledged session is gone");
        prop_assert!(!(is_active && world.must_be_dead(session)), "a revoked session goes on");
        if is_active {
            prop_assert!(third.refresh(&session.token).await.is_ok(), "an acknowledged token is gone");
        }
    }
    Ok(())
}

async fn client(node: Arc<Node>, actions: Vec<Action>, world: Arc<World>) -> Result<(), TestCaseError> {
    let (alice, bob) = (person("alice"), PersonId::Subject(person("bob").subject));
    let mut own: Vec<ClientSession> = Vec::new();
    for action in actions {
        let began = world.step();
        match action {
            Action::Open => match node.try_open(&alice, None).await {
                Ok(opened) => {
                    let token = opened.refresh_token.clone();
                    own.push(ClientSession { opened, began, ended: world.step(), token, is_revoked: false });
                }
                Err(error) => prop_assert_eq!(error, SessionError::Store(StoreError::Busy)),
            },
            Action::Refresh => {
                let Some(session) = own.last_mut() else { continue };
                match node.refresh(&session.token).await {
                    Ok(refreshed) => session.token = refreshed.session.refresh_token,
                    Err(RefreshError::Invalid) => {
                        prop_assert!(!world.must_live(session), "a good token is refused")
                    }
                    Err(error) => {
                        let busy = RefreshError::Session(SessionError::Store(StoreError::Busy));
                        prop_assert_eq!(error, busy);
                    }
                }
            }
            Action::Revoke => {
                let Some(session) = own.last_mut() else { continue };
                session.is_revoked =
                    node.revoke(SessionScope::Session(session.opened.id.clone())).await.is_ok();
            }
            Action::RevokeApp => {
                // Recorded before it begins, because sessions may be refused from here on.
                let at = {
                    let mut revocations = world.revocations.lock();
                    revocations.push(Revocation { began, ended: u64::MAX });
                    revocations.len() - 1
                };
                let revoked = node.revoke(SessionScope::App(alice.subject.appid.clone())).await;
                prop_assert_eq!(revoked, Ok(None));
                world.revocations.lock()[at].ended = world.step();
            }
            Action::RevokeOtherApp => {
                node.revoke(SessionScope::App(AppId::parse("wx9").unwrap())).await.unwrap();
            }
            Action::Block => {
                node.sessions.block(&bob, node.now()).await.unwrap();
            }
            Action::Unblock => {
                node.sessions.unblock(&bob, node.now()).await.unwrap();
            }
        }
    }
    world.sessions.lock().extend(own);
    Ok(())
}
