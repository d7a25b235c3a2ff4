//! A request to an endpoint, and its body.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;

use crate::authn::CrossSite;
use crate::clock::Timestamp;

/// A request to an endpoint of the sign-in.
#[derive(Clone, Copy, Debug)]
pub struct SignInCall<'a> {
    /// Method, path and header.
    pub request: &'a Parts,
    /// The address that the request came from.
    pub client: IpAddr,
    /// When it arrived.
    pub now: Timestamp,
    /// What a page of another origin may do with a cookie.
    pub cross_site: CrossSite,
    /// The id that every answer and log line names.
    pub request_id: &'a str,
}

/// The body of a request, or why it was not read.
pub type ReadBody = Result<Bytes, BodyFault>;

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit {
    /// Most bytes; more are [`BodyFault::TooLarge`].
    pub max_bytes: usize,
    /// Longest time for all of it; more is [`BodyFault::TimedOut`].
    pub timeout: Duration,
}

/// Why a body was not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is larger than [`BodyLimit::max_bytes`].
    TooLarge,
    /// It did not arrive in time.
    TimedOut,
    /// The connection broke, or the framing did.
    Broken,
}
