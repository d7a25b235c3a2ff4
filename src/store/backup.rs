//! Why a copy of the store cannot be made.

use std::io;
use std::path::PathBuf;

use super::StoreError;

/// Why a copy of the store cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store is not a file of the gateway.
    #[error("the store is on Redis: use the tools of the Redis server")]
    NotAFile,
    /// There is a file of this name, which is not overwritten.
    #[error("{} is there already: name another file", .0.display())]
    Exists(PathBuf),
    /// The file system refused the copy.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store could not be read, or the copy not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
