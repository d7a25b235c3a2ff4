//! Sign-in of programs: login, refresh and logout of a mini program, and what it may ask about its
//! session.

pub(super) mod body;
pub(super) mod decrypt;
pub(super) mod grant;
pub(super) mod login;
pub(super) mod logout;
pub(super) mod malformed;
pub(super) mod refresh;
pub(super) mod request;
pub(super) mod session;
pub(super) mod ticket;
