//! The format of the file: its tables, and the seal of each value, a checksum that detects changes.

use std::hash::Hasher as _;

use redb::TableDefinition;
use siphasher::sip::SipHasher24;

use super::super::Key;
use crate::clock::Timestamp;

/// A row's name: the letter of its space and its name.
pub(super) type Name = [u8; 17];

/// The sealed rows.
pub(super) const ROWS: TableDefinition<'_, &Name, &[u8]> = TableDefinition::new("rows");
/// The ends of rows and log entries: the end in milliseconds, then the name. Big-endian, so that
/// the earliest end comes first.
pub(super) const ENDS: TableDefinition<'_, &[u8; 25], ()> = TableDefinition::new("ends");
/// The sealed entries of the log, by number.
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// The sealed facts about the file itself, which outlive every row.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// In [`META`]: the version of the file's format.
pub(super) const FORMAT: &str = "format";
/// In [`META`]: the number of the log's last entry. It stays when the entry is removed.
pub(super) const LOG_LAST: &str = "log_last";

/// The space letter of the log's entries in [`ENDS`].
const LOG_LETTER: u8 = b'l';
const CHECKSUM_BYTES: usize = 8;

/// The checksum of a sealed value is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BrokenSeal;

/// The content of a sealed value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) end: Timestamp,
    pub(super) value: &'a [u8],
}

impl Row<'_> {
    /// Whether the row has not ended. An ended row does not exist for callers, even if it is still
    /// in the file.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        now < self.end
    }
}

/// Seals a value: adds a checksum of its name, end and bytes. A row under another name is damaged,
/// as a changed row is.
pub(super) fn seal(name: &[u8], end: Timestamp, value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(CHECKSUM_BYTES + 8 + value.len());
    sealed.extend_from_slice(&[0; CHECKSUM_BYTES]);
    sealed.extend_from_slice(&end.millis().to_be_bytes());
    sealed.extend_from_slice(value);
    if let Some((checksum, body)) = sealed.split_first_chunk_mut::<CHECKSUM_BYTES>() {
        *checksum = checksum_of(name, body);
    }
    sealed
}

/// Checks the seal and returns the row.
pub(super) fn unseal<'a>(name: &[u8], sealed: &'a [u8]) -> Result<Row<'a>, BrokenSeal> {
    let (checksum, body) = sealed.split_first_chunk::<CHECKSUM_BYTES>().ok_or(BrokenSeal)?;
    if *checksum != checksum_of(name, body) {
        return Err(BrokenSeal);
    }
    let (end, value) = body.split_first_chunk::<8>().ok_or(BrokenSeal)?;
    Ok(Row { end: Timestamp::from_millis(u64::from_be_bytes(*end)), value })
}

/// Finds accidents, not attacks: an attacker who can write the file can also write the checksum.
fn checksum_of(name: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = SipHasher24::new();
    hasher.write(&(name.len() as u64).to_be_bytes());
    hasher.write(name);
    hasher.write(body);
    hasher.finish().to_be_bytes()
}

/// The name of a row.
pub(super) fn name_of(key: &Key) -> Name {
    named(key.space.letter() as u8, key.name)
}

/// The name of the log's entry of this number.
pub(super) fn entry_name(number: u64) -> Name {
    named(LOG_LETTER, u128::from(number).to_be_bytes())
}

/// The number of the log's entry of this name, if it is one.
pub(super) fn entry_number(name: &Name) -> Option<u64> {
    let (letter, number) = name.split_first()?;
    let number = u128::from_be_bytes(number.try_into().ok()?);
    (*letter == LOG_LETTER).then_some(u64::try_from(number).ok()).flatten()
}

fn named(letter: u8, rest: [u8; 16]) -> Name {
    let mut name = [letter; 17];
    if let Some((_, tail)) = name.split_first_chunk_mut::<1>() {
        tail.copy_from_slice(&rest);
    }
    name
}

/// The key of a row in [`ENDS`].
pub(super) fn end_key(end: Timestamp, name: &Name) -> [u8; 25] {
    let mut key = [0; 25];
    if let Some((head, tail)) = key.split_first_chunk_mut::<8>() {
        *head = end.millis().to_be_bytes();
        tail.copy_from_slice(name);
    }
    key
}

/// The end and the name in a key of [`end_key`].
pub(super) fn ended(key: &[u8; 25]) -> Option<(Timestamp, Name)> {
    let (end, name) = key.split_first_chunk::<8>()?;
    Some((Timestamp::from_millis(u64::from_be_bytes(*end)), name.try_into().ok()?))
}
