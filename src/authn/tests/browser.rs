//! Session cookies: judged by the session they are of, and never taken for tokens.

use super::*;
use crate::session::SessionCookie;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn made_up(byte: u8) -> String {
    let text = char::from(byte).to_string().repeat(64);
    SessionCookie::parse(&text).unwrap().expose().to_owned()
}

#[test]
fn session_cookie_authenticates_on_first_and_second_use() {
    let fixture = Fixture::new();
    let (cookie, session) = fixture.open_in_browser(&identity(SHOP), None);

    for time in ["first", "again"] {
        let authenticated = fixture.verify_cookie(&cookie, NOW).unwrap();

        assert_eq!(authenticated.identity(), &identity(SHOP), "{time}");
        assert_eq!(&**authenticated.app(), "shop", "{time}");
        assert_eq!(authenticated.session(), &session, "{time}");
        assert_eq!(authenticated.expires_at(), NOW.plus(30 * DAY), "{time}");
        assert!(authenticated.header_values().profile.is_none(), "{time}");
    }
    assert_eq!(fixture.memory(), (1, 1, 0));
    assert_eq!(fixture.reads(), 2, "one to open it, one to look it up");
    assert_eq!(fixture.outcome("valid"), 2);
}

#[test]
fn session_cookie_is_refused_once_its_session_was_revoked() {
    let fixture = Fixture::new();
    let (cookie, session) = fixture.open_in_browser(&identity(SHOP), None);
    fixture.verify_cookie(&cookie, NOW).unwrap();
    fixture.threads.block_on(fixture.sessions.revoke(&SessionScope::Session(session), NOW)).unwrap();
    fixture.store.reads.store(0, Ordering::SeqCst);

    for _ in 0..3 {
        assert_eq!(fixture.verify_cookie(&cookie, NOW).unwrap_err(), AuthnError::SessionEnded);
    }

    assert_eq!(fixture.reads(), 1, "that a session has ended is remembered");
}

#[test]
fn session_cookie_is_refused_once_its_session_ended_by_itself() {
    let fixture = Fixture::new();
    let (cookie, _) = fixture.open_in_browser(&identity(SHOP), None);
    fixture.verify_cookie(&cookie, NOW).unwrap();

    assert_eq!(fixture.verify_cookie(&cookie, NOW.plus(30 * DAY)).unwrap_err(), AuthnError::SessionEnded);
}

#[test]
fn made_up_session_cookies_cost_one_lookup_each_and_evict_no_forged_token() {
    let config = config::Tokens {
        cache: config::TokenCache { refused_capacity: 4, ..config::TokenCache::default() },
        ..config::Tokens::default()
    };
    let fixture = Fixture::with(config, &[("shop", SHOP)]);
    let forged = forge(&fixture.mint(SHOP));
    fixture.verify(&forged, NOW).unwrap_err();
    fixture.store.reads.store(0, Ordering::SeqCst);

    for byte in b'A'..=b'Z' {
        for _ in 0..3 {
            assert_eq!(fixture.verify_cookie(&made_up(byte), NOW).unwrap_err(), AuthnError::SessionEnded);
        }
    }

    assert_eq!(fixture.reads(), 26);
    assert_eq!(fixture.memory().2, 1, "the forged token is still remembered");
    fixture.authenticator.refused_cookies.run_pending_tasks();
    assert!(fixture.authenticator.refused_cookies.entry_count() <= 4);
}

#[test]
fn malformed_session_cookie_causes_no_store_lookup() {
    let fixture = Fixture::new();
    let (cookie, _) = fixture.open_in_browser(&identity(SHOP), None);
    let token = fixture.mint(SHOP);
    fixture.store.reads.store(0, Ordering::SeqCst);

    for text in ["", "x", cookie.get(1..).unwrap(), &format!("{cookie}A"), &format!("\"{cookie}\""), &token] {
        let refused = fixture.verify_cookie(text, NOW).unwrap_err();
        assert_eq!(refused, AuthnError::Token(VerifyError::Malformed), "{text}");
    }
    assert_eq!(fixture.reads(), 0);
}

/// Whatever was remembered of one kind says nothing of the other.
#[test]
fn credential_is_judged_by_where_it_was_sent() {
    let fixture = Fixture::new();
    let (cookie, _) = fixture.open_in_browser(&identity(SHOP), None);
    let token = fixture.mint(SHOP);

    for time in ["first", "again"] {
        assert!(fixture.verify_cookie(&cookie, NOW).is_ok(), "{time}");
        assert!(fixture.verify(&token, NOW).is_ok(), "{time}");
        assert_eq!(
            fixture.verify(&cookie, NOW).unwrap_err(),
            AuthnError::Token(VerifyError::Malformed),
            "{time}"
        );
        assert_eq!(
            fixture.verify_cookie(&token, NOW).unwrap_err(),
            AuthnError::Token(VerifyError::Malformed),
            "{time}"
        );
    }
}

#[test]
fn session_cookie_of_an_app_that_is_not_configured_is_refused() {
    let fixture = Fixture::new();
    let (cookie, _) = fixture.open_in_browser(&identity("wx0000000000gone"), None);

    assert_eq!(fixture.verify_cookie(&cookie, NOW).unwrap_err(), AuthnError::UnknownApp);
}

#[test]
fn session_cookie_is_not_accepted_while_the_store_is_unavailable() {
    let fixture = Fixture::new();
    let (cookie, _) = fixture.open_in_browser(&identity(SHOP), None);
    fixture.store.set_away(true);

    assert_eq!(fixture.verify_cookie(&cookie, NOW).unwrap_err(), AuthnError::StoreUnavailable);

    fixture.store.set_away(false);
    assert!(fixture.verify_cookie(&cookie, NOW).is_ok());
}

#[test]
fn authenticated_has_the_header_values_of_the_profile() {
    let fixture = Fixture::new();
    let profile = Profile::new("爱", "https://thirdwx.qlogo.cn/a/132");
    let (cookie, _) = fixture.open_in_browser(&identity(SHOP), Some(&profile));

    let authenticated = fixture.verify_cookie(&cookie, NOW).unwrap();

    let ProfileValues { nickname, avatar } = authenticated.header_values().profile.as_deref().unwrap();
    assert_eq!(nickname.as_ref().unwrap(), "%E7%88%B1");
    assert_eq!(avatar.as_ref().unwrap(), "https://thirdwx.qlogo.cn/a/132");
}
