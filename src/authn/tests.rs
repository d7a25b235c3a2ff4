//! Finding tokens, and judging them from memory.

mod browser;
mod cache;
mod credential;
mod cross_site;
mod hostile;
mod session_end;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::{App, AppKind, AppTokenApi, BrowserCheck, KeyAlgorithm, SecretSource, SigningKey};
use crate::cookie::SESSION;
use crate::entropy::{NoEntropy, SystemEntropy};
use crate::identity::{Identity, OpenId, Profile, SessionId, UnionId};
use crate::key_file::OnMissingKey;
use crate::session::{self, NewSession, SessionScope};
use crate::store::StoreHealth;
use crate::store::testing::SwitchedStore;
use crate::token::generate_key;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The end of a session that outlives every token.
const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX);
const LIFETIME: Duration = Duration::from_secs(7200);
const SHOP: &str = "wx0000000000shop";
const BANK: &str = "wx0000000000bank";

/// An authenticator for two apps, and what it is made of.
struct Fixture {
    config: config::Tokens,
    metrics: Metrics,
    tokens: Arc<Tokens>,
    sessions: Arc<Sessions>,
    authenticator: Authenticator,
    store: Arc<SwitchedStore>,
    threads: tokio::runtime::Runtime,
    /// The session of each app's tokens.
    opened: RefCell<BTreeMap<String, SessionId>>,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(config::Tokens::default(), &[("shop", SHOP), ("bank", BANK)])
    }

    fn with(config: config::Tokens, apps: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let tokens = tokens(&config, folder.path());
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Arc::new(ManualClock::start_at(NOW));
        let store = SwitchedStore::open(folder.path(), clock.clone());
        let sessions = sessions(&store, clock, folder.path());
        let authenticator = build(&config, apps, &tokens, &sessions, &metrics).unwrap();
        let opened = RefCell::default();
        Self { config, metrics, tokens, sessions, authenticator, store, threads, opened, folder }
    }

    /// A token of the app's one session.
    fn mint(&self, appid: &str) -> String {
        let session = self.opened.borrow().get(appid).cloned();
        let session = session.unwrap_or_else(|| self.open(&identity(appid)));
        self.opened.borrow_mut().insert(appid.to_owned(), session.clone());
        self.mint_of(&identity(appid), &session)
    }

    /// A token of a session of its own.
    fn mint_for(&self, identity: &Identity) -> (String, SessionId) {
        let session = self.open(identity);
        (self.mint_of(identity, &session), session)
    }

    fn mint_of(&self, identity: &Identity, session: &SessionId) -> String {
        let minted = self.tokens.mint(identity, session, FOREVER, NOW, &SystemEntropy).unwrap();
        minted.expose().to_owned()
    }

    fn open(&self, identity: &Identity) -> SessionId {
        let new = NewSession { identity, session_key: None, user_agent: None, profile: None };
        self.threads.block_on(self.sessions.open(new, NOW)).unwrap().id
    }

    fn revoke(&self, appid: &str) {
        let scope = SessionScope::Session(self.opened.borrow()[appid].clone());
        let ended = self.threads.block_on(self.sessions.revoke(&scope, NOW)).unwrap();
        assert_eq!(ended, Some(1));
        self.store.reads.store(0, Ordering::SeqCst);
    }

    /// Rows of subjects that were read.
    fn reads(&self) -> u32 {
        self.store.reads.load(Ordering::SeqCst)
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Authenticated, AuthnError> {
        self.threads.block_on(verify(&self.authenticator, token, now))
    }

    /// Opens a session that a browser holds.
    fn open_in_browser(&self, identity: &Identity, profile: Option<&Profile>) -> (String, SessionId) {
        let new = NewSession { identity, session_key: None, user_agent: None, profile };
        let opened = self.threads.block_on(self.sessions.open_in_browser(new, None, NOW)).unwrap();
        (opened.cookie.expose().to_owned(), opened.id)
    }

    fn verify_cookie(&self, cookie: &str, now: Timestamp) -> Result<Authenticated, AuthnError> {
        self.threads.block_on(verify_request(&self.authenticator, &cookie_request(cookie), now))
    }

    /// Hits, misses, forgeries remembered.
    fn memory(&self) -> (u64, u64, u64) {
        self.authenticator.refused.run_pending_tasks();
        let Metrics { token_cache_hits, token_cache_misses, .. } = &self.metrics;
        (token_cache_hits.get(), token_cache_misses.get(), self.authenticator.refused.entry_count())
    }

    fn outcome(&self, word: &str) -> u64 {
        self.metrics.token_verifications.with_label_values(&[word]).get()
    }
}

fn hasher() -> SubjectHasher {
    SubjectHasher::ephemeral(&SystemEntropy).unwrap()
}

async fn verify(
    authenticator: &Authenticator,
    token: &str,
    now: Timestamp,
) -> Result<Authenticated, AuthnError> {
    verify_request(authenticator, &request(token), now).await
}

async fn verify_request(
    authenticator: &Authenticator,
    request: &Parts,
    now: Timestamp,
) -> Result<Authenticated, AuthnError> {
    let credential = authenticator.credential(request, false, CrossSite::Refuse)?.unwrap();
    authenticator.verify(&credential, now).await
}

fn cookie_request(cookie: &str) -> Parts {
    let request = http::Request::builder().header("cookie", format!("a=1; {SESSION}={cookie}"));
    request.body(()).unwrap().into_parts().0
}

fn request(token: &str) -> Parts {
    let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
    request.body(()).unwrap().into_parts().0
}

fn sessions(store: &Arc<SwitchedStore>, clock: Arc<dyn Clock>, folder: &Path) -> Arc<Sessions> {
    let (store, metrics) = (Arc::<SwitchedStore>::clone(store), Arc::new(Metrics::new().unwrap()));
    let health = Arc::new(StoreHealth::new(store.as_ref(), &metrics));
    let core = Arc::new(session::Core::new(store, health, clock, Arc::new(SystemEntropy), metrics));
    let (config, mut findings) = (config::Sessions::default(), Findings::default());
    let sessions = Sessions::build(&config, folder, OnMissingKey::Create, core, &mut findings);
    Arc::new(sessions.unwrap_or_else(|| panic!("{findings:?}")))
}

fn tokens(config: &config::Tokens, folder: &Path) -> Arc<Tokens> {
    let mut findings = Findings::default();
    let tokens = Tokens::build(config, folder, OnMissingKey::Create, &SystemEntropy, &mut findings);
    Arc::new(tokens.unwrap_or_else(|| panic!("{findings:?}")))
}

fn build(
    config: &config::Tokens,
    apps: &[(&str, &str)],
    tokens: &Arc<Tokens>,
    sessions: &Arc<Sessions>,
    metrics: &Metrics,
) -> Result<Authenticator, Vec<String>> {
    let app = |appid: &str| App {
        kind: AppKind::MiniProgram,
        appid: appid.into(),
        secret: SecretSource::Inline("secret".into()),
        title: None,
        scope: None,
        browser_check: BrowserCheck::default(),
        code_login: false,
        unknown_unionid: None,
        app_token: AppTokenApi::default(),
        hand_over: None,
    };
    let apps = apps.iter().map(|(name, appid)| ((*name).to_owned(), app(appid))).collect();
    let mut findings = Findings::default();
    let authenticator = Authenticator::build(
        config,
        &apps,
        Dependencies { tokens: Arc::clone(tokens), sessions: Arc::clone(sessions), tells_profile: true },
        metrics,
        hasher(),
        &SystemEntropy,
        &mut findings,
    );
    assert_eq!(authenticator.is_none(), findings.has_errors());
    authenticator.ok_or_else(|| findings.iter().map(ToString::to_string).collect())
}

fn identity(appid: &str) -> Identity {
    let subject =
        Subject { appid: AppId::parse(appid).unwrap(), openid: OpenId::parse("o-Alice_1").unwrap() };
    Identity { subject, unionid: Some(UnionId::parse("u-Alice").unwrap()) }
}

#[test]
fn valid_token_authenticates_on_first_and_second_use() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);

    for time in ["first", "again"] {
        let authenticated = fixture.verify(&token, NOW).unwrap();

        assert_eq!(authenticated.identity(), &identity(SHOP), "{time}");
        assert_eq!(&**authenticated.app(), "shop", "{time}");
        assert_eq!(authenticated.session(), &fixture.opened.borrow()[SHOP], "{time}");
        assert_eq!(authenticated.expires_at(), NOW.plus(LIFETIME), "{time}");
        let HeaderValues { openid, unionid, appid, source, .. } = authenticated.header_values();
        assert_eq!((openid.as_bytes(), appid.as_bytes()), (&b"o-Alice_1"[..], SHOP.as_bytes()), "{time}");
        assert_eq!(unionid.as_ref().unwrap(), "u-Alice", "{time}");
        assert_eq!(source, "wx_client", "{time}");
    }
    assert_eq!(fixture.memory(), (1, 1, 0));
    assert_eq!(fixture.outcome("valid"), 2);
}

#[test]
fn unknown_unionid_has_no_header_value() {
    let fixture = Fixture::new();
    let (token, _) = fixture.mint_for(&Identity { unionid: None, ..identity(SHOP) });

    let authenticated = fixture.verify(&token, NOW).unwrap();

    assert!(authenticated.header_values().unionid.is_none());
}

/// C10: a remembered token expires when it says, to the millisecond.
#[test]
fn cached_token_expires() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    let last = Timestamp::from_millis(NOW.plus(LIFETIME).millis() - 1);

    assert!(fixture.verify(&token, NOW).is_ok());
    assert!(fixture.verify(&token, last).is_ok());
    assert_eq!(
        fixture.verify(&token, NOW.plus(LIFETIME)).unwrap_err(),
        AuthnError::Token(VerifyError::Expired)
    );

    assert_eq!(fixture.memory(), (1, 2, 0));
    assert_eq!(fixture.outcome("expired"), 1);
}

/// C9: what one app's token primed, another app's token does not find.
#[test]
fn cached_token_belongs_to_one_app() {
    let fixture = Fixture::new();
    let (shop, bank) = (fixture.mint(SHOP), fixture.mint(BANK));

    for _ in 0..3 {
        assert_eq!(&**fixture.verify(&shop, NOW).unwrap().app(), "shop");
        assert_eq!(&**fixture.verify(&bank, NOW).unwrap().app(), "bank");
    }
    assert_eq!(fixture.memory(), (4, 2, 0));
}

#[test]
fn changed_token_does_not_match_the_cached_original() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    fixture.verify(&token, NOW).unwrap();

    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(fixture.verify(&changed, NOW).is_err(), "{at}");
    }
    assert_eq!(fixture.memory().0, 0);
}

#[test]
fn token_of_an_app_that_is_not_configured_is_refused() {
    let fixture = Fixture::new();

    let refusal = fixture.verify(&fixture.mint("wx0000000000gone"), NOW).unwrap_err();

    assert_eq!(refusal, AuthnError::UnknownApp);
}

/// C10: a reload that drops an app or a key makes a new authenticator, which remembers nothing.
#[test]
fn token_is_refused_after_its_app_or_key_is_removed() {
    let mut fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    fixture.verify(&token, NOW).unwrap();

    fixture.authenticator =
        build(&fixture.config, &[("bank", BANK)], &fixture.tokens, &fixture.sessions, &fixture.metrics)
            .unwrap();
    assert_eq!(fixture.verify(&token, NOW).unwrap_err(), AuthnError::UnknownApp);

    let file = fixture.folder.path().join("new.pem");
    write_private(&file, generate_key(KeyAlgorithm::ES256).unwrap().pem.expose_secret());
    let key = SigningKey {
        kid: "new".into(),
        algorithm: KeyAlgorithm::ES256,
        file: Some(file.into()),
        secret: None,
    };
    let config = config::Tokens { keys: vec![key], ..config::Tokens::default() };
    let rotated = tokens(&config, fixture.folder.path());
    fixture.authenticator =
        build(&config, &[("shop", SHOP)], &rotated, &fixture.sessions, &fixture.metrics).unwrap();
    assert_eq!(fixture.verify(&token, NOW).unwrap_err(), AuthnError::Token(VerifyError::UnknownKey));
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The token with another signature, well formed.
fn forge(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut signature: Vec<char> = signature.chars().collect();
    signature[0] = if signature[0] == 'A' { 'B' } else { 'A' };
    format!("{message}.{}", signature.into_iter().collect::<String>())
}

#[test]
fn refusal_of_a_forged_signature_is_cached() {
    let fixture = Fixture::new();
    let forged = forge(&fixture.mint(SHOP));

    for _ in 0..3 {
        assert_eq!(fixture.verify(&forged, NOW).unwrap_err(), AuthnError::Token(VerifyError::BadSignature));
    }

    assert_eq!(fixture.memory(), (0, 3, 1));
    assert_eq!(fixture.outcome("bad_signature"), 3);
}

#[test]
fn refusal_that_depends_on_time_is_not_cached() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);

    let early = Timestamp::from_seconds(NOW.seconds() - 60);
    assert_eq!(fixture.verify(&token, early).unwrap_err(), AuthnError::Token(VerifyError::NotYetValid));
    assert_eq!(
        fixture.verify(&token, NOW.plus(LIFETIME)).unwrap_err(),
        AuthnError::Token(VerifyError::Expired)
    );
    assert!(fixture.verify(&token, NOW).is_ok());

    assert_eq!(fixture.memory(), (0, 3, 0));
}

#[test]
fn malformed_token_is_refused_and_not_cached() {
    let fixture = Fixture::new();

    for number in 0..100 {
        let junk = format!("junk{number}");
        assert_eq!(fixture.verify(&junk, NOW).unwrap_err(), AuthnError::Token(VerifyError::Malformed));
    }

    assert_eq!(fixture.memory(), (0, 100, 0));
}

#[test]
fn cache_size_is_bounded() {
    let cache = config::TokenCache { capacity: 10, refused_capacity: 10, ..config::TokenCache::default() };
    let fixture = Fixture::with(
        config::Tokens { cache, algorithm: KeyAlgorithm::EdDSA, ..config::Tokens::default() },
        &[("shop", SHOP)],
    );

    for _ in 0..100 {
        let token = fixture.mint(SHOP);
        fixture.verify(&token, NOW).unwrap();
        fixture.verify(&forge(&token), NOW).unwrap_err();
    }

    fixture.authenticator.verified.run_pending_tasks();
    assert!(fixture.authenticator.verified.entry_count() <= 10);
    assert!(fixture.memory().2 <= 10);
}

#[test]
fn caches_with_zero_capacity_still_verify_tokens() {
    let cache =
        config::TokenCache { capacity: 0, refused_capacity: 0, refused_for: config::Duration::from_secs(0) };
    let fixture = Fixture::with(config::Tokens { cache, ..config::Tokens::default() }, &[("shop", SHOP)]);
    let token = fixture.mint(SHOP);

    for _ in 0..3 {
        assert!(fixture.verify(&token, NOW).is_ok());
        assert_eq!(
            fixture.verify(&forge(&token), NOW).unwrap_err(),
            AuthnError::Token(VerifyError::BadSignature)
        );
    }
}

#[test]
fn logs_contain_only_a_hash_of_the_subject() {
    let fixture = Fixture::new();

    let shop = fixture.verify(&fixture.mint(SHOP), NOW).unwrap();
    let shop_again = fixture.verify(&fixture.mint(SHOP), NOW).unwrap();
    let bank = fixture.verify(&fixture.mint(BANK), NOW).unwrap();

    let (kid, digits) = shop.subject_hash().split_once(':').unwrap();
    assert_eq!((kid, digits.len()), ("ephemeral", 32));
    assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(shop.subject_hash(), shop_again.subject_hash());
    assert_ne!(shop.subject_hash(), bank.subject_hash());
    assert!(!format!("{shop:?}").contains("Alice"));
    // Another key: hashes tell nothing across installations.
    let other = Fixture::new();
    assert_ne!(other.verify(&other.mint(SHOP), NOW).unwrap().subject_hash(), shop.subject_hash());
}

#[test]
fn authenticated_for_tests_hides_the_subject_in_debug() {
    let proof = Authenticated::for_test(identity(SHOP), None, None, "shop");

    assert_eq!(format!("{proof:?}"), "Authenticated(0123456789abcdef of shop)");
}

#[test]
fn every_refusal_has_a_distinct_code_and_one_oauth_error() {
    let fixture = Fixture::new();
    let mut words: Vec<&str> = AuthnError::ALL.iter().map(|refusal| refusal.reason()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), AuthnError::ALL.len());

    for refusal in AuthnError::ALL {
        assert_eq!(fixture.outcome(refusal.reason()), 0, "{refusal:?}");
        fixture.authenticator.counters.count_error(refusal);
        assert_eq!(fixture.outcome(refusal.reason()), 1, "{refusal:?}");
        let is_silent = matches!(
            refusal,
            AuthnError::NoToken | AuthnError::Blocked | AuthnError::StoreUnavailable | AuthnError::CrossSite
        );
        let expected = (!is_silent).then_some("invalid_token");
        assert_eq!(refusal.oauth_error(), expected, "{refusal:?}");
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let sources = config::TokenSources {
        header: vec!["Authorization".into()],
        cookie: Some("a b".into()),
        websocket_query: Some("a=b".into()),
        ..config::TokenSources::default()
    };
    let cache =
        config::TokenCache { refused_for: "40000000d".parse().unwrap(), ..config::TokenCache::default() };
    let config = config::Tokens { sources, cache, ..config::Tokens::default() };
    let fixture = Fixture::new();

    let problems =
        build(&config, &[("a", SHOP), ("b", SHOP)], &fixture.tokens, &fixture.sessions, &fixture.metrics)
            .unwrap_err();

    let paths: Vec<&str> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "tokens.sources.header",
            "tokens.sources.cookie",
            "tokens.sources.websocket_query",
            "tokens.cache.refused_for",
        ]
    );
}

#[test]
fn gateway_does_not_start_without_randomness() {
    #[derive(Debug)]
    struct Dry;
    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
            Err(NoEntropy)
        }
    }
    let Fixture { config, metrics, tokens, sessions, .. } = Fixture::new();
    let mut findings = Findings::default();

    let built = Authenticator::build(
        &config,
        &BTreeMap::new(),
        Dependencies { tokens, sessions, tells_profile: false },
        &metrics,
        hasher(),
        &Dry,
        &mut findings,
    );

    assert!(built.is_none());
    assert!(findings.has_errors());
}

/// What `tokens.cache.capacity` is documented with: run by hand, with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement that parallel tests would distort"]
fn measure_cache_entry_size() {
    const ENTRIES: usize = 50_000;
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    };
    let fixture = Fixture::new();
    let people: Vec<Identity> = (0..ENTRIES)
        .map(|number| Identity {
            subject: Subject {
                appid: AppId::parse(SHOP).unwrap(),
                openid: OpenId::parse(&format!("oGZUI0egBJY1zhBYw2Kh{number:08}")).unwrap(),
            },
            unionid: Some(UnionId::parse(&format!("ocMvos6NjeKLIBqg5Mr9{number:08}")).unwrap()),
        })
        .collect();
    let sessions = fixture.threads.block_on(async {
        let mut sessions = Vec::new();
        for people in people.chunks(500) {
            let open = |identity| {
                fixture
                    .sessions
                    .open(NewSession { identity, session_key: None, user_agent: None, profile: None }, NOW)
            };
            sessions.extend(futures_util::future::join_all(people.iter().map(open)).await);
        }
        sessions
    });
    let tokens: Vec<String> = people
        .iter()
        .zip(&sessions)
        .map(|(identity, session)| fixture.mint_of(identity, &session.as_ref().unwrap().id))
        .collect();
    // Whatever else grows with the first look at a row.
    for (identity, session) in people.iter().zip(&sessions) {
        let look = fixture.sessions.check(&identity.subject, &session.as_ref().unwrap().id, NOW);
        fixture.threads.block_on(look).unwrap();
    }

    let before = resident();
    for token in &tokens {
        fixture.verify(token, NOW).unwrap();
    }
    fixture.authenticator.verified.run_pending_tasks();
    let after = resident();

    assert_eq!(fixture.authenticator.verified.entry_count(), ENTRIES as u64);
    // Beside other tests, what those gave back may be more.
    println!("{} bytes an entry", after.saturating_sub(before) / ENTRIES);
}
