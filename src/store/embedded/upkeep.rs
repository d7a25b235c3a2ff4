//! The operator's commands for a file that no gateway has open: compact it, verify it, export its
//! rows.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};

use super::super::Space;
use super::fault::Fault;
use super::file::{self, FileError};
use super::row::{ENDS, LOG, META, Name, ROWS, end_key, entry_name, unseal};
use super::step::last_entry;
use crate::clock::Clock;
use crate::config;
use crate::telemetry::panics;

/// Most faults that are listed one by one.
const TOLD: usize = 20;

/// Sizes of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// What is in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows that have not ended, by space.
    pub rows: BTreeMap<Space, u64>,
    /// Rows and entries of the log that have ended. The gateway will remove them.
    pub ended: u64,
    /// Entries of the log.
    pub log: u64,
    /// The faults, listed one by one up to a limit; empty if the file is sound.
    pub faults: Vec<String>,
}

/// Why the rows were not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
}

/// Frees the disk space of removed rows.
///
/// # Errors
/// [`FileError`]: the file cannot be used.
pub fn compact(
    path: &Path,
    config: &config::EmbeddedStore,
    clock: &dyn Clock,
) -> Result<Compacted, FileError> {
    let size = || {
        let metadata = std::fs::metadata(path);
        metadata
            .map(|metadata| metadata.len())
            .map_err(|source| FileError::Io { path: path.to_owned(), source })
    };
    let mut database = file::open_existing(path, config.cache.as_usize(), clock)?;
    let before = size()?;
    within(path, move || {
        // Each pass moves some pages, and returns false when it moved none.
        while database.compact().map_err(|error| Fault::Storage(error.into()))? {}
        Ok(())
    })?;
    Ok(Compacted { before, after: size()? })
}

/// Reads the whole file and checks the checksums of its pages and rows.
///
/// # Errors
/// [`FileError`]: the file is so damaged that its rows cannot be read.
pub fn verify(path: &Path, config: &config::EmbeddedStore, clock: &dyn Clock) -> Result<Verified, FileError> {
    let mut database = file::open_existing(path, config.cache.as_usize(), clock)?;
    within(path, move || {
        let mut verified = Verified::default();
        if !database.check_integrity().map_err(|error| Fault::Storage(error.into()))? {
            verified.faults.push("pages were damaged: they were repaired as far as possible".to_owned());
        }
        verify_rows(&database, clock, &mut verified)?;
        Ok(verified)
    })
}

fn verify_rows(database: &Database, clock: &dyn Clock, verified: &mut Verified) -> Result<(), Fault> {
    let transaction = database.begin_read()?;
    let (rows, ends) = (transaction.open_table(ROWS)?, transaction.open_table(ENDS)?);
    let log = transaction.open_table(LOG)?;
    let now = clock.now();
    let check = |name: &Name, sealed: &[u8], verified: &mut Verified| {
        let Ok(row) = unseal(name, sealed) else {
            verified.fault(format!("{}: the checksum is wrong", shown(name)));
            return Ok(());
        };
        if ends.get(&end_key(row.end, name))?.is_none() {
            verified.fault(format!("{}: its end is not in the table of ends", shown(name)));
        }
        match (row.is_alive(now), space_of(name)) {
            (false, _) => verified.ended += 1,
            (true, Some(space)) => *verified.rows.entry(space).or_default() += 1,
            (true, None) => verified.log += 1,
        }
        Ok::<_, Fault>(())
    };
    for entry in rows.iter()? {
        let (name, sealed) = entry?;
        if space_of(name.value()).is_none() {
            verified.fault(format!("{}: its space is unknown", shown(name.value())));
        }
        check(name.value(), sealed.value(), verified)?;
    }
    let last = last_entry(&transaction.open_table(META)?)?;
    for entry in log.iter()? {
        let (number, sealed) = entry?;
        if number.value() > last {
            verified.fault(format!("log entry {}: the log ends at {last}", number.value()));
        }
        check(&entry_name(number.value()), sealed.value(), verified)?;
    }
    let (rows, log, ends) = (rows.len()?, log.len()?, ends.len()?);
    if rows + log != ends {
        verified.fault(format!("{rows} rows and {log} entries of the log, but {ends} ends"));
    }
    Ok(())
}

impl Verified {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        } else if self.faults.len() == TOLD {
            self.faults.push("there are more faults".to_owned());
        }
    }
}

/// Writes every row that has not ended, one JSON object a line, and returns how many. The content
/// is sealed or hashed, but it is still personal data.
///
/// # Errors
/// [`ExportError`]: the file cannot be used, or the output cannot be written.
pub fn export(
    path: &Path,
    config: &config::EmbeddedStore,
    clock: &dyn Clock,
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let database = file::open_existing(path, config.cache.as_usize(), clock)?;
    let written = within(path, move || {
        let mut exported = 0;
        for entry in database.begin_read()?.open_table(ROWS)?.iter()? {
            let (name, sealed) = entry?;
            let row = unseal(name.value(), sealed.value())
                .map_err(|_| Fault::damaged(&format!("{}: the checksum is wrong", shown(name.value()))))?;
            if !row.is_alive(clock.now()) {
                continue;
            }
            let line = serde_json::json!({
                "space": space_of(name.value()).map(Space::letter),
                "name": hex_name(name.value()),
                "value": STANDARD.encode(row.value),
                "expires_at_ms": row.end.millis(),
            });
            if let Err(error) = writeln!(out, "{line}") {
                return Ok(Err(error));
            }
            exported += 1;
        }
        Ok(out.flush().map(|()| exported))
    })?;
    written.map_err(ExportError::Write)
}

/// Runs `work`, which owns the file and closes it, and turns a panic into an error: on a damaged
/// file redb can panic when it closes as well as when it reads.
fn within<T>(path: &Path, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, FileError> {
    match panics::catch(work) {
        Ok(done) => done.map_err(|fault| file::fault_error(path, &fault)),
        Err(_) => Err(FileError::Damaged { path: path.to_owned(), reason: "it cannot be read".to_owned() }),
    }
}

fn space_of(name: &Name) -> Option<Space> {
    let letter = char::from(*name.first()?);
    Space::ALL.into_iter().find(|space| space.letter() == letter)
}

fn hex_name(name: &Name) -> String {
    name.iter().skip(1).map(|byte| format!("{byte:02x}")).collect()
}

fn shown(name: &Name) -> String {
    format!("{}:{}", char::from(name.first().copied().unwrap_or(b'?')).escape_default(), hex_name(name))
}
