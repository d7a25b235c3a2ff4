//! Claims in the store that several nodes share.
//!
//! The first node leaves a row and exchanges the code; the other nodes wait until the row holds the
//! outcome.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::claim::{ClaimRow, CodeClaim, SessionHandle, SignedIn};
use super::{Claimed, Claims, SignInResult};
use crate::entropy::Entropy;
use crate::sign_in::error::SignInError;
use crate::store::{Store, StoreError};

/// Time that a login needs besides the exchange: the session is opened in a store that may be slow,
/// and the outcome is shared.
const MARGIN: Duration = Duration::from_secs(5);
/// How often the outcome of another node is looked up.
const POLL: Duration = Duration::from_millis(50);
/// Shortest time that an outcome stays in the store: requests that wait already must find it, even
/// if outcomes are not kept at all.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// One code of one client, in a store that nodes share.
pub(in crate::sign_in) struct StoreClaims<'a> {
    pub(in crate::sign_in) claim: &'a CodeClaim,
    pub(in crate::sign_in) store: &'a dyn Store,
    pub(in crate::sign_in) entropy: &'a dyn Entropy,
    /// Longest time that an exchange takes.
    pub(in crate::sign_in) exchange_timeout: Duration,
    /// How long an outcome is kept.
    pub(in crate::sign_in) window: Duration,
}

impl StoreClaims<'_> {
    /// Longest time from a claim to its outcome. A claim whose node failed ends after it.
    fn longest(&self) -> Duration {
        self.exchange_timeout.saturating_add(MARGIN)
    }

    async fn read<S: SessionHandle>(&self) -> SignInResult<ClaimRow<S>> {
        // A claim that is gone was given up: the code may be good, and the client sends it again.
        let row = self.store.get(&self.claim.key).await?.ok_or(SignInError::WeChatBusy)?;
        self.claim.read(&row)
    }

    /// Frees a code that is not spent. If the store fails, the claim ends by itself.
    async fn release(&self, row: &Bytes) {
        if let Err(error) = self.store.compare_and_delete(&self.claim.key, row).await {
            tracing::debug!("the claim of a code was not removed, and stays until it expires: {error}");
        }
    }
}

impl<S: SessionHandle + Send + Sync> Claims<SignedIn<S>> for StoreClaims<'_> {
    type Claim = Bytes;
    type Pending = ();

    async fn claim(&self) -> SignInResult<Claimed<SignedIn<S>, Bytes, ()>> {
        let row = self.claim.claim_row(self.entropy)?;
        match self.store.put_if_absent(&self.claim.key, row.clone(), self.longest()).await {
            Ok(true) => Ok(Claimed::First(row)),
            Ok(false) => Ok(match self.read().await? {
                ClaimRow::UnderWay => Claimed::UnderWay(()),
                ClaimRow::OfOtherClient => Claimed::OfOtherClient,
                ClaimRow::Settled(outcome) => Claimed::Settled(outcome),
            }),
            Err(error) => {
                if matches!(error, StoreError::NotReplicated { .. }) {
                    // The row was written, and the code could not be tried again until it ends.
                    self.release(&row).await;
                }
                Err(error.into())
            }
        }
    }

    async fn wait(&self, (): ()) -> SignInResult<SignedIn<S>> {
        let outcome = timeout(self.longest(), async {
            loop {
                match self.read().await? {
                    ClaimRow::UnderWay => sleep(POLL).await,
                    ClaimRow::OfOtherClient => return Err(SignInError::CodeOfAnother),
                    ClaimRow::Settled(outcome) => return outcome,
                }
            }
        });
        outcome.await.unwrap_or(Err(SignInError::WeChatBusy))
    }

    /// Shares the outcome with the other nodes. If that fails, this node's client gets its answer
    /// nevertheless.
    async fn settle(&self, claim: Bytes, outcome: &SignInResult<SignedIn<S>>) {
        let settled = match outcome {
            Ok(signed_in) => Ok(signed_in),
            Err(error) if error.is_settled() => Err(error),
            Err(_) => return self.release(&claim).await,
        };
        let window = self.window.max(SHORTEST_WINDOW);
        let shared = match self.claim.outcome_row(settled, self.entropy) {
            Ok(row) => self.store.compare_and_set(&self.claim.key, &claim, row, window).await,
            Err(_) => return self.release(&claim).await,
        };
        if let Err(error) = shared {
            tracing::warn!("the outcome of a login was not written for other nodes: {error}");
        }
    }
}
