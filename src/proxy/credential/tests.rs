use authn::AuthnError as R;

use super::*;
use crate::proxy::tests::{Bench, receive};

#[tokio::test]
async fn the_place_of_a_token_is_known_for_its_removal() {
    let bench = Bench::new();
    for (lines, expected) in
        [("Authorization: Bearer eyJ.x.y\r\n", true), ("Cookie: __Host-menshen=x\r\n", false), ("", false)]
    {
        let received = receive("GET /", &format!("Host: a.test\r\n{lines}")).await;

        let judged =
            judge(received.session.req_header(), &bench.routed_on("/"), &bench.current, bench.arrival().now)
                .await;

        assert_eq!(judged.place.is_in_authorization, expected, "{lines}");
    }
}

/// The words of the refusals that satisfy a condition.
fn words(holds: impl Fn(R) -> bool) -> Vec<&'static str> {
    R::ALL.into_iter().filter(|refusal| holds(*refusal)).map(R::reason).collect()
}

#[test]
fn a_person_is_redirected_to_sign_in_only_if_that_mends_the_refusal() {
    let mended = |shown: Shown| words(|refusal| shown.is_mended_by_sign_in(refusal));

    assert_eq!(mended(Shown::Nothing), ["no_token"]);
    let of_a_cookie = ["malformed_token", "unknown_app", "session_ended", "app_not_admitted"];
    assert_eq!(mended(Shown::SessionCookie), of_a_cookie);
    assert!(mended(Shown::Token).is_empty());
}

#[test]
fn a_client_with_nothing_or_with_the_cookie_of_an_ended_session_is_anonymous() {
    let anonymous = |shown: Shown| words(|refusal| shown.is_anonymous(refusal));

    assert_eq!(anonymous(Shown::Nothing), ["no_token"]);
    assert_eq!(anonymous(Shown::SessionCookie), ["malformed_token", "unknown_app", "session_ended"]);
    assert!(anonymous(Shown::Token).is_empty());
}
