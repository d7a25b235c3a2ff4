//! Opens the file: creates it for its owner alone, locks it, and refuses it if it is damaged,
//! foreign or of another format.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, DatabaseError, Durability, ReadableDatabase as _, StorageError, TableHandle as _};

use super::compaction;
use super::fault::Fault;
use super::row::{ENDS, FORMAT, LOG, LOG_LAST, META, ROWS, seal, unseal};
use crate::clock::{Clock, Timestamp};
use crate::telemetry::panics;

/// Version of the file's format.
const VERSION: u64 = 1;

/// A store file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another process has the file open.
    #[error(
        "{} is in use by another process: stop that gateway, or give this one a `data_dir` of its own",
        .0.display()
    )]
    Locked(PathBuf),
    /// There is no such file, and this operation does not create one.
    #[error("{} does not exist: the gateway creates it when it first starts", .0.display())]
    Absent(PathBuf),
    /// The content is not what the gateway wrote.
    #[error(
        "{} is damaged ({reason}): see what `menshen store verify` says, restore a copy, \
         or move the file away, which ends every session",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another program wrote the file.
    #[error("{} is not a session store: name another `store.embedded.file`, or move the file away", .0.display())]
    Foreign(PathBuf),
    /// Another version of the gateway wrote the file.
    #[error(
        "{} has format {version}, and this version knows format {VERSION}: run the version that wrote it, \
         or move the file away, which ends every session",
        .path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
    /// The gateway cannot create the file's folder.
    #[error("cannot create the folder {}: {source}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system refused the operation.
    #[error("cannot open {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens the file, or creates it. Repairs the file if the last process did not close it.
pub(super) fn open(path: &Path, cache_bytes: usize, clock: &dyn Clock) -> Result<Database, FileError> {
    let is_there = path.try_exists().map_err(|source| FileError::Io { path: path.to_owned(), source })?;
    if !is_there {
        make(path)?;
    }
    open_existing(path, cache_bytes, clock)
}

/// Opens a file that must exist, as [`open`] does.
pub(super) fn open_existing(
    path: &Path,
    cache_bytes: usize,
    clock: &dyn Clock,
) -> Result<Database, FileError> {
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::Absent(path.to_owned()),
        _ => FileError::Io { path: path.to_owned(), source },
    };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?;
    let length = length_of(&file).map_err(io_error)?;
    if length == 0 {
        // The gateway never leaves an empty file. Another program truncated it, and every session
        // in it is lost.
        return Err(FileError::Damaged { path: path.to_owned(), reason: "it is empty".to_owned() });
    }
    let kept = file.try_clone().map_err(io_error)?;
    let began = clock.instant();
    let is_repaired = Arc::new(AtomicBool::new(false));
    let database = guarded(path, || open_database(path, file, cache_bytes, &is_repaired))?;
    // Only after the check that the file is a store: a wrong path must not change the permissions
    // of another program's file.
    keep_to_owner(&kept).map_err(io_error)?;
    // Only now, since the file is locked: a compaction of another process may be under way.
    path.canonicalize().and_then(|path| compaction::remove_draft(&path)).map_err(io_error)?;
    if is_repaired.load(Ordering::Relaxed) {
        let duration = clock.instant().saturating_duration_since(began);
        tracing::info!(
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "repaired {}: the last process did not close it",
            path.display()
        );
    }
    Ok(database)
}

/// Returns the length of the file in bytes; an error if it is not a regular file.
fn length_of(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok(metadata.len())
}

/// Creates a store without rows. If another process created one first, that one stays.
///
/// The file is written completely under a temporary name, is on disk, and is then linked to its
/// path. So an incomplete file at the path is damage, never a file that is still being created.
fn make(path: &Path) -> Result<(), FileError> {
    let directory = path.parent().filter(|parent| *parent != "").unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Not the process id, which is 1 in every container. Nothing secret depends on this number.
    let draft = directory.join(format!(".{name}.{:016x}.tmp", RandomState::new().build_hasher().finish()));
    let io_error = |source| FileError::Io { path: path.to_owned(), source };

    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| FileError::Folder { path: directory.to_owned(), source })?;
    let drafted = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft);
    let made = drafted.map_err(io_error).and_then(|file| {
        guarded(path, || {
            let database = Database::builder().create_file(file).map_err(|error| file_error(path, error))?;
            make_tables(&database).map_err(|fault| fault_error(path, &fault))
        })?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.map_err(io_error),
        }
    });
    let _ = fs::remove_file(&draft);
    made?;
    // Without this, a power cut can lose the file's name although its bytes are on disk.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error)
}

/// Removes the rights of other users, for example on a copy that was restored with a wrong umask.
fn keep_to_owner(file: &File) -> io::Result<()> {
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(0o600))
}

fn open_database(
    path: &Path,
    file: File,
    cache_bytes: usize,
    is_repaired: &Arc<AtomicBool>,
) -> Result<Database, FileError> {
    let noted = Arc::clone(is_repaired);
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .set_repair_callback(move |_| noted.store(true, Ordering::Relaxed))
        .create_file(file)
        .map_err(|error| file_error(path, error))?;
    match format(&database) {
        Ok(Format::Known) => Ok(database),
        Ok(Format::Empty) => {
            Err(FileError::Damaged { path: path.to_owned(), reason: "it has no tables".to_owned() })
        }
        Ok(Format::Other(version)) => Err(FileError::OtherFormat { path: path.to_owned(), version }),
        Ok(Format::Foreign) => Err(FileError::Foreign(path.to_owned())),
        Err(fault) => Err(fault_error(path, &fault)),
    }
}

enum Format {
    Known,
    Empty,
    Other(u64),
    Foreign,
}

fn format(database: &Database) -> Result<Format, Fault> {
    let transaction = database.begin_read()?;
    let tables: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if tables.is_empty() && transaction.list_multimap_tables()?.next().is_none() {
        return Ok(Format::Empty);
    }
    if !tables.iter().any(|table| table == META.name()) {
        return Ok(Format::Foreign);
    }
    let meta = transaction.open_table(META)?;
    let Some(sealed) = meta.get(FORMAT)? else { return Ok(Format::Foreign) };
    let row =
        unseal(FORMAT.as_bytes(), sealed.value()).map_err(|_| Fault::damaged("the format is unreadable"))?;
    let version = row.value.try_into().map(u64::from_be_bytes);
    match version.map_err(|_| Fault::damaged("the format is not a number"))? {
        VERSION => {
            transaction.open_table(ROWS)?;
            transaction.open_table(ENDS)?;
            transaction.open_table(LOG)?;
            Ok(Format::Known)
        }
        other => Ok(Format::Other(other)),
    }
}

pub(super) fn make_tables(database: &Database) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate).map_err(|error| Fault::Storage(error.into()))?;
    transaction.open_table(ROWS)?;
    transaction.open_table(ENDS)?;
    transaction.open_table(LOG)?;
    {
        let mut meta = transaction.open_table(META)?;
        for (name, number) in [(FORMAT, VERSION), (LOG_LAST, 0)] {
            let sealed = seal(name.as_bytes(), Timestamp::from_millis(u64::MAX), &number.to_be_bytes());
            meta.insert(name, sealed.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Turns a panic of redb into an error: the file's bytes are input, and another program may have
/// written them.
fn guarded<T>(path: &Path, open: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    panics::catch(open).unwrap_or_else(|_| {
        Err(FileError::Damaged { path: path.to_owned(), reason: "it cannot be read".to_owned() })
    })
}

pub(super) fn file_error(path: &Path, error: DatabaseError) -> FileError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => FileError::Locked(path),
        DatabaseError::Storage(StorageError::Io(source)) => match source.kind() {
            // The file is not a redb file, or it is truncated.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                FileError::Damaged { path, reason: source.to_string() }
            }
            _ => FileError::Io { path, source },
        },
        error => FileError::Damaged { path, reason: error.to_string() },
    }
}

pub(super) fn fault_error(path: &Path, fault: &Fault) -> FileError {
    FileError::Damaged { path: path.to_owned(), reason: fault.to_string() }
}
