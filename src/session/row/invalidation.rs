//! An entry of the store's log: whose verdicts the other nodes must drop.

use minicbor::{Decode, Encode};

use super::envelope::damaged;
use super::name::Locator;
use crate::store::StoreError;

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(in crate::session) enum Invalidation {
    /// The sessions of this subject.
    #[n(0)]
    Subject(#[cbor(n(0), with = "minicbor::bytes")] Locator),
    /// Any session.
    #[n(1)]
    Everything,
}

impl Invalidation {
    /// Writes an entry.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: it cannot be encoded.
    pub(in crate::session) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        minicbor::to_vec(self).map_err(|_| damaged("an entry cannot be written"))
    }

    /// Reads an entry. An entry of a newer version may mean anything, so it means everything.
    pub(in crate::session) fn decode(entry: &[u8]) -> Self {
        minicbor::decode(entry).unwrap_or(Self::Everything)
    }
}
