//! No input makes an `Err` path allow.

use std::cell::Cell;

use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Where something is shown, and what.
#[derive(Clone, Debug)]
struct Shown {
    place: usize,
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    GoodToken,
    GoodCookie,
    /// A good token or cookie, with something in place of a part of it.
    Changed {
        is_token: bool,
        at: prop::sample::Index,
        left_out: usize,
        put_in: Vec<u8>,
    },
    Any(Vec<u8>),
}

const COOKIE_OF_TOKEN: usize = 3;
const SESSION: usize = 4;

fn shown() -> impl Strategy<Value = Vec<Shown>> {
    let bytes =
        || prop::collection::vec(prop_oneof![8 => b' '..=b'~', 1 => Just(b'\t'), 1 => 0x80..=0xff_u8], 0..12);
    let changed = (any::<bool>(), any::<prop::sample::Index>(), 0..4_usize, bytes());
    let changed =
        changed.prop_map(|(is_token, at, left_out, put_in)| Text::Changed { is_token, at, left_out, put_in });
    let text = prop_oneof![
        3 => Just(Text::GoodToken),
        3 => Just(Text::GoodCookie),
        5 => changed,
        1 => bytes().prop_map(Text::Any),
    ];
    let one = (0..=SESSION, text).prop_map(|(place, text)| Shown { place, text });
    prop::collection::vec(one, 1..4)
}

impl Text {
    fn bytes(&self, token: &str, cookie: &str) -> Vec<u8> {
        match self {
            Self::GoodToken => token.into(),
            Self::GoodCookie => cookie.into(),
            Self::Any(bytes) => bytes.clone(),
            Self::Changed { is_token, at, left_out, put_in } => {
                let mut bytes = (if *is_token { token } else { cookie }).as_bytes().to_vec();
                let at = at.index(bytes.len());
                let end = (at + left_out).min(bytes.len());
                bytes.splice(at..end, put_in.iter().copied());
                bytes
            }
        }
    }
}

fn request_with(shown: &[Shown], token: &str, cookie: &str) -> Parts {
    let mut request = Request::builder().uri("/a").body(()).unwrap().into_parts().0;
    for Shown { place, text } in shown {
        let text = text.bytes(token, cookie);
        let (name, before): (_, &[u8]) = match *place {
            0 => ("authorization", b"Bearer "),
            1 => ("authorization", b""),
            2 => ("x-token", b""),
            COOKIE_OF_TOKEN => ("cookie", b"token="),
            _ => ("cookie", b"a=b; __Host-menshen="),
        };
        if let Ok(value) = HeaderValue::from_bytes(&[before, &text].concat()) {
            request.headers.append(name, value);
        }
    }
    request
}

/// Whether a header shows nothing that a gateway would look at: another scheme, or an empty token.
fn is_elses(name: &HeaderName, value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let first_cookie = bytes.split(|byte| *byte == b';').next().unwrap().trim_ascii();
    if matches!(bytes.trim_ascii(), b"" | b"Bearer") || name == "cookie" && first_cookie == b"token=" {
        return true;
    }
    name == "authorization"
        && !bytes.starts_with(b"Bearer ")
        && bytes.trim_ascii().iter().any(|byte| b" \t".contains(byte))
}

/// Whether a header shows exactly this, behind one of these beginnings.
fn shows(value: &HeaderValue, befores: &[&str], good: &str) -> bool {
    let bytes = value.as_bytes().trim_ascii();
    befores.iter().filter_map(|before| bytes.strip_prefix(before.as_bytes())).any(|text| {
        // Behind a `;` stands another cookie.
        let text =
            if befores[0].ends_with('=') { text.split(|byte| *byte == b';').next().unwrap() } else { text };
        text.trim_ascii() == good.as_bytes()
    })
}

fn judge(fixture: &Fixture, authenticator: &Authenticator, request: &Parts) -> Result<(), AuthnError> {
    match authenticator.credential(request, false, CrossSite::Refuse)? {
        None => Err(AuthnError::UnknownApp),
        Some(credential) => fixture.threads.block_on(authenticator.verify(&credential, NOW)).map(drop),
    }
}

fn fixture() -> (Fixture, String, String) {
    let sources = config::TokenSources {
        raw_authorization: true,
        header: vec!["X-Token".into()],
        cookie: Some("token".into()),
        ..config::TokenSources::default()
    };
    let config = config::Tokens { sources, ..config::Tokens::default() };
    let fixture = Fixture::with(config, &[("shop", SHOP)]);
    let token = fixture.mint(SHOP);
    let (cookie, _) = fixture.open_in_browser(&identity(SHOP), None);
    (fixture, token, cookie)
}

#[test]
fn only_a_request_with_exactly_one_valid_credential_is_authenticated() {
    let (fixture, token, cookie) = fixture();
    let (let_in, refused) = (Cell::new(0), Cell::new(0));

    let result = TestRunner::new(Config { cases: 2000, ..Config::default() }).run(&shown(), |shown| {
        let request = request_with(&shown, &token, &cookie);
        let verdict = judge(&fixture, &fixture.authenticator, &request);

        if verdict.is_ok() {
            let mut looked_at = request.headers.iter().filter(|(name, value)| !is_elses(name, value));
            let of_token = |value: &HeaderValue| {
                shows(value, &["Bearer ", ""], &token) || shows(value, &["token="], &token)
            };
            let of_cookie = |value: &HeaderValue| shows(value, &["a=b; __Host-menshen="], &cookie);
            let (_, first) = looked_at.next().expect("something is shown");
            let is_good = of_token(first) && looked_at.all(|(_, value)| of_token(value));
            prop_assert!(is_good || of_cookie(first) && looked_at.next().is_none(), "{request:?}");
        }
        let count = if verdict.is_ok() { &let_in } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });

    result.unwrap();
    let (let_in, refused) = (let_in.get(), refused.get());
    assert!(let_in > 100 && refused > 1000, "{let_in} let in, {refused} refused");
}

#[test]
fn no_request_is_authenticated_while_the_store_is_unavailable() {
    let (fixture, token, cookie) = fixture();
    fixture.store.set_away(true);

    let strategy = (shown(), any::<bool>());
    let result =
        TestRunner::new(Config { cases: 300, ..Config::default() }).run(&strategy, |(shown, is_gone)| {
            // One that remembers nothing; of a session that it never heard of, or of one that it
            // cannot ask for.
            let apps: &[(&str, &str)] = if is_gone { &[("bank", BANK)] } else { &[("shop", SHOP)] };
            let Fixture { config, tokens, sessions, metrics, .. } = &fixture;
            let authenticator = build(config, apps, tokens, sessions, metrics).unwrap();
            let request = request_with(&shown, &token, &cookie);

            for _ in 0..2 {
                prop_assert!(judge(&fixture, &authenticator, &request).is_err(), "{request:?}");
            }
            Ok(())
        });

    result.unwrap();
}
