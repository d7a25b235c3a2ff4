//! Fuzz targets for what a browser sends: cookies, a query, and a return address; and for the
//! stored record of its sign-in.

use std::sync::LazyLock;

use http::{Request, Uri};
use url::Url;

use super::browser_cookie;
use super::endpoint::{Parameter, Query};
use super::origin::{Origin, build_return_to};
use super::return_to::ReturnTo;
use super::session_cookie;
use super::state::{SignInRecord, SignInState};
use super::ticket::TicketRecord;
use crate::authn;
use crate::config::{BrowserCheck, Findings};
use crate::cookie::{self, OwnCookie};
use crate::wechat::Code;

const OWN: &str = "https://shop.example.com";
const ALLOWED: [&str; 3] = ["https://www.example.com", "https://good.example:8443", "http://127.0.0.1:3000"];
const PREFIX: &str = "/auth";

static ORIGINS: LazyLock<Vec<Origin>> = LazyLock::new(|| {
    let all: Vec<String> = std::iter::once(OWN).chain(ALLOWED).map(str::to_owned).collect();
    build_return_to(&all, &mut Findings::default())
});

pub(crate) fn return_to(data: &[u8]) {
    let Some((own, allowed)) = ORIGINS.split_first() else { return };
    assert!(allowed.len() == ALLOWED.len(), "an origin is invalid");
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(place) = ReturnTo::parse(text, own, allowed, PREFIX) else { return };
    let location = place.location();
    assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?} leads to {location:?}");

    // As a browser reads a `Location` in a response of the gateway.
    let page = Url::parse(&format!("{OWN}/auth/web/site/callback?code=x"));
    let url = page.and_then(|page| page.join(location)).ok();
    assert!(url.is_some(), "{text:?} becomes an invalid location: {location:?}");
    let Some(url) = url else { return };
    let origin = url.origin().ascii_serialization();
    let is_own = origin == OWN;
    assert!(is_own || ALLOWED.contains(&&*origin), "{text:?} leads to {url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{text:?} leads to {url}");
    let is_login =
        url.path().strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    assert!(!(is_own && is_login), "{text:?} causes a redirect loop: {url}");
    // Some browsers read these as a host, against the standard.
    let begins_as_host = location.starts_with("//") || location.starts_with("/\\");
    assert!(!begins_as_host, "{text:?} leads to {location:?}");

    let again = ReturnTo::parse(location, own, allowed, PREFIX);
    assert!(again.as_ref() == Some(&place), "{location:?} is read as {again:?} when it comes back");
}

pub(crate) fn cookies(data: &[u8]) {
    let headers = authn::fuzz::cookie_lines(data);
    let session = authn::fuzz::cookies(&headers);
    let here = session_cookie::of(&headers);
    let read = session.ok().flatten();
    // Two functions read this cookie. They must not read two different sessions.
    assert!(
        here.is_none_or(|cookie| read == Some(cookie.expose())),
        "the session cookie is read as {read:?}"
    );

    let shown = OwnCookie::of(&headers, cookie::BROWSER);
    for how in [BrowserCheck::Strict, BrowserCheck::Loose] {
        let proof = browser_cookie::check(&headers, &[0; 32], how);
        let is_absent = shown == OwnCookie::Absent && how == BrowserCheck::Loose;
        assert!(proof.is_ok() == is_absent, "an unknown browser is accepted: {shown:?}");
    }
}

pub(crate) fn callback_query(data: &[u8]) {
    let Ok(query) = str::from_utf8(data) else { return };
    let Ok(uri) = Uri::try_from(format!("/auth/web/site/callback?{query}")) else { return };
    let Ok(request) = Request::get(uri).body(()) else { return };
    let parts = request.into_parts().0;
    let query = Query::of(&parts);
    for name in ["state", "code", "return_to", "app"] {
        let values = query.all(name).count();
        let is_one = matches!(query.one(name), Parameter::One(_));
        assert!(is_one == (values == 1), "{values} values of {name} are one");
    }
    let is_word = |text: &str, more: &[u8]| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if let Parameter::One(text) = query.one("state") {
        assert!(SignInState::parse(text).is_some() == is_word(text, b""), "{text:?} as a state");
    }
    if let Parameter::One(text) = query.one("code") {
        assert!(Code::parse(text).is_ok() == is_word(text, b"-_"), "{text:?} as a code");
    }
}

pub(crate) fn sign_in_row(data: &[u8]) {
    if let Some((ticket, written)) = TicketRecord::recode(data) {
        let again = TicketRecord::recode(&written);
        assert!(again.is_some_and(|(again, _)| again == ticket), "a ticket is not read as it was written");
    }
    let Some((sign_in, written)) = SignInRecord::recode(data) else { return };
    let again = SignInRecord::recode(&written);
    assert!(again.is_some_and(|(again, _)| again == sign_in), "a record is not read as it was written");
}

/// A record as this version writes it, as a seed of the corpus.
#[cfg(test)]
pub(crate) fn written_sign_in() -> Vec<u8> {
    let now = crate::clock::Timestamp::from_seconds(1_800_000_000);
    let sign_in = SignInRecord::new(("site", "wx1"), OWN, "/a?b#c", [5; 32], now);
    let row = sign_in.written();
    assert!(SignInRecord::recode(&row).is_some());
    row.to_vec()
}
