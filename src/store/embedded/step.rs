//! The steps themselves, each inside a transaction of the writer's, and the reads.

use bytes::Bytes;
use redb::{Database, ReadableDatabase as _, ReadableTable, Table, WriteTransaction};

use super::super::LogEntries;
use super::fault::Fault;
use super::row::{
    ENDS, LOG, LOG_LAST, META, Name, ROWS, end_key, ended, entry_name, entry_number, seal, unseal,
};
use crate::clock::Timestamp;

/// Most entries of the log at once.
const MAX_ENTRIES: u64 = 1000;

/// What a step may touch.
pub(super) struct Tables<'a> {
    rows: Table<'a, &'static Name, &'static [u8]>,
    ends: Table<'a, &'static [u8; 25], ()>,
    log: Table<'a, u64, &'static [u8]>,
    meta: Table<'a, &'static str, &'static [u8]>,
    /// One instant for all steps of a transaction.
    now: Timestamp,
}

impl<'a> Tables<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction, now: Timestamp) -> Result<Self, Fault> {
        Ok(Self {
            rows: transaction.open_table(ROWS)?,
            ends: transaction.open_table(ENDS)?,
            log: transaction.open_table(LOG)?,
            meta: transaction.open_table(META)?,
            now,
        })
    }

    pub(super) fn put(&mut self, name: &Name, value: &[u8], end: Timestamp) -> Result<(), Fault> {
        // Before the write: a row that is damaged is left for whoever mends the file.
        let old_end = self.end_of(name)?;
        self.write(name, value, end, old_end)
    }

    pub(super) fn put_if_absent(&mut self, name: &Name, value: &[u8], end: Timestamp) -> Result<bool, Fault> {
        if read(&self.rows, name, self.now)?.is_some() {
            return Ok(false);
        }
        self.put(name, value, end)?;
        Ok(true)
    }

    pub(super) fn compare_and_set(
        &mut self,
        name: &Name,
        expected: &[u8],
        value: &[u8],
        end: Timestamp,
    ) -> Result<bool, Fault> {
        if !self.says(name, expected)? {
            return Ok(false);
        }
        self.put(name, value, end)?;
        Ok(true)
    }

    pub(super) fn compare_and_delete(&mut self, name: &Name, expected: &[u8]) -> Result<bool, Fault> {
        if !self.says(name, expected)? {
            return Ok(false);
        }
        self.remove(name)?;
        Ok(true)
    }

    pub(super) fn take(&mut self, name: &Name) -> Result<Option<Bytes>, Fault> {
        let value = read(&self.rows, name, self.now)?;
        if value.is_some() {
            self.remove(name)?;
        }
        Ok(value)
    }

    /// The sum is kept in decimal digits, as Redis keeps it.
    pub(super) fn increment(&mut self, name: &Name, end: Timestamp) -> Result<u64, Fault> {
        let Some(value) = read(&self.rows, name, self.now)? else {
            self.put(name, b"1", end)?;
            return Ok(1);
        };
        let sum = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<u64>().ok());
        let sum =
            sum.and_then(|sum| sum.checked_add(1)).ok_or_else(|| Fault::damaged("a row is no counter"))?;
        let old_end = self.end_of(name)?;
        self.write(name, sum.to_string().as_bytes(), old_end.unwrap_or(end), old_end)?;
        Ok(sum)
    }

    pub(super) fn append(&mut self, entry: &[u8], end: Timestamp) -> Result<u64, Fault> {
        let number =
            last_entry(&self.meta)?.checked_add(1).ok_or_else(|| Fault::damaged("the log is full"))?;
        let name = entry_name(number);
        let forever = Timestamp::from_millis(u64::MAX);
        self.log.insert(number, seal(&name, end, entry).as_slice())?;
        self.ends.insert(&end_key(end, &name), ())?;
        self.meta.insert(LOG_LAST, seal(LOG_LAST.as_bytes(), forever, &number.to_be_bytes()).as_slice())?;
        Ok(number)
    }

    /// Removes what has ended, at most so much; how much it was.
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
            match entry_number(name) {
                Some(number) => drop(self.log.remove(number)?),
                // A damaged row stays, for `verify` to find.
                None if matches!(self.end_of(name), Ok(Some(row_end)) if row_end == *end) => {
                    self.rows.remove(name)?;
                }
                None => {}
            }
        }
        Ok(over.len())
    }

    fn says(&self, name: &Name, expected: &[u8]) -> Result<bool, Fault> {
        Ok(read(&self.rows, name, self.now)?.is_some_and(|value| value == expected))
    }

    /// When the row ends or ended, removed or not.
    fn end_of(&self, name: &Name) -> Result<Option<Timestamp>, Fault> {
        let Some(sealed) = self.rows.get(name)? else { return Ok(None) };
        Ok(Some(unseal(name, sealed.value()).map_err(|_| broken_seal())?.end))
    }

    fn write(
        &mut self,
        name: &Name,
        value: &[u8],
        end: Timestamp,
        old_end: Option<Timestamp>,
    ) -> Result<(), Fault> {
        self.rows.insert(name, seal(name, end, value).as_slice())?;
        if old_end != Some(end) {
            if let Some(old_end) = old_end {
                self.ends.remove(&end_key(old_end, name))?;
            }
            self.ends.insert(&end_key(end, name), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> Result<(), Fault> {
        if let Some(end) = self.end_of(name)? {
            self.rows.remove(name)?;
            self.ends.remove(&end_key(end, name))?;
        }
        Ok(())
    }
}

/// Reads a row as of the last commit.
pub(super) fn get(database: &Database, name: &Name, now: Timestamp) -> Result<Option<Bytes>, Fault> {
    read(&database.begin_read()?.open_table(ROWS)?, name, now)
}

/// The log's entries after a number, as of the last commit.
pub(super) fn log_after(database: &Database, after: u64, now: Timestamp) -> Result<LogEntries, Fault> {
    let transaction = database.begin_read()?;
    let last = last_entry(&transaction.open_table(META)?)?;
    // A reader that is ahead has read another log, such as one from before a copy was restored.
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

/// Whether something has ended that is still in the file.
pub(super) fn has_ended(database: &Database, now: Timestamp) -> Result<bool, Fault> {
    let ends = database.begin_read()?.open_table(ENDS)?;
    let first = ends.first()?.and_then(|(key, _)| ended(key.value())).map(|(end, _)| end);
    Ok(first.is_some_and(|end| end <= now))
}

fn read(
    rows: &impl ReadableTable<&'static Name, &'static [u8]>,
    name: &Name,
    now: Timestamp,
) -> Result<Option<Bytes>, Fault> {
    let Some(sealed) = rows.get(name)? else { return Ok(None) };
    let row = unseal(name, sealed.value()).map_err(|_| broken_seal())?;
    Ok(row.is_alive(now).then(|| Bytes::copy_from_slice(row.value)))
}

pub(super) fn last_entry(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, Fault> {
    let missing = || Fault::damaged("the log's last number is missing");
    let sealed = meta.get(LOG_LAST)?.ok_or_else(missing)?;
    let row = unseal(LOG_LAST.as_bytes(), sealed.value()).map_err(|_| broken_seal())?;
    row.value.try_into().map(u64::from_be_bytes).map_err(|_| missing())
}

fn broken_seal() -> Fault {
    Fault::damaged("a row's checksum is wrong")
}
