//! One code, one exchange, one outcome: for a code that is sent twice at once, or again after a
//! lost reply.
//!
//! WeChat accepts a code once, and a mini program in the background loses replies: its second
//! request must get the outcome of the first. The outcome holds a token, so only the client that
//! sent the code first gets it. Refusals that cannot change are outcomes too; a failure that may be
//! over at the next try leaves the code free.
//!
//! [`once`] is the rule. [`Claims`] says where a code is claimed: `memory` for the requests that
//! one node gets, `store` for those that several nodes get. Both are used one inside the other, so
//! that a node asks the store once.

mod claim;
mod memory;
mod store;

use super::error::SignInError;

pub(super) use self::claim::{CodeClaim, SessionHandle, SignedIn};
pub(super) use self::memory::{CodeMemory, Expiring};
pub(super) use self::store::StoreClaims;

/// The result of an exchange.
pub(super) type SignInResult<T> = Result<T, SignInError>;

/// Where one code of one client is claimed.
pub(super) trait Claims<T>: Sync {
    /// The right to exchange the code.
    type Claim: Send;
    /// An exchange that another request of the same client makes.
    type Pending: Send;

    /// Claims the code.
    fn claim(&self) -> impl Future<Output = SignInResult<Claimed<T, Self::Claim, Self::Pending>>> + Send;

    /// Waits for the outcome of another request's exchange.
    fn wait(&self, pending: Self::Pending) -> impl Future<Output = SignInResult<T>> + Send;

    /// Shares the outcome with the requests that wait, and keeps it for a while if it cannot
    /// change.
    fn settle(&self, claim: Self::Claim, outcome: &SignInResult<T>) -> impl Future<Output = ()> + Send;
}

/// The state of a code when it is claimed.
pub(super) enum Claimed<T, C, P> {
    /// The code is new: the caller exchanges it and then settles the claim.
    First(C),
    /// The same client sent it, and it is being exchanged.
    UnderWay(P),
    /// The same client sent it, and this is the outcome.
    Settled(SignInResult<T>),
    /// Another client sent it.
    OfOtherClient,
}

/// The outcome for one request, by the request that made the exchange.
pub(super) enum Once<T> {
    /// This request.
    Exchanged(SignInResult<T>),
    /// Another one, at the same time.
    Joined(SignInResult<T>),
    /// An earlier one; or one of another client, which refuses this one.
    Repeated(SignInResult<T>),
}

/// Exchanges a code, unless another request exchanges it or did before: then gives the outcome of
/// that one.
///
/// # Errors
/// The failure to claim the code; the code stays as it was.
pub(super) async fn once<T, C, F>(claims: &C, exchange: impl FnOnce() -> F + Send) -> SignInResult<Once<T>>
where
    T: Send + Sync,
    C: Claims<T>,
    F: Future<Output = SignInResult<T>> + Send,
{
    Ok(match claims.claim().await? {
        Claimed::First(claim) => {
            let outcome = exchange().await;
            claims.settle(claim, &outcome).await;
            Once::Exchanged(outcome)
        }
        Claimed::UnderWay(pending) => Once::Joined(claims.wait(pending).await),
        Claimed::Settled(outcome) => Once::Repeated(outcome),
        Claimed::OfOtherClient => Once::Repeated(Err(SignInError::CodeOfAnother)),
    })
}
