use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::entropy::SystemEntropy;
use crate::store::testing::SwitchedStore;

/// A source that gives one byte forever.
#[derive(Debug)]
struct Stuck(u8);

impl Entropy for Stuck {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        buffer.fill(self.0);
        Ok(())
    }
}

struct Fixture {
    store: Arc<SwitchedStore>,
    clock: ManualClock,
    state: SignInState,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::start_now();
        let store = SwitchedStore::open(folder.path(), Arc::new(clock.clone()));
        let state = SignInState::draw(&SystemEntropy).unwrap();
        let sign_in = SignInRecord::new(("shop", "wx1"), "https://shop", "/cart", [7; 32], clock.now());
        sign_in.insert(&*store, &state).await.unwrap();
        Self { store, clock, state, _folder: folder }
    }

    async fn bind(&self, code: &str) -> Result<SignInRecord, BrowserError> {
        let (store, now) = (&*self.store, self.clock.now());
        let found = StoredSignIn::look_up(store, &self.state, now).await?;
        found.bind(store, &self.state, &Code::parse(code).unwrap(), self.bearer(true), now).await
    }

    fn bearer(&self, is_browser: bool) -> Bearer {
        let client = self.state.client(&Client::for_test([203, 0, 113, 7], "one"));
        Bearer { client, is_browser }
    }
}

#[test]
fn state_is_32_random_letters_and_digits() {
    let drawn: BTreeSet<String> =
        (0..1000).map(|_| SignInState::draw(&SystemEntropy).unwrap().expose().to_owned()).collect();
    assert_eq!(drawn.len(), 1000);
    let mut characters = BTreeSet::new();
    for state in &drawn {
        assert_eq!(state.len(), 32);
        assert!(SignInState::parse(state).is_some());
        characters.extend(state.bytes());
    }
    assert_eq!(Vec::from_iter(characters), ALPHABET, "every letter and digit, and nothing else");
}

#[test]
fn random_bytes_that_would_favour_a_character_are_rejected() {
    for byte in 248..=255 {
        assert!(SignInState::draw(&Stuck(byte)).is_err(), "{byte}");
    }
    assert_eq!(SignInState::draw(&Stuck(247)).unwrap().expose(), "z".repeat(32));
}

#[test]
fn state_is_hidden_in_debug() {
    let state = SignInState::draw(&SystemEntropy).unwrap();

    assert_eq!(format!("{state:?}"), "State([redacted])");
}

#[tokio::test]
async fn store_holds_neither_state_nor_code() {
    let fixture = Fixture::new().await;
    fixture.bind("the-code-of-wechat").await.unwrap();

    let row = fixture.store.get(&fixture.state.key()).await.unwrap().unwrap();

    assert!(row.windows(5).any(|window| window == b"/cart"), "this is the row");
    for secret in [fixture.state.expose(), "the-code-of-wechat"] {
        assert!(!row.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
}

#[tokio::test]
async fn one_of_several_concurrent_codes_is_bound() {
    let fixture = Fixture::new().await;
    let codes: Vec<String> = (0..10).map(|index| format!("code{index}")).collect();

    let bound = futures_util::future::join_all(codes.iter().map(|code| fixture.bind(code))).await;

    let winners: Vec<&String> =
        codes.iter().zip(&bound).filter(|(_, bound)| bound.is_ok()).map(|(code, _)| code).collect();
    let [winner] = winners[..] else { panic!("{winners:?}") };
    assert!(fixture.bind(winner).await.is_ok(), "the same code goes on");
    for bound in bound.into_iter().filter_map(Result::err) {
        assert_eq!(bound, BrowserError::StateUnknown);
    }
}

#[tokio::test]
async fn binding_a_code_does_not_extend_the_lifetime_of_a_state() {
    let fixture = Fixture::new().await;
    fixture.clock.advance(Duration::from_secs(599));
    fixture.bind("code").await.unwrap();
    fixture.clock.advance(Duration::from_secs(1));

    assert_eq!(fixture.bind("code").await.err(), Some(BrowserError::StateUnknown));
    fixture.clock.advance(AFTERLIFE);
    assert_eq!(fixture.store.get(&fixture.state.key()).await.unwrap(), None, "the row went with it");
}

#[tokio::test]
async fn expired_state_is_unknown_even_if_the_store_still_holds_it() {
    let fixture = Fixture::new().await;
    let (key, now) = (fixture.state.key(), fixture.clock.now());
    let row = fixture.store.get(&key).await.unwrap().unwrap();
    fixture.store.put(&key, row, Duration::from_secs(6000)).await.unwrap();
    fixture.clock.advance(LIFETIME + AFTERLIFE);

    let found = StoredSignIn::look_up(&*fixture.store, &fixture.state, now.plus(LIFETIME + AFTERLIFE)).await;

    assert_eq!(found.err(), Some(BrowserError::StateUnknown));
}

#[tokio::test]
async fn state_generated_twice_is_refused() {
    let fixture = Fixture::new().await;
    let other = SignInRecord::new(("shop", "wx1"), "https://shop", "/", [8; 32], fixture.clock.now());

    assert_eq!(other.insert(&*fixture.store, &fixture.state).await, Err(SignInError::Internal));
}

#[tokio::test]
async fn state_calls_fail_while_the_store_is_unavailable() {
    let fixture = Fixture::new().await;
    let (store, now) = (&*fixture.store, fixture.clock.now());
    let away = SignInError::StoreUnavailable;
    let found = StoredSignIn::look_up(store, &fixture.state, now).await.ok().unwrap();
    fixture.store.set_away(true);

    let sign_in = SignInRecord::new(("shop", "wx1"), "https://shop", "/", [8; 32], now);
    assert_eq!(sign_in.insert(store, &SignInState::draw(&SystemEntropy).unwrap()).await, Err(away.clone()));
    let away = Some(BrowserError::from(away));
    assert_eq!(StoredSignIn::look_up(store, &fixture.state, now).await.err(), away);
    let code = Code::parse("code").unwrap();
    assert_eq!(found.bind(store, &fixture.state, &code, fixture.bearer(true), now).await.err(), away);
}

#[tokio::test]
async fn code_may_be_repeated_only_by_its_browser_or_its_client() {
    let fixture = Fixture::new().await;
    let code = Code::parse("code").unwrap();
    let client = |address, agent| fixture.state.client(&Client::for_test(address, agent));
    let first = client([203, 0, 113, 7], "one NetType/WIFI");
    assert!(first == client([203, 0, 113, 8], "one NetType/4G"), "another address of the carrier");
    let others = [client([203, 0, 114, 7], "one"), client([203, 0, 113, 7], "other")];
    let bind = async |client, is_browser| {
        let (store, now) = (&*fixture.store, fixture.clock.now());
        let found = StoredSignIn::look_up(store, &fixture.state, now).await?;
        found.bind(store, &fixture.state, &code, Bearer { client, is_browser }, now).await.map(drop)
    };
    for is_browser in [false, true] {
        assert_eq!(bind(first, is_browser).await, Ok(()));
    }
    for other in others {
        assert!(other != first);
        assert_eq!(bind(other, false).await, Err(SignInError::CodeOfAnother.into()));
        assert_eq!(bind(other, true).await, Ok(()), "the browser that began");
        assert_eq!(
            bind(other, false).await,
            Err(SignInError::CodeOfAnother.into()),
            "which changes nothing for others"
        );
    }
}

#[test]
fn client_hash_depends_on_the_state() {
    let [one, other] =
        [SignInState::draw(&SystemEntropy).unwrap(), SignInState::draw(&SystemEntropy).unwrap()];
    let client = Client::for_test([203, 0, 113, 7], "one");

    assert!(one.client(&client) == one.client(&client));
    assert!(one.client(&client) != other.client(&client));
}

/// As a gateway of before wrote it, which knew of no clients.
#[test]
fn older_record_is_read_and_still_requires_the_cookie() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let sign_in = SignInRecord::new(("shop", "wx1"), "https://shop", "/cart", [7; 32], now);

    let (read, written) = SignInRecord::recode(&sign_in.written()).unwrap();

    assert_eq!(written, sign_in.written());
    assert!(read.started_by.is_none() && read.brought_by.is_none());
}
