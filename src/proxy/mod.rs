//! What happens to a request: it is admitted, routed, permitted and forwarded, or answered here.
//!
//! `guard` reads connections before Pingora does, `handover` goes with a request from there to
//! `gateway`, which has Pingora's phases. `decide`
//! takes a request through three steps, each of which returns the proof that the next one needs:
//! `admit` an `Admitted`, `routing` a `Routed`, `permit` a `Permit`. A `Refusal` ends it, for a
//! `Reason`.

pub mod admission;
mod admit;
mod arrival;
mod audit;
mod backend_answer;
mod body;
mod break_off;
mod breakable_stream;
pub mod budget;
mod caching;
pub mod client_address;
pub mod connections;
mod context;
mod cors;
mod credential;
mod current;
mod decide;
mod destination;
mod explain;
mod failure;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gateway;
mod grpc;
pub mod guard;
mod handover;
pub mod health;
mod interim;
mod limits;
mod log;
mod open_request;
mod permit;
pub mod proxy_protocol;
mod read_headers;
mod reason;
mod record;
mod records;
mod redirect;
mod refusal;
mod repeat;
pub mod request_id;
mod respond;
mod review;
mod routed;
mod routing;
mod sign_in;
pub mod stream_refusals;
#[cfg(test)]
mod tests;
mod unbelieved;
mod watch;

pub use self::current::Current;
pub use self::gateway::Gateway;
