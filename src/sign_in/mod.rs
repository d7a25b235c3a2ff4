//! A user signs in, stays signed in, and signs out: the endpoints, what each accepts and what it
//! answers.
//!
//! It decides which paths it answers, whose bodies it reads, and which error the client gets.
//! `proxy` handles bytes and connections, `wechat` exchanges the code, `session` decides when a
//! session ends, and `throttle` how often a client may try.
//!
//! `endpoint` lists the endpoints with their handlers. A handler is in the file of its name, in
//! `program` or `browser`. `dispatch` gives a request to its handler. A code becomes a session in
//! `flow`, for mini programs and browsers. `once` makes one exchange of a code that is sent twice.
//! `facade` signs in in the protocols of other clients. `answer` and `error` write the answers.

mod answer;
mod browser;
mod build;
mod call;
mod charge;
mod deps;
mod dispatch;
mod endpoint;
mod error;
mod facade;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod known_user;
mod once;
mod precheck;
mod program;
mod record;
mod service;
#[cfg(test)]
mod tests;

pub use self::answer::SignInAnswer;
pub use self::browser::PageDenial;
pub use self::build::SignInSettings;
pub use self::call::{BodyFault, BodyLimit, ReadBody, SignInCall};
pub use self::deps::SignInDependencies;
pub use self::endpoint::Endpoint;
pub use self::service::SignInService;
