//! The limit on sign-ins that browsers begin.

use std::net::IpAddr;

use http::request::Parts;

use super::may_be_cross_site;
use crate::throttle::{Throttle, Throttled};

/// Counts a sign-in that a browser begins. A sign-in that a page of another site may have caused is
/// counted separately: it must not keep other clients at the visitor's address from signing in.
pub(super) fn check_sign_in_limit(
    throttle: &Throttle,
    request: &Parts,
    client: IpAddr,
) -> Result<(), Throttled> {
    if may_be_cross_site(&request.headers) {
        throttle.check_cross_site_sign_in(client)
    } else {
        throttle.check_sign_in(client)
    }
}
