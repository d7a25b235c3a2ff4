//! The limit on sign-ins that browsers begin.

use super::may_be_cross_site;
use crate::sign_in::{SignInCall, SignInService};
use crate::throttle::Throttled;

/// Counts a sign-in that a browser begins. A sign-in that a page of another site may have caused is
/// counted separately: it must not keep other clients at the visitor's address from signing in.
pub(super) async fn check_sign_in_limit(
    service: &SignInService,
    call: SignInCall<'_>,
) -> Result<(), Throttled> {
    let SignInCall { request, client, now, .. } = call;
    let throttle = &service.deps.throttle;
    if may_be_cross_site(&request.headers) {
        return throttle.check_cross_site_sign_in(client);
    }
    // Only if it is worth the look-up.
    let known = match throttle.is_slowing_sign_ins(client) {
        true => service.known_user(request, None, now).await,
        false => None,
    };
    throttle.check_sign_in(client, known.as_ref())
}
