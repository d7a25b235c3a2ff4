//! What an authenticator caches, where it reads tokens, and how logs name a subject.

use super::*;

#[test]
fn cached_token_is_decided_without_a_lookup() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    let request = request(&token);
    let credential = fixture.authenticator.credential(&request, false, CrossSite::Refuse).unwrap().unwrap();
    let remembered = |now| fixture.authenticator.cached(&credential, now);
    assert!(remembered(NOW).is_none(), "it was never judged");

    let judged = fixture.verify(&token, NOW).unwrap();
    assert_eq!(judged.recheck_at(), NOW.plus(fixture.sessions.recheck_after()));
    let reads = fixture.reads();

    assert_eq!(remembered(NOW).unwrap().unwrap().identity(), &identity(SHOP));
    assert_eq!(remembered(NOW.plus(LIFETIME)).unwrap().unwrap_err(), AuthnError::Token(VerifyError::Expired));
    assert_eq!(fixture.reads(), reads);
    assert_eq!((fixture.outcome("valid"), fixture.outcome("expired")), (2, 1));
}

#[test]
fn metric_reports_the_number_of_cached_tokens() {
    let fixture = Fixture::new();
    for appid in [SHOP, BANK, SHOP] {
        fixture.verify(&fixture.mint(appid), NOW).unwrap();
    }

    fixture.authenticator.update_cache_metric();

    // No two tokens are the same, also of one session.
    assert_eq!(fixture.metrics.token_cache_entries.get(), 3);
}

#[test]
fn sources_configure_where_a_token_is_read() {
    let build =
        |config: config::TokenSources| TokenSources::build(&config, &mut Findings::default()).unwrap();

    let none = build(config::TokenSources::default());
    let all = build(config::TokenSources {
        bearer: false,
        header: vec!["X-Token".into()],
        cookie: Some("token".into()),
        websocket_query: Some("t".into()),
        ..config::TokenSources::default()
    });

    assert!(none.read_authorization() && none.headers().is_empty());
    assert_eq!((none.cookie(), none.websocket_query()), (None, None));
    assert!(!all.read_authorization());
    assert_eq!(all.headers(), ["x-token"]);
    assert_eq!((all.cookie(), all.websocket_query()), (Some("token"), Some("t")));
}

#[test]
fn subject_hash_differs_from_the_hash_across_apps() {
    let hasher = hasher();
    let identity = identity(SHOP);
    let [alice, bob] = ["u-Alice", "u-Bob"].map(|unionid| UnionId::parse(unionid).unwrap());

    let names = [hasher.hash(&identity.subject), hasher.hash_unionid(&alice), hasher.hash_unionid(&bob)];

    assert_eq!(
        names,
        [hasher.hash(&identity.subject), hasher.hash_unionid(&alice), hasher.hash_unionid(&bob)]
    );
    assert_eq!(BTreeSet::from_iter(&names).len(), 3, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("ephemeral:") && name.len() == 42), "{names:?}");
}

#[test]
fn hashed_cache_keys_are_not_hashed_again() {
    let finished = |write: &dyn Fn(&mut Prehashed)| {
        let mut hasher = Prehashed::default();
        write(&mut hasher);
        hasher.finish()
    };

    assert_eq!(finished(&|hasher| hasher.write_u128(7 << 64 | 5)), 5);
    let others =
        [&b""[..], b"a", b"b", b"ab", b"ba", b"aa"].map(|bytes| finished(&|hasher| hasher.write(bytes)));
    assert_eq!(BTreeSet::from(others).len(), others.len(), "{others:?}");
}
