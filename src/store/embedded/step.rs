//! The steps, each inside a transaction of the writer, and the reads.

use std::ops::Bound;

use bytes::Bytes;
use redb::{Database, ReadableDatabase as _, ReadableTable, Table, WriteTransaction};

use super::super::{Key, LogEntries, ScanCursor, ScanPage, Space};
use super::fault::Fault;
use super::row::{
    ENDS, LOG, LOG_LAST, META, Name, ROWS, end_key, ended, entry_name, entry_number, name_of, seal, unseal,
};
use crate::clock::Timestamp;

/// Most entries of the log in one read.
const MAX_ENTRIES: u64 = 1000;

/// The tables that a step may change.
pub(super) struct Tables<'a> {
    rows: Table<'a, &'static Name, &'static [u8]>,
    ends: Table<'a, &'static [u8; 25], ()>,
    log: Table<'a, u64, &'static [u8]>,
    meta: Table<'a, &'static str, &'static [u8]>,
    /// One instant for all steps of a transaction.
    now: Timestamp,
    changed: Vec<Name>,
    removed_bytes: u64,
}

/// What a transaction changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The rows and entries of the log. A name can stand in it several times.
    pub(super) names: Vec<Name>,
    /// How many bytes of rows are gone.
    pub(super) removed_bytes: u64,
}

impl<'a> Tables<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction, now: Timestamp) -> Result<Self, Fault> {
        Ok(Self {
            rows: transaction.open_table(ROWS)?,
            ends: transaction.open_table(ENDS)?,
            log: transaction.open_table(LOG)?,
            meta: transaction.open_table(META)?,
            now,
            changed: Vec::new(),
            removed_bytes: 0,
        })
    }

    /// Ends the steps of a transaction; what they changed.
    pub(super) fn into_changes(self) -> Changes {
        Changes { names: self.changed, removed_bytes: self.removed_bytes }
    }

    /// Makes a row, or an entry of the log, what it is in another file; absent without a value. A
    /// damaged value is copied as it is, so that `verify` finds it.
    pub(super) fn mirror(&mut self, name: &Name, sealed: Option<&[u8]>) -> Result<(), Fault> {
        let number = entry_number(name);
        let before = match (number, sealed) {
            (Some(number), Some(sealed)) => self.log.insert(number, sealed)?,
            (Some(number), None) => self.log.remove(number)?,
            (None, Some(sealed)) => self.rows.insert(name, sealed)?,
            (None, None) => self.rows.remove(name)?,
        };
        let end = |sealed: &[u8]| unseal(name, sealed).ok().map(|row| row.end);
        let old_end = before.and_then(|before| end(before.value()));
        let new_end = sealed.and_then(end);
        if old_end == new_end {
            return Ok(());
        }
        if let Some(old_end) = old_end {
            self.ends.remove(&end_key(old_end, name))?;
        }
        if let Some(new_end) = new_end {
            self.ends.insert(&end_key(new_end, name), ())?;
        }
        Ok(())
    }

    /// Makes a fact about the file what it is in another file.
    pub(super) fn mirror_meta(&mut self, name: &'static str, sealed: &[u8]) -> Result<(), Fault> {
        self.meta.insert(name, sealed)?;
        Ok(())
    }

    pub(super) fn put(&mut self, name: &Name, value: &[u8], end: Timestamp) -> Result<(), Fault> {
        // Before the write: a damaged row stays as it is, for the operator's `verify`.
        let old_end = self.find(name)?.map(|row| row.end);
        self.write(name, value, end, old_end)
    }

    pub(super) fn put_if_absent(&mut self, name: &Name, value: &[u8], end: Timestamp) -> Result<bool, Fault> {
        let found = self.find(name)?;
        if found.as_ref().is_some_and(|row| row.is_alive) {
            return Ok(false);
        }
        self.write(name, value, end, found.map(|row| row.end))?;
        Ok(true)
    }

    pub(super) fn compare_and_set(
        &mut self,
        name: &Name,
        expected: &[u8],
        value: &[u8],
        end: Timestamp,
    ) -> Result<bool, Fault> {
        let Some(found) = self.find(name)?.filter(|row| row.says(expected)) else { return Ok(false) };
        self.write(name, value, end, Some(found.end))?;
        Ok(true)
    }

    /// Writes a row if its value is `expected`, or if there is none and none is expected. Returns
    /// whether it did.
    pub(super) fn write_if(
        &mut self,
        name: &Name,
        expected: Option<&[u8]>,
        value: &[u8],
        end: Timestamp,
    ) -> Result<bool, Fault> {
        match expected {
            Some(expected) => self.compare_and_set(name, expected, value, end),
            None => self.put_if_absent(name, value, end),
        }
    }

    pub(super) fn compare_and_delete(&mut self, name: &Name, expected: &[u8]) -> Result<bool, Fault> {
        let Some(found) = self.find(name)?.filter(|row| row.says(expected)) else { return Ok(false) };
        self.remove(name, found.end)?;
        Ok(true)
    }

    pub(super) fn append(&mut self, entry: &[u8], end: Timestamp) -> Result<u64, Fault> {
        let number =
            last_entry(&self.meta)?.checked_add(1).ok_or_else(|| Fault::damaged("the log is full"))?;
        let name = entry_name(number);
        let forever = Timestamp::from_millis(u64::MAX);
        self.log.insert(number, seal(&name, end, entry).as_slice())?;
        self.changed.push(name);
        self.ends.insert(&end_key(end, &name), ())?;
        self.meta.insert(LOG_LAST, seal(LOG_LAST.as_bytes(), forever, &number.to_be_bytes()).as_slice())?;
        Ok(number)
    }

    /// Removes ended rows and entries, at most `limit` of them. Returns how many.
    pub(super) fn sweep(&mut self, limit: usize) -> Result<usize, Fault> {
        let mut over = Vec::new();
        for entry in self.ends.iter()?.take(limit) {
            let key = *entry?.0.value();
            match ended(&key) {
                Some((end, name)) if end <= self.now => over.push((key, end, name)),
                _ => break,
            }
        }
        for (key, end, name) in &over {
            self.ends.remove(key)?;
            self.changed.push(*name);
            match entry_number(name) {
                Some(number) => drop(self.log.remove(number)?),
                // A damaged row stays, so that `verify` finds it.
                None if matches!(self.find(name), Ok(Some(row)) if row.end == *end) => {
                    let removed = self.rows.remove(name)?;
                    self.removed_bytes += removed.map_or(0, |removed| length(removed.value()));
                }
                None => {}
            }
        }
        Ok(over.len())
    }

    fn find(&self, name: &Name) -> Result<Option<Found>, Fault> {
        find(&self.rows, name, self.now)
    }

    fn write(
        &mut self,
        name: &Name,
        value: &[u8],
        end: Timestamp,
        old_end: Option<Timestamp>,
    ) -> Result<(), Fault> {
        self.rows.insert(name, seal(name, end, value).as_slice())?;
        self.changed.push(*name);
        if old_end != Some(end) {
            if let Some(old_end) = old_end {
                self.ends.remove(&end_key(old_end, name))?;
            }
            self.ends.insert(&end_key(end, name), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, name: &Name, end: Timestamp) -> Result<(), Fault> {
        let removed = self.rows.remove(name)?;
        self.removed_bytes += removed.map_or(0, |removed| length(removed.value()));
        self.changed.push(*name);
        self.ends.remove(&end_key(end, name))?;
        Ok(())
    }
}

/// A row in the file. It may have ended.
struct Found {
    end: Timestamp,
    is_alive: bool,
    value: Bytes,
}

impl Found {
    fn says(&self, expected: &[u8]) -> bool {
        self.is_alive && self.value == expected
    }
}

/// Reads a row as of the last commit.
pub(super) fn get(database: &Database, name: &Name, now: Timestamp) -> Result<Option<Bytes>, Fault> {
    let found = find(&database.begin_read()?.open_table(ROWS)?, name, now)?;
    Ok(found.filter(|row| row.is_alive).map(|row| row.value))
}

/// Reads the rows of a space as of the last commit, from the first name after `after` on.
pub(super) fn scan(
    database: &Database,
    space: Space,
    after: Option<[u8; 16]>,
    limit: usize,
    now: Timestamp,
) -> Result<ScanPage, Fault> {
    let name = |name: [u8; 16]| name_of(&Key { space, name });
    let table = database.begin_read()?.open_table(ROWS)?;
    let first = after.map_or(Bound::Included(name([0; 16])), |after| Bound::Excluded(name(after)));
    let end = name([0xff; 16]);
    let limit = limit.max(1);
    let (mut rows, mut last_read, mut count) = (Vec::new(), None, 0);
    // Ended rows count against the limit too, so that the time for a page is bounded.
    for entry in table.range::<&Name>((first.as_ref(), Bound::Included(&end)))?.take(limit) {
        let (name, sealed) = entry?;
        let row = unseal(name.value(), sealed.value()).map_err(|_| broken_seal())?;
        let (_, rest) = name.value().split_first_chunk::<1>().ok_or_else(broken_seal)?;
        let key = Key { space, name: rest.try_into().map_err(|_| broken_seal())? };
        last_read = Some(ScanCursor::new(rest.to_vec()));
        count += 1;
        if row.is_alive(now) {
            rows.push((key, Bytes::copy_from_slice(row.value)));
        }
    }
    Ok(ScanPage { rows, next: last_read.filter(|_| count == limit) })
}

/// Reads the log's entries after a number, as of the last commit.
pub(super) fn log_after(database: &Database, after: u64, now: Timestamp) -> Result<LogEntries, Fault> {
    let transaction = database.begin_read()?;
    let last = last_entry(&transaction.open_table(META)?)?;
    // A reader that is ahead read another log, for example one from before a copy was restored.
    if after > last || last - after > MAX_ENTRIES {
        return Ok(LogEntries::Gap { last });
    }
    let log = transaction.open_table(LOG)?;
    let mut entries = Vec::new();
    for number in after.saturating_add(1)..=last {
        let Some(sealed) = log.get(number)? else { return Ok(LogEntries::Gap { last }) };
        let row = unseal(&entry_name(number), sealed.value()).map_err(|_| broken_seal())?;
        if !row.is_alive(now) {
            return Ok(LogEntries::Gap { last });
        }
        entries.push(Bytes::copy_from_slice(row.value));
    }
    Ok(LogEntries::All { entries, last })
}

/// Whether the file still has a row or an entry that has ended.
pub(super) fn has_ended(database: &Database, now: Timestamp) -> Result<bool, Fault> {
    let ends = database.begin_read()?.open_table(ENDS)?;
    let first = ends.first()?.and_then(|(key, _)| ended(key.value())).map(|(end, _)| end);
    Ok(first.is_some_and(|end| end <= now))
}

fn find(
    rows: &impl ReadableTable<&'static Name, &'static [u8]>,
    name: &Name,
    now: Timestamp,
) -> Result<Option<Found>, Fault> {
    let Some(sealed) = rows.get(name)? else { return Ok(None) };
    let row = unseal(name, sealed.value()).map_err(|_| broken_seal())?;
    let (end, is_alive) = (row.end, row.is_alive(now));
    Ok(Some(Found { end, is_alive, value: Bytes::copy_from_slice(row.value) }))
}

pub(super) fn last_entry(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, Fault> {
    let missing = || Fault::damaged("the log's last number is missing");
    let sealed = meta.get(LOG_LAST)?.ok_or_else(missing)?;
    let row = unseal(LOG_LAST.as_bytes(), sealed.value()).map_err(|_| broken_seal())?;
    row.value.try_into().map(u64::from_be_bytes).map_err(|_| missing())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn broken_seal() -> Fault {
    Fault::damaged("a row's checksum is wrong")
}
