//! Binding people to users of the business.

use std::sync::atomic::Ordering;

use super::*;
use crate::identity::{ClaimName, ClaimValue, User, UserId};
use crate::session::PersonId;
use crate::session::row::envelope;
use crate::session::row::name::{self, REVOCATIONS_KEY};
use crate::store::{Key, Space, StoreError};

fn here(person: &Identity) -> PersonId {
    PersonId::Subject(person.subject.clone())
}

fn everywhere(unionid: &str) -> PersonId {
    PersonId::UnionId(UnionId::parse(unionid).unwrap())
}

fn user(id: &str, claims: &[(&str, &str)]) -> User {
    let claim =
        |(name, value): &(&str, &str)| (ClaimName::parse(name).unwrap(), ClaimValue::parse(value).unwrap());
    User::new(UserId::parse(id).unwrap(), claims.iter().map(claim)).unwrap()
}

impl Node {
    async fn bind(&self, person: &PersonId, user: &User) -> bool {
        self.sessions.bind(person, user, self.now()).await.unwrap()
    }

    async fn unbind(&self, person: &PersonId) -> bool {
        self.sessions.unbind(person).await.unwrap()
    }

    async fn bound(&self, person: &PersonId) -> Option<User> {
        self.sessions.binding(person).await.unwrap().map(|bound| bound.user)
    }

    /// The user of a request with this session.
    async fn user(&self, identity: &Identity, opened: &OpenedSession) -> Option<User> {
        self.check(identity, opened).await.unwrap().user
    }

    fn bindings(&self) -> Vec<Key> {
        self.store.rows.lock().keys().filter(|key| key.space == Space::Person).cloned().collect()
    }
}

#[tokio::test]
async fn a_person_is_bound_until_they_are_unbound_and_to_one_user_at_a_time() {
    let node = Node::new();
    let (alice, bob) = (person("alice"), person("bob"));
    let (opened, other) = (node.open(&alice).await, node.open(&bob).await);
    let (first, second) = (user("42", &[("role", "editor"), ("level", "3")]), user("43", &[("team", "red")]));
    assert_eq!(node.user(&alice, &opened).await, None);
    assert!(!node.unbind(&here(&alice)).await);

    assert!(node.bind(&here(&alice), &first).await);
    let since = node.sessions.binding(&here(&alice)).await.unwrap().unwrap().since;
    assert_eq!((since, node.user(&alice, &opened).await), (node.now(), Some(first.clone())));
    assert_eq!(node.user(&bob, &other).await, None);
    node.clock.advance(HOUR);
    assert!(!node.bind(&here(&alice), &first).await);
    assert_eq!(node.sessions.binding(&here(&alice)).await.unwrap().unwrap().since, since);

    // No claim of the user before is left.
    assert!(node.bind(&here(&alice), &second).await);
    assert_eq!(node.user(&alice, &opened).await, Some(second));
    assert_ne!(node.sessions.binding(&here(&alice)).await.unwrap().unwrap().since, since);

    assert!(node.unbind(&here(&alice)).await);
    assert!(!node.unbind(&here(&alice)).await);
    assert_eq!((node.user(&alice, &opened).await, node.bound(&here(&alice)).await), (None, None));
    assert_eq!(node.bindings(), []);
}

#[tokio::test]
async fn a_change_ends_the_leases_of_its_person_only() {
    let node = Node::new();
    let (alice, bob) = (with_unionid(&person("alice"), "u1"), person("bob"));
    let (opened, other) = (node.open(&alice).await, node.open(&bob).await);
    // The first binding of a kind ends every lease.
    node.bind(&here(&person("carol")), &user("1", &[])).await;
    node.bind(&everywhere("u9"), &user("9", &[])).await;
    let bystander = node.check(&bob, &other).await.unwrap().lease;

    for person in [here(&alice), everywhere("u1")] {
        for change in 0..3 {
            let lease = node.check(&alice, &opened).await.unwrap().lease;
            match change {
                0 => assert!(node.bind(&person, &user("42", &[])).await),
                1 => assert!(node.bind(&person, &user("42", &[("role", "editor")])).await),
                _ => assert!(node.unbind(&person).await),
            }
            assert!(!lease.is_current(), "{person:?} {change}");
        }
    }
    assert!(bystander.is_current());
    // Also if nothing changed: an earlier try may not have told the other nodes.
    let lease = node.check(&alice, &opened).await.unwrap().lease;
    assert!(!node.unbind(&here(&alice)).await);
    assert!(!lease.is_current());
}

#[tokio::test]
async fn a_unionid_is_bound_in_every_app_and_a_binding_of_the_subject_replaces_it_as_a_whole() {
    let node = Node::new();
    let one = with_unionid(&in_app("wx1", "a"), "u1");
    let two = with_unionid(&in_app("wx2", "b"), "u1");
    let unknown = in_app("wx3", "c");
    let opened = [node.open(&one).await, node.open(&two).await, node.open(&unknown).await];
    let (union, own) = (user("7", &[("role", "admin")]), user("42", &[("level", "3")]));

    node.bind(&everywhere("u1"), &union).await;
    assert_eq!(node.user(&one, &opened[0]).await, Some(union.clone()));
    assert_eq!(node.user(&two, &opened[1]).await, Some(union.clone()));
    assert_eq!(node.user(&unknown, &opened[2]).await, None);
    // A person who signs in for the first time is bound as well, and so is a subject that gets the
    // unionid later.
    let three = with_unionid(&in_app("wx4", "d"), "u1");
    let late = node.open(&three).await;
    assert_eq!(node.user(&three, &late).await, Some(union.clone()));
    let known = node.open(&with_unionid(&unknown, "u1")).await;
    assert_eq!(node.user(&unknown, &known).await, Some(union.clone()));

    node.bind(&here(&one), &own).await;
    assert_eq!(node.user(&one, &opened[0]).await, Some(own.clone()), "not a claim of the unionid's");
    assert_eq!(node.user(&two, &opened[1]).await, Some(union.clone()));
    assert_eq!(node.bound(&everywhere("u1")).await, Some(union.clone()));
    node.unbind(&everywhere("u1")).await;
    assert_eq!(node.user(&one, &opened[0]).await, Some(own));
    assert_eq!(node.user(&two, &opened[1]).await, None);
    node.unbind(&here(&one)).await;
    assert_eq!(node.user(&one, &opened[0]).await, None);
}

#[tokio::test]
async fn a_browser_session_and_a_new_sign_in_are_bound_as_well() {
    let node = Node::new();
    let alice = person("alice");
    let new = || NewSession { identity: &alice, session_key: None, user_agent: None, profile: None };
    node.bind(&here(&alice), &user("42", &[])).await;
    let opened = node.sessions.open_in_browser(new(), None, node.now()).await.unwrap();

    let checked = node.sessions.check_cookie(&opened.cookie, node.now()).await.unwrap();
    assert_eq!(checked.user, Some(user("42", &[])));

    node.revoke(SessionScope::Subject(alice.subject.clone())).await.unwrap();
    let again = node.open(&alice).await;
    assert_eq!(node.user(&alice, &again).await, Some(user("42", &[])));
}

#[tokio::test]
async fn a_binding_outlasts_a_restart_and_the_end_of_sessions() {
    let (clock, folder) = (ManualClock::start_now(), Arc::new(tempfile::tempdir().unwrap()));
    let config = config::Sessions::default();
    let alice = with_unionid(&person("alice"), "u1");
    {
        let node = Node::durable(&folder, &clock, &config);
        node.bind(&here(&alice), &user("42", &[("role", "editor")])).await;
        node.bind(&everywhere("u2"), &user("43", &[])).await;
    }
    clock.advance(4000 * DAY);

    let node = Node::durable(&folder, &clock, &config);

    let opened = node.open(&alice).await;
    assert_eq!(node.user(&alice, &opened).await, Some(user("42", &[("role", "editor")])));
    assert_eq!(node.bound(&everywhere("u2")).await, Some(user("43", &[])));
}

#[tokio::test(start_paused = true)]
async fn a_binding_and_its_removal_reach_another_node_within_a_second() {
    let one = Node::shared();
    let other = one.another();
    let following = [follow::follow(&one).await, follow::follow(&other).await];
    let alice = with_unionid(&person("alice"), "u1");
    let opened = one.open(&alice).await;
    // The first check reads the revocations that the session needs, which ends its own lease.
    assert_eq!(other.user(&alice, &opened).await, None);
    for person in [here(&alice), everywhere("u1"), here(&alice)] {
        for bound in [Some(user("42", &[])), Some(user("43", &[])), None] {
            let lease = other.check(&alice, &opened).await.unwrap().lease;
            assert!(lease.is_current());

            match &bound {
                Some(user) => assert!(one.bind(&person, user).await),
                None => assert!(one.unbind(&person).await),
            }

            tokio::time::timeout(Duration::from_secs(1), lease.ended()).await.unwrap();
            // The invalidation of everything may arrive later than that of the person.
            let changed = async {
                while other.user(&alice, &opened).await != bound {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(1), changed).await.unwrap();
        }
    }
    following.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn no_binding_is_read_if_no_person_was_ever_bound() {
    let node = Node::new();
    let alice = with_unionid(&person("alice"), "u1");
    let opened = node.open(&alice).await;
    let reads = || node.store.bindings_read.load(Ordering::SeqCst);

    node.user(&alice, &opened).await;
    assert_eq!(reads(), 0);

    node.bind(&everywhere("u2"), &user("43", &[])).await;
    let before = reads();
    node.user(&alice, &opened).await;
    assert_eq!(reads() - before, 1, "of the unionid alone");
    node.bind(&here(&person("bob")), &user("42", &[])).await;
    let before = reads();
    node.user(&alice, &opened).await;
    assert_eq!(reads() - before, 2);
}

/// No byte of a row can be another without the person being refused; and so can one that is well
/// formed and makes no sense.
#[tokio::test]
async fn a_binding_that_cannot_be_read_denies_and_never_counts_as_none() {
    let node = Node::new();
    let alice = with_unionid(&person("alice"), "u1");
    let opened = node.open(&alice).await;
    for who in [here(&alice), everywhere("u1")] {
        node.bind(&who, &user("42", &[("role", "editor")])).await;
        let [key] = &node.bindings()[..] else { panic!("{:?}", node.bindings()) };
        let (bytes, end) = node.store.rows.lock().get(key).cloned().unwrap();
        let mut changed: Vec<Vec<u8>> = (0..bytes.len() * 8)
            .map(|bit| {
                let mut changed = bytes.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                changed
            })
            .chain((0..bytes.len()).map(|length| bytes[..length].to_vec()))
            .collect();
        for body in well_formed_nonsense(&bytes, &alice) {
            changed.push(envelope::with_checksum(key, &body));
        }
        for bytes in changed {
            node.store.rows.lock().insert(key.clone(), (bytes.clone().into(), end));

            let checked = node.sessions.check(&alice.subject, &opened.id, node.now()).await;

            let is_denied = matches!(checked, Err(SessionError::Store(StoreError::Damaged(_))));
            assert!(is_denied, "{bytes:02x?}: {checked:?}");
            assert!(node.sessions.binding(&who).await.is_err());
        }
        // A new binding, or unbinding, replaces the damaged row.
        assert!(node.bind(&who, &user("43", &[])).await);
        assert_eq!(node.user(&alice, &opened).await, Some(user("43", &[])));
        node.store.rows.lock().insert(key.clone(), (bytes::Bytes::from_static(b"?"), end));
        assert!(node.unbind(&who).await);
        assert_eq!(node.user(&alice, &opened).await, None);
    }
}

/// Rows that are well formed, but that no gateway writes.
fn well_formed_nonsense(written: &[u8], alice: &Identity) -> Vec<Vec<u8>> {
    use minicbor::Encoder;

    let body = |fill: &dyn Fn(&mut Encoder<Vec<u8>>)| {
        let mut encoder = Encoder::new(vec![1]);
        fill(&mut encoder);
        encoder.into_writer()
    };
    let row = |who: (u8, &[&str]), user: &str, claims: &[(&str, &str)]| {
        body(&|e| {
            e.array(4).unwrap().array(2).unwrap().u8(who.0).unwrap();
            e.array(who.1.len() as u64).unwrap();
            who.1.iter().for_each(|word| _ = e.str(word).unwrap());
            e.str(user).unwrap().array(claims.len() as u64).unwrap();
            for (name, value) in claims {
                e.array(2).unwrap().str(name).unwrap().str(value).unwrap();
            }
            e.u64(1).unwrap();
        })
    };
    let subject: (u8, &[&str]) = (1, &["wx1", "alice"]);
    // The form must be the one that is written; otherwise this tests nothing.
    let as_written = row(subject, "42", &[("role", "editor")]);
    let key = name::subject_person_key(name::locator(&alice.subject));
    let read = envelope::decode::<crate::session::row::person_row::PersonRow>(
        &key,
        &envelope::with_checksum(&key, &as_written),
    );
    assert!(read.is_ok() && written.len() > 20);
    let many: Vec<String> = (0..17).map(|number| format!("c{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
    vec![
        row((1, &["wx1", "bob"]), "42", &[]),
        row((1, &["wx2", "alice"]), "42", &[]),
        row((0, &["u2"]), "42", &[]),
        row((2, &["u1"]), "42", &[]),
        row(subject, "", &[]),
        row(subject, "4 2", &[]),
        row(subject, "42\r\nX-WX-OPENID: x", &[]),
        row(subject, "42", &[("Role", "x")]),
        row(subject, "42", &[("role", "")]),
        row(subject, "42", &[("role", "a"), ("role", "a")]),
        row(subject, "42", &many),
        body(&|e| _ = e.array(0).unwrap()),
        body(&|e| _ = e.null().unwrap()),
        [as_written, vec![0]].concat(),
        vec![1],
        vec![2],
    ]
}

#[tokio::test]
async fn a_store_that_does_not_answer_denies_and_a_change_that_may_have_been_made_is_published_later() {
    let node = Node::shared();
    let alice = person("alice");
    let following = follow::follow(&node).await;
    following.abort();
    node.bind(&here(&person("bob")), &user("1", &[])).await;
    let opened = node.open(&alice).await;
    let lease = node.check(&alice, &opened).await.unwrap().lease;
    let entries = node.store.entries();

    node.store.writes_fail.store(true, Ordering::SeqCst);
    let failed = node.sessions.bind(&here(&alice), &user("42", &[]), node.now()).await;
    node.store.writes_fail.store(false, Ordering::SeqCst);

    assert!(matches!(failed, Err(SessionError::Store(_))), "{failed:?}");
    assert!(!lease.is_current());
    assert_eq!(node.store.entries(), entries);
    node.core.log.publish_pending().await;
    assert_eq!(node.store.entries(), entries + 1);
    assert_eq!(node.user(&alice, &opened).await, Some(user("42", &[])));

    node.store.set_failing(true);
    let checked = node.sessions.check(&alice.subject, &opened.id, node.now()).await;
    assert!(matches!(checked, Err(SessionError::Store(_))), "{checked:?}");
    assert!(node.sessions.binding(&here(&alice)).await.is_err());
}

#[tokio::test]
async fn an_older_gateway_without_bindings_does_not_hide_them() {
    #[derive(Clone, minicbor::Encode, minicbor::Decode)]
    struct OldRevocations {
        #[n(0)]
        number: u64,
        #[n(1)]
        apps: Vec<u64>,
        #[n(2)]
        everything: u64,
        #[n(3)]
        opened_before: u64,
        #[n(4)]
        blocks: Option<Vec<u64>>,
    }

    let node = Node::shared();
    let following = follow::follow(&node).await;
    following.abort();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.bind(&here(&alice), &user("42", &[])).await;
    node.core.log.poll().await.unwrap();
    let (bytes, end) = node.store.rows.lock().get(&REVOCATIONS_KEY).cloned().unwrap();
    let mut old: OldRevocations = envelope::decode(&REVOCATIONS_KEY, &bytes).unwrap();
    old.number += 1;
    let written = envelope::encode(&REVOCATIONS_KEY, &old).unwrap();
    node.store.rows.lock().insert(REVOCATIONS_KEY, (written, end));

    node.core.log.poll().await.unwrap();

    let other = node.another();
    let following = follow::follow(&other).await;
    following.abort();
    assert_eq!(other.user(&alice, &opened).await, Some(user("42", &[])));
}
