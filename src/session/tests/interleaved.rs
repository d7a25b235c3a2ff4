//! Two nodes at once, in every order that a store's answers may come in: what was acknowledged
//! holds.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::session::PersonId;
use crate::store::StoreError;

#[derive(Clone, Debug)]
enum Deed {
    Open,
    /// Of the session that this client opened last.
    Refresh,
    Revoke,
    /// Ends the sessions of everybody in the app.
    RevokeApp,
    /// Changes the marks, and concerns nobody's session.
    Mark,
    Block,
    Unblock,
}

/// A session, and when its login began and ended.
struct Held {
    opened: OpenedSession,
    began: u64,
    ended: u64,
    token: RefreshToken,
    is_revoked: bool,
}

/// Something that ended sessions, or may have.
struct Revocation {
    began: u64,
    ended: u64,
}

#[derive(Default)]
struct World {
    steps: AtomicU64,
    revocations: Mutex<Vec<Revocation>>,
    held: Mutex<Vec<Held>>,
}

impl World {
    fn step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::SeqCst)
    }

    fn must_live(&self, held: &Held) -> bool {
        let revocations = self.revocations.lock();
        !held.is_revoked && revocations.iter().all(|revocation| revocation.ended < held.began)
    }

    fn must_be_dead(&self, held: &Held) -> bool {
        let revocations = self.revocations.lock();
        held.is_revoked || revocations.iter().any(|revocation| revocation.began > held.ended)
    }
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => Just(Deed::Open),
        3 => Just(Deed::Refresh),
        1 => Just(Deed::Revoke),
        1 => Just(Deed::RevokeApp),
        2 => Just(Deed::Mark),
        1 => Just(Deed::Block),
        1 => Just(Deed::Unblock),
    ];
    proptest::collection::vec(deed, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_two_nodes_do_at_once_an_acknowledged_session_goes_on_and_a_revoked_one_is_dead(
        clients in proptest::collection::vec(deeds(), 2..4),
        seed in 1..u64::MAX,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(clients, seed))?;
    }
}

async fn run(clients: Vec<Vec<Deed>>, seed: u64) -> Result<(), TestCaseError> {
    let one = Arc::new(Node::shared());
    let nodes = [Arc::clone(&one), Arc::new(one.another())];
    one.open(&person("alice")).await;
    one.store.set_jitter(seed);
    let world = Arc::new(World::default());
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(index, deeds)| tokio::spawn(client(Arc::clone(&nodes[index % 2]), deeds, Arc::clone(&world))))
        .collect();
    for task in tasks {
        task.await.unwrap()?;
    }

    one.store.set_jitter(0);
    let alice = person("alice");
    let judge = one.another();
    let _following = follow::follow(&judge).await;
    let all = std::mem::take(&mut *world.held.lock());
    for held in &all {
        let is_active = judge.is_active(&alice, &held.opened).await;
        prop_assert!(is_active || !world.must_live(held), "an acknowledged session is gone");
        prop_assert!(!(is_active && world.must_be_dead(held)), "a revoked session goes on");
        if is_active {
            prop_assert!(judge.refresh(&held.token).await.is_ok(), "an acknowledged token is gone");
        }
    }
    Ok(())
}

async fn client(node: Arc<Node>, deeds: Vec<Deed>, world: Arc<World>) -> Result<(), TestCaseError> {
    let (alice, bob) = (person("alice"), PersonId::Subject(person("bob").subject));
    let mut own: Vec<Held> = Vec::new();
    for deed in deeds {
        let began = world.step();
        match deed {
            Deed::Open => match node.try_open(&alice, None).await {
                Ok(opened) => {
                    let token = opened.refresh_token.clone();
                    own.push(Held { opened, began, ended: world.step(), token, is_revoked: false });
                }
                Err(error) => prop_assert_eq!(error, SessionError::Store(StoreError::Busy)),
            },
            Deed::Refresh => {
                let Some(held) = own.last_mut() else { continue };
                match node.refresh(&held.token).await {
                    Ok(refreshed) => held.token = refreshed.session.refresh_token,
                    Err(RefreshError::Invalid) => {
                        prop_assert!(!world.must_live(held), "a good token is refused")
                    }
                    Err(error) => {
                        let busy = RefreshError::Session(SessionError::Store(StoreError::Busy));
                        prop_assert_eq!(error, busy);
                    }
                }
            }
            Deed::Revoke => {
                let Some(held) = own.last_mut() else { continue };
                held.is_revoked = node.revoke(SessionScope::Session(held.opened.id.clone())).await.is_ok();
            }
            Deed::RevokeApp => {
                // Known before it begins, as others may be refused from here on.
                let at = {
                    let mut revocations = world.revocations.lock();
                    revocations.push(Revocation { began, ended: u64::MAX });
                    revocations.len() - 1
                };
                let revoked = node.revoke(SessionScope::App(alice.subject.appid.clone())).await;
                prop_assert_eq!(revoked, Ok(None));
                world.revocations.lock()[at].ended = world.step();
            }
            Deed::Mark => {
                node.revoke(SessionScope::App(AppId::parse("wx9").unwrap())).await.unwrap();
            }
            Deed::Block => {
                node.sessions.block(&bob, node.now()).await.unwrap();
            }
            Deed::Unblock => {
                node.sessions.unblock(&bob, node.now()).await.unwrap();
            }
        }
    }
    world.held.lock().extend(own);
    Ok(())
}
