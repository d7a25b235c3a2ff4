//! What goes wrong under a step, and what callers are told of it.

use std::sync::Arc;

use super::super::StoreError;

/// Why a step, or a whole transaction, came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// This row alone: others may go on.
    #[error("{0}")]
    Row(Arc<str>),
    /// The file: nothing in the transaction happened.
    #[error(transparent)]
    Storage(#[from] redb::Error),
}

impl Fault {
    pub(super) fn damaged(what: &str) -> Self {
        Self::Row(what.into())
    }

    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Row(what) => StoreError::Damaged(what),
            Self::Storage(error) if is_damage(&error) => StoreError::Damaged(error.to_string().into()),
            Self::Storage(error) => StoreError::Unavailable(error.to_string().into()),
        }
    }
}

fn is_damage(error: &redb::Error) -> bool {
    !matches!(
        error,
        redb::Error::Io(_)
            | redb::Error::PreviousIo
            | redb::Error::DatabaseClosed
            | redb::Error::LockPoisoned(_)
            | redb::Error::TransactionPoisoned
    )
}

macro_rules! storage_faults {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Storage(error.into())
            }
        }
    )*};
}

storage_faults!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
