//! The failures inside a step, and the errors that callers get for them.

use std::sync::Arc;

use super::super::StoreError;

/// Why a step, or a whole transaction, failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Only this row is damaged: the other steps continue.
    #[error("{0}")]
    Row(Arc<str>),
    /// The file failed: no step of the transaction was made.
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
