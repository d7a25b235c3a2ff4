//! Sessions of browsers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decode, Encode};

use super::*;
use crate::session::SessionInfo;
use crate::session::row::field::{TextField, millis};
use crate::session::row::refresh_token::{DecodedRefreshToken, RefreshTokenFamily};
use crate::session::row::subject::SubjectRow;
use crate::session::row::{envelope, name};

impl Node {
    async fn open_in_browser(&self, identity: &Identity, before: Option<&SessionId>) -> OpenedBrowserSession {
        self.open_with_profile(identity, before, None).await
    }

    async fn open_with_profile(
        &self,
        identity: &Identity,
        before: Option<&SessionId>,
        profile: Option<&Profile>,
    ) -> OpenedBrowserSession {
        let new = NewSession { identity, session_key: None, user_agent: Some("curl/8.0"), profile };
        self.sessions.open_in_browser(new, before, self.now()).await.unwrap()
    }

    async fn check_cookie(&self, cookie: &SessionCookie) -> Result<CheckedSession, SessionError> {
        self.sessions.check_cookie(cookie, self.now()).await
    }

    /// The session of a cookie; `None` if it has ended.
    async fn holder(&self, cookie: &SessionCookie) -> Option<SessionId> {
        match self.check_cookie(cookie).await {
            Ok(checked) => Some(checked.id),
            Err(SessionError::Ended) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn listed(&self, identity: &Identity) -> Vec<SessionInfo> {
        self.sessions.list_by_subject(&identity.subject, self.now()).await.unwrap()
    }
}

#[tokio::test]
async fn a_cookie_is_good_for_its_session_and_tells_its_identity() {
    let node = Node::new();
    let alice = with_unionid(&person("alice"), "u1");
    node.open(&alice).await;
    let opened = node.open_in_browser(&alice, None).await;

    let checked = node.check_cookie(&opened.cookie).await.unwrap();

    assert_eq!(checked.id, opened.id);
    assert_eq!(checked.identity, alice);
    assert_eq!(checked.expires_at, opened.expires_at);
    assert_eq!(opened.expires_at, node.now().plus(30 * DAY));
    assert!(node.sessions.check(&alice.subject, &opened.id, node.now()).await.is_ok(), "by its id, too");
    assert_eq!(node.listed(&alice).await.len(), 2);
}

#[tokio::test]
async fn a_cookie_outlives_a_restart() {
    let (folder, clock) = (Arc::new(tempfile::tempdir().unwrap()), ManualClock::start_now());
    let config = config::Sessions::default();
    let node = Node::durable(&folder, &clock, &config);
    let opened = node.open_in_browser(&person("alice"), None).await;
    drop(node);

    let node = Node::durable(&folder, &clock, &config);

    assert_eq!(node.holder(&opened.cookie).await, Some(opened.id));
}

#[tokio::test]
async fn a_cookie_ends_with_its_session() {
    let alice = person("alice");
    for scope in ["session", "subject", "app", "lifetime", "idle"] {
        let node = Node::new();
        let opened = node.open_in_browser(&alice, None).await;
        let other = node.open_in_browser(&alice, None).await;
        let checked = node.check_cookie(&opened.cookie).await.unwrap();
        match scope {
            "session" => drop(node.revoke(SessionScope::Session(opened.id)).await.unwrap()),
            "subject" => drop(node.revoke(SessionScope::Subject(alice.subject.clone())).await.unwrap()),
            "app" => drop(node.revoke(SessionScope::App(alice.subject.appid.clone())).await.unwrap()),
            "lifetime" => node.clock.advance(30 * DAY),
            _ => node.clock.advance(8 * DAY),
        }

        assert_eq!(node.holder(&opened.cookie).await, None, "{scope}");
        assert_eq!(node.holder(&other.cookie).await.is_some(), scope == "session", "{scope}");
        assert!(!checked.lease.is_current() || checked.recheck_at < node.now(), "{scope}");
    }
}

#[tokio::test]
async fn a_cookie_with_another_secret_or_of_another_row_is_refused() {
    let node = Node::new();
    let alice = node.open_in_browser(&person("alice"), None).await;
    let bob = node.open_in_browser(&person("bob"), None).await;
    node.open(&person("carol")).await;
    let bytes = |cookie: &SessionCookie| URL_SAFE_NO_PAD.decode(cookie.expose()).unwrap();
    let (alices, bobs) = (bytes(&alice.cookie), bytes(&bob.cookie));
    let mut one_bit_off = alices.clone();
    *one_bit_off.last_mut().unwrap() ^= 1;

    for (made_up, bytes) in [
        ("one bit of the secret", one_bit_off),
        ("no secret", [&alices[..16], &[0; 32]].concat()),
        ("another's secret", [&alices[..16], &bobs[16..]].concat()),
        ("another's row", [&bobs[..16], &alices[16..]].concat()),
        ("a row without cookies", [&name::locator(&person("carol").subject)[..], &alices[16..]].concat()),
        ("no row", [7; 48].to_vec()),
    ] {
        let cookie = SessionCookie::parse(&URL_SAFE_NO_PAD.encode(bytes)).unwrap();
        assert_eq!(node.holder(&cookie).await, None, "{made_up}");
    }
    assert_eq!(node.holder(&alice.cookie).await, Some(alice.id));
}

#[test]
fn only_what_a_gateway_set_is_a_session_cookie() {
    let text = SessionCookie::generate(&[7; 16], &SystemEntropy).unwrap().expose().to_owned();
    assert_eq!(SessionCookie::parse(&text).unwrap().expose(), text);
    assert!(!format!("{:?}", SessionCookie::parse(&text)).contains(&text));

    let cut = text.get(1..).unwrap();
    for other in ["", "x", cut, &format!("{text}A"), &format!("{cut}="), &"+".repeat(64), &"é".repeat(32)] {
        assert!(SessionCookie::parse(other).is_err(), "{other}");
    }
}

#[tokio::test]
async fn the_store_holds_only_the_hash_of_a_cookie() {
    let node = Node::new();
    let opened = node.open_in_browser(&person("alice"), None).await;
    let bytes = URL_SAFE_NO_PAD.decode(opened.cookie.expose()).unwrap();

    for (key, (value, _)) in node.store.rows.lock().iter() {
        for secret in [&bytes[16..32], &bytes[32..48], &opened.cookie.expose().as_bytes()[..16]] {
            assert!(!value.windows(16).any(|window| window == secret), "{key:?}");
        }
    }
}

#[tokio::test]
async fn each_sign_in_sets_another_cookie() {
    let node = Node::new();
    let alice = person("alice");
    let first = node.open_in_browser(&alice, None).await;
    let second = node.open_in_browser(&alice, Some(&first.id)).await;

    assert_ne!(first.cookie.expose(), second.cookie.expose());
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn the_session_that_a_browser_held_before_ends_after_the_eviction_delay() {
    let node = Node::new();
    let alice = person("alice");
    let before = node.open_in_browser(&alice, None).await;
    let checked = node.check_cookie(&before.cookie).await.unwrap();
    let other = node.open_in_browser(&alice, None).await;

    let now = node.open_in_browser(&alice, Some(&before.id)).await;

    assert!(!checked.lease.is_current(), "what was remembered of it says a later end");
    assert_eq!(node.check_cookie(&before.cookie).await.unwrap().expires_at, node.now().plus(MINUTE));
    node.clock.advance(MINUTE);
    assert_eq!(node.holder(&before.cookie).await, None);
    assert_eq!(node.holder(&other.cookie).await, Some(other.id), "another browser's goes on");
    assert_eq!(node.holder(&now.cookie).await, Some(now.id));
}

#[tokio::test]
async fn a_sign_in_never_prolongs_the_session_before() {
    let node = Node::new();
    let alice = person("alice");
    let before = node.open_in_browser(&alice, None).await;
    node.open_in_browser(&alice, Some(&before.id)).await;
    let end = node.check_cookie(&before.cookie).await.unwrap().expires_at;
    node.clock.advance(MINUTE / 2);

    node.open_in_browser(&alice, Some(&before.id)).await;

    assert_eq!(node.check_cookie(&before.cookie).await.unwrap().expires_at, end);
}

#[tokio::test]
async fn a_browser_that_signs_in_again_pushes_out_no_other_device() {
    let node = Node::with(config::Sessions { max_per_subject: 2, ..config::Sessions::default() });
    let alice = person("alice");
    let phone = node.open(&alice).await;
    let mut held = node.open_in_browser(&alice, None).await;

    for _ in 0..5 {
        held = node.open_in_browser(&alice, Some(&held.id)).await;
    }
    node.clock.advance(MINUTE);

    assert!(node.is_active(&alice, &phone).await);
    assert_eq!(node.listed(&alice).await.len(), 2);
    assert_eq!(node.metrics.sessions_evicted.get(), 0);
}

#[tokio::test]
async fn a_browser_that_changes_persons_ends_the_session_of_the_person_before_at_once() {
    let node = Node::new();
    let before = node.open_in_browser(&person("alice"), None).await;

    let now = node.open_in_browser(&person("bob"), Some(&before.id)).await;

    assert_eq!(node.holder(&before.cookie).await, None);
    assert_eq!(node.holder(&now.cookie).await, Some(now.id));
}

#[tokio::test]
async fn a_session_before_that_cannot_be_ended_does_not_fail_the_sign_in() {
    let node = Node::new();
    let before = node.open_in_browser(&person("alice"), None).await;
    let key = name::subject_key(name::locator(&person("alice").subject));
    node.store.rows.lock().get_mut(&key).unwrap().0 = bytes::Bytes::from_static(b"rubbish");

    let now = node.open_in_browser(&person("bob"), Some(&before.id)).await;

    assert_eq!(node.holder(&now.cookie).await, Some(now.id));
}

#[tokio::test]
async fn a_session_before_that_never_existed_does_not_fail_the_sign_in() {
    let node = Node::new();
    let alice = person("alice");
    let gone = name::session_id(&name::locator(&alice.subject), &[9; 16]).unwrap();
    for before in [gone, SessionId::parse("not-one-of-ours").unwrap()] {
        let now = node.open_in_browser(&alice, Some(&before)).await;
        assert_eq!(node.holder(&now.cookie).await, Some(now.id));
    }
}

#[tokio::test]
async fn two_tabs_that_sign_in_at_once_both_get_a_session() {
    let node = Arc::new(Node::new());
    let before = node.open_in_browser(&person("alice"), None).await;
    let sign_in = |name: &'static str| {
        let (node, before) = (Arc::clone(&node), before.id.clone());
        tokio::spawn(async move { node.open_in_browser(&person(name), Some(&before)).await })
    };

    let (one, other) = tokio::join!(sign_in("alice"), sign_in("alice"));

    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(node.holder(&one.cookie).await, Some(one.id));
    assert_eq!(node.holder(&other.cookie).await, Some(other.id));
}

#[tokio::test]
async fn a_store_that_does_not_answer_opens_nothing_in_a_browser_and_ends_nothing() {
    let node = Node::new();
    let alice = person("alice");
    let before = node.open_in_browser(&alice, None).await;
    node.store.set_failing(true);

    let new = NewSession { identity: &alice, session_key: None, user_agent: None, profile: None };
    let refused = node.sessions.open_in_browser(new, Some(&before.id), node.now()).await;

    assert!(matches!(refused, Err(SessionError::Store(_))));
    assert!(matches!(node.check_cookie(&before.cookie).await, Err(SessionError::Store(_))));
    node.store.set_failing(false);
    assert_eq!(node.check_cookie(&before.cookie).await.unwrap().expires_at, before.expires_at);
}

#[tokio::test]
async fn a_profile_is_the_one_that_the_last_sign_in_brought() {
    let node = Node::new();
    let alice = person("alice");
    let profile = Profile::new("爱丽丝", "https://thirdwx.qlogo.cn/a/132");
    let opened = node.open_with_profile(&alice, None, Some(&profile)).await;

    for (brought, kept) in [
        (None, profile.clone()),
        (Some(Profile::new("Alice", "")), Profile::new("Alice", "")),
        (None, Profile::new("Alice", "")),
        (Some(Profile::default()), Profile::default()),
    ] {
        node.open_with_profile(&alice, None, brought.as_ref()).await;

        assert_eq!(node.check_cookie(&opened.cookie).await.unwrap().profile, kept);
        assert!(node.listed(&alice).await.iter().all(|session| session.profile == kept));
    }
}

/// A row as gateways wrote it before there were browser sessions.
#[derive(Encode, Decode)]
struct OldSubjectRow {
    #[n(0)]
    appid: TextField<AppId>,
    #[n(1)]
    openid: TextField<OpenId>,
    #[n(2)]
    unionid: Option<TextField<UnionId>>,
    #[n(3)]
    entries: Vec<OldSessionEntry>,
    #[n(4)]
    sealed: Option<u8>,
    #[n(5)]
    generation: u64,
}

#[derive(Encode, Decode)]
struct OldSessionEntry {
    #[cbor(n(0), with = "minicbor::bytes")]
    key: [u8; 16],
    #[cbor(n(1), with = "millis")]
    created_at: Timestamp,
    #[cbor(n(2), with = "millis")]
    last_seen_at: Timestamp,
    #[cbor(n(3), with = "millis")]
    ends_at: Timestamp,
    #[n(4)]
    is_evicted: bool,
    #[n(5)]
    number: u64,
    #[n(6)]
    family: RefreshTokenFamily,
    #[n(7)]
    device: Option<String>,
}

#[tokio::test]
async fn a_row_from_before_browser_sessions_is_read_and_its_session_goes_on() {
    let node = Node::new();
    let alice = person("alice");
    node.open(&person("bob")).await;
    let revocations = node.core.revocations.current().await.unwrap();
    let (locator, now) = (name::locator(&alice.subject), node.now());
    for device in [None, Some("curl".to_owned())] {
        let old = OldSubjectRow {
            appid: TextField(alice.subject.appid.clone()),
            openid: TextField(alice.subject.openid.clone()),
            unionid: None,
            entries: vec![OldSessionEntry {
                key: [7; 16],
                created_at: now,
                last_seen_at: now,
                ends_at: now.plus(DAY),
                is_evicted: false,
                number: revocations.number,
                family: DecodedRefreshToken::generate(locator, &SystemEntropy).unwrap().new_family(),
                device,
            }],
            sealed: None,
            generation: 3,
        };
        let key = name::subject_key(locator);
        let bytes = envelope::encode(&key, &old).unwrap();
        node.store.rows.lock().insert(key, (bytes, now.plus(DAY)));
        let id = name::session_id(&locator, &[7; 16]).unwrap();

        let opened = node.open_in_browser(&alice, None).await;

        assert!(node.sessions.check(&alice.subject, &id, now).await.is_ok());
        assert_eq!(node.holder(&opened.cookie).await, Some(opened.id));
    }
}

/// During an upgrade, gateways of both versions write to one store.
#[tokio::test]
async fn a_row_with_a_browsers_session_is_read_by_an_older_gateway() {
    let node = Node::new();
    let alice = person("alice");
    node.open_with_profile(&alice, None, Some(&Profile::new("Alice", ""))).await;
    let key = name::subject_key(name::locator(&alice.subject));
    let bytes = node.store.rows.lock()[&key].0.clone();

    let old: OldSubjectRow = envelope::decode(&key, &bytes).unwrap();

    assert_eq!(old.entries.len(), 1);
    let again: SubjectRow = envelope::decode(&key, &envelope::encode(&key, &old).unwrap()).unwrap();
    assert!(
        again.entries[0].cookie.is_none(),
        "what it writes ends the browser's session, and opens nothing"
    );
}

#[test]
fn a_profile_keeps_its_bounds_whatever_the_store_holds() {
    #[derive(Encode)]
    struct Forged(#[n(0)] String, #[n(1)] String);

    let called = |nickname: &str, avatar: &str| {
        let bytes = minicbor::to_vec(Forged(nickname.into(), avatar.into())).unwrap();
        minicbor::decode::<crate::session::row::field::ProfileField>(&bytes).unwrap().0
    };

    assert_eq!(called("Alice", "https://a/b"), Profile::new("Alice", "https://a/b"));
    assert_eq!(called("a\r\nX-Role: admin", "javascript:x").nickname(), Some("aX-Role: admin"));
    assert_eq!(called("", "javascript:x"), Profile::default());
    assert_eq!(called(&"长".repeat(9000), "").nickname().unwrap().chars().count(), 64);
}
