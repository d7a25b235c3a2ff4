//! Copies the file while the gateway uses it. The copy says what one commit says, and steps do not
//! wait for it.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _};

use super::fault::Fault;
use super::file;
use super::row::{LOG, LOG_LAST, META, ROWS, entry_name};
use super::step::Tables;
use super::writer::guarded;
use crate::clock::Timestamp;
use crate::store::BackupError;

/// Rows of one transaction. Its changes are in memory until it is over.
const PIECE_ROWS: usize = 2048;
/// Memory for pages of the copy. Each is written once.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Writes the copy, and returns how many bytes it has. It is complete before it gets its name, and
/// is for its owner alone.
pub(super) fn write(from: &Database, to: &Path, now: Timestamp) -> Result<u64, BackupError> {
    let io_error = |source| BackupError::Io { path: to.to_owned(), source };
    if fs::symlink_metadata(to).is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let draft = Draft::beside(to);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft.0);
    let file = file.map_err(io_error)?;
    guarded(|| copy(from, file, now))?;
    // Fails if there is a file of this name by now.
    fs::hard_link(&draft.0, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(to.to_owned()),
        _ => io_error(error),
    })?;
    let folder = to.parent().filter(|parent| *parent != "").unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error)?;
    fs::metadata(to).map(|metadata| metadata.len()).map_err(io_error)
}

/// A file that is not complete. Dropping it removes the file.
struct Draft(PathBuf);

impl Draft {
    fn beside(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = RandomState::new().build_hasher().finish();
        Self(path.with_file_name(format!(".{name}.{number:016x}.tmp")))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn copy(from: &Database, file: File, now: Timestamp) -> Result<(), Fault> {
    let to = Database::builder().set_cache_size(CACHE_BYTES).create_file(file);
    let to = to.map_err(|error| Fault::Storage(error.into()))?;
    file::make_tables(&to)?;
    let snapshot = from.begin_read()?;
    let (rows, log, meta) =
        (snapshot.open_table(ROWS)?, snapshot.open_table(LOG)?, snapshot.open_table(META)?);
    let (mut rows, mut log) = (rows.iter()?, log.iter()?);
    loop {
        let mut copied = 0;
        let mut transaction = to.begin_write()?;
        transaction.set_durability(Durability::Immediate).map_err(|error| Fault::Storage(error.into()))?;
        {
            let mut tables = Tables::open(&transaction, now)?;
            for entry in rows.by_ref().take(PIECE_ROWS) {
                let (name, sealed) = entry?;
                tables.mirror(name.value(), Some(sealed.value()))?;
                copied += 1;
            }
            for entry in log.by_ref().take(PIECE_ROWS - copied) {
                let (number, sealed) = entry?;
                tables.mirror(&entry_name(number.value()), Some(sealed.value()))?;
                copied += 1;
            }
            if copied < PIECE_ROWS {
                let last =
                    meta.get(LOG_LAST)?.ok_or_else(|| Fault::damaged("the log's last number is missing"))?;
                tables.mirror_meta(LOG_LAST, last.value())?;
            }
        }
        transaction.commit()?;
        if copied < PIECE_ROWS {
            return Ok(());
        }
    }
}
