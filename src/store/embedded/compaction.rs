//! Compacts the file while the gateway runs: copies its content into a new file, a piece at a time
//! between two batches of steps, and puts the new file in its place.
//!
//! Steps wait for one piece at most. What they change in rows that were copied already is copied
//! again. The new file is on disk before it gets the path, so a process that is killed at any
//! moment leaves one whole file there.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase as _};

use super::fault::Fault;
use super::file::{self, FileError};
use super::row::{LOG, LOG_LAST, META, Name, ROWS, entry_name, entry_number};
use super::step::Tables;
use crate::clock::Timestamp;

/// Most bytes of a piece: bounds how long a step waits.
const PIECE_BYTES: usize = 1024 * 1024;
/// Most rows of a piece.
const PIECE_ROWS: usize = 2048;

/// A file that is being copied.
pub(super) struct Compaction {
    /// The file that is to be replaced. No symbolic link.
    path: PathBuf,
    draft: PathBuf,
    database: Option<Database>,
    place: CopyPlace,
    /// What was changed since it was copied, or may have been.
    changed: BTreeSet<Name>,
}

/// What was copied last.
enum CopyPlace {
    Rows(Option<Name>),
    Log(Option<u64>),
    End,
}

impl Compaction {
    /// Makes the new file, next to the one that it is to replace.
    pub(super) fn begin(path: &Path, cache_bytes: usize) -> Result<Self, FileError> {
        let io_error = |source| FileError::Io { path: path.to_owned(), source };
        // A new file in the place of a link would leave the old file where the link leads.
        let path = path.canonicalize().map_err(io_error)?;
        let draft = draft_of(&path);
        remove_draft(&path).map_err(io_error)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&draft);
        let mut compaction =
            Self { path, draft, database: None, place: CopyPlace::Rows(None), changed: BTreeSet::new() };
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_file(file.map_err(io_error)?)
            .map_err(|error| file::file_error(&compaction.draft, error))?;
        file::make_tables(&database).map_err(|fault| file::fault_error(&compaction.draft, &fault))?;
        compaction.database = Some(database);
        Ok(compaction)
    }

    /// Notes what a transaction changed.
    pub(super) fn note(&mut self, changed: Vec<Name>) {
        self.changed.extend(changed);
    }

    /// Copies a piece; whether the new file says what the old one says. The caller makes no step
    /// meanwhile.
    pub(super) fn copy_piece(&mut self, from: &Database, now: Timestamp) -> Result<bool, Fault> {
        let Some(database) = &self.database else { return Ok(false) };
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate).map_err(|error| Fault::Storage(error.into()))?;
        let is_last = {
            let mut tables = Tables::open(&transaction, now)?;
            let mut room = Room { bytes: PIECE_BYTES, rows: PIECE_ROWS };
            copy_changed(&mut self.changed, from, &mut tables, &mut room)?;
            self.place.copy(from, &mut tables, &mut room)?;
            let is_last = matches!(self.place, CopyPlace::End) && self.changed.is_empty();
            if is_last {
                let meta = from.begin_read()?.open_table(META)?;
                let last =
                    meta.get(LOG_LAST)?.ok_or_else(|| Fault::damaged("the log's last number is missing"))?;
                tables.mirror_meta(LOG_LAST, last.value())?;
            }
            is_last
        };
        transaction.commit()?;
        Ok(is_last)
    }

    /// Puts the new file in the place of the old one.
    pub(super) fn finish(mut self) -> Result<Database, FileError> {
        let io_error = |source| FileError::Io { path: self.path.clone(), source };
        fs::rename(&self.draft, &self.path).map_err(io_error)?;
        let database =
            self.database.take().ok_or_else(|| io_error(io::Error::other("there is no new file")))?;
        // Without this, a power cut can bring the old file back, which lacks what comes from now
        // on.
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error)?;
        Ok(database)
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        // Not after `finish`: the draft has no name of its own any more.
        let _ = fs::remove_file(&self.draft);
    }
}

/// Removes the new file of a compaction that did not end.
pub(super) fn remove_draft(path: &Path) -> io::Result<()> {
    match fs::remove_file(draft_of(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.compacted.tmp"))
}

/// How much more a piece may have.
struct Room {
    bytes: usize,
    rows: usize,
}

impl Room {
    fn is_left(&self) -> bool {
        self.bytes > 0 && self.rows > 0
    }

    fn take_row(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.rows = self.rows.saturating_sub(1);
    }
}

fn copy_changed(
    changed: &mut BTreeSet<Name>,
    from: &Database,
    tables: &mut Tables<'_>,
    room: &mut Room,
) -> Result<(), Fault> {
    if changed.is_empty() {
        return Ok(());
    }
    let transaction = from.begin_read()?;
    let (rows, log) = (transaction.open_table(ROWS)?, transaction.open_table(LOG)?);
    while room.is_left()
        && let Some(name) = changed.pop_first()
    {
        let sealed = match entry_number(&name) {
            Some(number) => log.get(number)?,
            None => rows.get(&name)?,
        };
        let sealed = sealed.as_ref().map(|sealed| sealed.value());
        room.take_row(sealed.map_or(0, <[u8]>::len));
        tables.mirror(&name, sealed)?;
    }
    Ok(())
}

impl CopyPlace {
    fn copy(&mut self, from: &Database, tables: &mut Tables<'_>, room: &mut Room) -> Result<(), Fault> {
        while room.is_left() {
            let next = match self {
                Self::Rows(after) => Self::copy_rows(*after, from, tables, room)?,
                Self::Log(after) => Self::copy_log(*after, from, tables, room)?,
                Self::End => return Ok(()),
            };
            *self = next;
        }
        Ok(())
    }

    fn copy_rows(
        after: Option<Name>,
        from: &Database,
        tables: &mut Tables<'_>,
        room: &mut Room,
    ) -> Result<Self, Fault> {
        let rows = from.begin_read()?.open_table(ROWS)?;
        let first = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = after;
        for entry in rows.range::<&Name>((first, Bound::Unbounded))? {
            if !room.is_left() {
                return Ok(Self::Rows(last));
            }
            let (name, sealed) = entry?;
            room.take_row(sealed.value().len());
            tables.mirror(name.value(), Some(sealed.value()))?;
            last = Some(*name.value());
        }
        Ok(Self::Log(None))
    }

    fn copy_log(
        after: Option<u64>,
        from: &Database,
        tables: &mut Tables<'_>,
        room: &mut Room,
    ) -> Result<Self, Fault> {
        let log = from.begin_read()?.open_table(LOG)?;
        let mut last = after;
        for entry in log.range(after.map_or(0, |after| after.saturating_add(1))..)? {
            if !room.is_left() {
                return Ok(Self::Log(last));
            }
            let (number, sealed) = entry?;
            room.take_row(sealed.value().len());
            tables.mirror(&entry_name(number.value()), Some(sealed.value()))?;
            last = Some(number.value());
        }
        Ok(Self::End)
    }
}
