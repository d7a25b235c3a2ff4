//! Sessions: a sign-in opens one, every request looks it up, a refresh token renews it, and a
//! sign-out or a revocation ends it.
//!
//! A subject (a person in one app) has one row in the store, with all sessions of the subject in
//! it. Every change is one compare-and-set of that row, so a store needs only atomic rows. Other
//! modules may remember a verdict as long as its [`Lease`] is current. Who may revoke,
//! and what the client is answered, is decided in other modules.
//!
//! Imports run one way: a file for each thing that a caller asks (`open`, `check`, `refresh`,
//! `revoke`, `list`, `bind`, `block` …) → `node` (what this node reads and follows in the store) →
//! `row` (data and codecs, no I/O).

mod bind;
mod block;
mod build;
mod check;
mod client;
mod device;
mod erase;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hand_over;
mod list;
mod node;
mod open;
mod person;
mod personal_data;
mod refresh;
mod revocable;
mod revoke;
mod row;
mod scope;
mod session_key;
mod sessions;
#[cfg(test)]
mod tests;

pub use self::block::{BlockedName, BlockedPerson};
pub use self::check::CheckedSession;
pub use self::client::Client;
pub use self::erase::{EraseError, ErasedPerson};
pub use self::error::{RefreshError, SessionError};
pub use self::hand_over::HandedOverSession;
pub use self::list::SessionInfo;
pub use self::node::core::Core;
pub use self::node::lease::Lease;
pub use self::open::{NewSession, OpenedBrowserSession, OpenedSession};
pub use self::person::PersonId;
pub use self::personal_data::{BoundPerson, PersonInApp, PersonalData};
pub use self::refresh::RefreshedSession;
pub use self::revocable::RevocableSession;
pub use self::row::cookie::{InvalidSessionCookie, SessionCookie};
pub use self::row::person_row::UserBinding;
pub use self::row::refresh_token::{InvalidRefreshToken, RefreshToken};
pub use self::scope::SessionScope;
pub use self::sessions::Sessions;
