//! Sessions that end, and a store that does not answer.

use super::*;

const RECHECK_AFTER: Duration = Duration::from_secs(30);

fn last_before(end: Timestamp) -> Timestamp {
    Timestamp::from_millis(end.millis() - 1)
}

#[test]
fn token_of_an_ended_session_is_refused_though_it_is_valid() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    fixture.revoke(SHOP);

    for _ in 0..3 {
        assert_eq!(fixture.verify(&token, NOW).unwrap_err(), AuthnError::SessionEnded);
    }

    assert_eq!(fixture.memory(), (0, 3, 1));
    assert_eq!(fixture.reads(), 1, "that a session has ended is remembered");
    assert_eq!(fixture.outcome("session_ended"), 3);
}

#[test]
fn verdict_from_before_a_revocation_is_not_used_after_it() {
    let fixture = Fixture::new();
    let (shop, bank) = (fixture.mint(SHOP), fixture.mint(BANK));
    fixture.verify(&shop, NOW).unwrap();
    fixture.verify(&bank, NOW).unwrap();

    fixture.revoke(SHOP);

    assert_eq!(fixture.verify(&shop, NOW).unwrap_err(), AuthnError::SessionEnded);
    let reads = fixture.reads();
    assert!(fixture.verify(&bank, NOW).is_ok(), "another person's session goes on");
    assert_eq!(fixture.reads(), reads, "and needs no look");
}

/// The race: what was read before a revocation is answered after it.
#[test]
fn lookup_that_began_before_a_revocation_is_not_used_after_it() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    fixture.store.is_gated.store(true, Ordering::SeqCst);

    let verdict = fixture.threads.block_on(async {
        let gate = fixture.store.gate.write().await;
        let (credential_of, authenticator) = (request(&token), &fixture.authenticator);
        let credential = authenticator.credential(&credential_of, false, CrossSite::Refuse).unwrap().unwrap();
        let mut verdict = Box::pin(authenticator.verify(&credential, NOW));
        while fixture.store.kept_back.load(Ordering::SeqCst) == 0 {
            assert!(futures_util::poll!(verdict.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        // The row was read, and is held back until the session has ended.
        fixture.store.is_gated.store(false, Ordering::SeqCst);
        let scope = SessionScope::Session(fixture.opened.borrow()[SHOP].clone());
        fixture.sessions.revoke(&scope, NOW).await.unwrap();
        drop(gate);
        verdict.await
    });

    assert_eq!(verdict.unwrap_err(), AuthnError::SessionEnded);
    assert_eq!(fixture.verify(&token, NOW).unwrap_err(), AuthnError::SessionEnded);
}

#[test]
fn concurrent_requests_with_one_token_cost_one_lookup() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    let request = request(&token);
    let credential = fixture.authenticator.credential(&request, false, CrossSite::Refuse).unwrap().unwrap();
    let reads = fixture.reads();

    let verify = || fixture.authenticator.verify(&credential, NOW);
    let everybody = futures_util::future::join_all((0..50).map(|_| verify()));
    let verdicts = fixture.threads.block_on(everybody);

    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(fixture.reads(), reads + 1);
}

#[test]
fn verdict_is_used_until_its_lookup_is_due() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    fixture.verify(&token, NOW).unwrap();
    fixture.store.set_away(true);

    let due = NOW.plus(RECHECK_AFTER);
    assert!(fixture.verify(&token, last_before(due)).is_ok());
    assert_eq!(fixture.verify(&token, due).unwrap_err(), AuthnError::StoreUnavailable);
    assert_eq!(fixture.memory().2, 0, "that nobody answered is not remembered");

    fixture.store.set_away(false);
    assert!(fixture.verify(&token, due).is_ok());
    assert_eq!(fixture.outcome("store_unavailable"), 1);
}

#[test]
fn verdict_without_a_lease_is_not_used_while_the_store_is_unavailable() {
    let fixture = Fixture::new();
    let token = fixture.mint(SHOP);
    fixture.verify(&token, NOW).unwrap();
    fixture.revoke(SHOP);

    fixture.store.set_away(true);

    assert_eq!(fixture.verify(&token, NOW).unwrap_err(), AuthnError::StoreUnavailable);
}

#[test]
fn forged_token_causes_no_store_lookup() {
    let fixture = Fixture::new();
    let forged = forge(&fixture.mint(SHOP));
    let reads = fixture.reads();

    assert_eq!(fixture.verify(&forged, NOW).unwrap_err(), AuthnError::Token(VerifyError::BadSignature));

    assert_eq!(fixture.reads(), reads);
}

#[test]
fn unionid_comes_from_the_store() {
    let fixture = Fixture::new();
    let old = Identity { unionid: None, ..identity(SHOP) };
    let (token, _) = fixture.mint_for(&old);
    // The next login tells.
    fixture.mint_for(&identity(SHOP));

    let authenticated = fixture.verify(&token, NOW).unwrap();

    assert_eq!(authenticated.identity(), &identity(SHOP));
    assert_eq!(authenticated.header_values().unionid.as_ref().unwrap(), "u-Alice");
}
