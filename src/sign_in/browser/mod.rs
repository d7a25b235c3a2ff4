//! Sign-in with a browser: the sign-in page, the redirect to WeChat, and the callback; and the page
//! that a web-view opens with a program's session.
//!
//! `start` generates a state, stores a record for it, and redirects the browser to WeChat.
//! `callback` accepts the state once, and gives the browser its session. The browser that comes
//! back must be the one that began, which `browser_cookie` checks. `hand_over` accepts a ticket
//! once.

mod browser_cookie;
pub(super) mod callback;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod grant;
pub(super) mod hand_over;
mod limit;
mod navigation;
mod notice;
mod origin;
mod page;
mod return_to;
mod session_cookie;
pub(super) mod sign_in_page;
pub(super) mod start;
mod state;
mod ticket;

pub(super) use self::endpoint::{Parameter, Query};
pub(super) use self::error::BrowserError;
pub(super) use self::grant::BrowserGrant;
pub use self::navigation::PageDenial;
pub(super) use self::navigation::{
    is_led_by_other_site, is_navigation, is_prefetch, is_sent_without_preflight, may_be_cross_site,
};
pub(super) use self::origin::{Origin, Origins, build_return_to};
pub(super) use self::return_to::ReturnTo;
pub(super) use self::session_cookie::{has_session_cookie, without_session};
pub(super) use self::ticket::{TICKET_LIFETIME, Ticket, TicketRecord};

/// The store key of a state, for tests that write other rows there.
#[cfg(test)]
pub(super) fn test_key(state: &str) -> crate::store::Key {
    crate::store::Key {
        space: crate::store::Space::SignIn,
        name: state::SignInState::parse(state).unwrap().name(),
    }
}
