//! A request arrives: it is admitted, attributed to a client, routed, authenticated and forwarded.
//!
//! `gateway` has Pingora's phases, `guard` what stands before them.

pub mod admission;
mod audit;
mod body;
mod break_off;
pub mod client_address;
pub mod connections;
mod context;
mod current;
mod decide;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gateway;
pub mod guard;
mod limits;
pub mod proxy_protocol;
pub mod request_id;
mod respond;
#[cfg(test)]
mod tests;
mod watch;

pub use self::current::Current;
pub use self::gateway::Gateway;
