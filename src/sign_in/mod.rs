//! A user signs in, stays signed in, and signs out: the endpoints, what each accepts and what it
//! answers.
//!
//! It decides which paths are its own, which requests are worth reading, and what a failure is
//! called towards the client. The bytes and connections are `proxy`'s, the exchange with WeChat is
//! `wechat`'s, what a session is and when it ends is `session`'s, how often a client may try is
//! `throttle`'s.
//!
//! The way of a request: `endpoint` lists the endpoints with their handlers, which stand in the
//! files of their names in `program` and `browser`; `dispatch` gives the request to its handler. A
//! code becomes a session in `flow`, for a mini program as for a browser; a code that is sent twice
//! is exchanged once, by `once`. `answer` and `error` write the answers.

mod answer;
mod browser;
mod build;
mod call;
mod client;
mod deps;
mod dispatch;
mod endpoint;
mod error;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
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
