//! Reads the rows of one space page by page: `SCAN` on one master after the other. Never `KEYS`,
//! which stops a server.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use redis::Value;

use super::error::Failure;
use super::section::Topology;
use super::wire::Target;
use super::{Redis, Step, row};
use crate::store::operation::Operation;
use crate::store::{Key, ScanCursor, ScanPage, Space, Store as _, StoreError};

/// Most rows of a page that are read at the same time.
const READS_AT_ONCE: usize = 32;
/// Fewest keys that a server examines for a page. Most of them may belong to other spaces.
const LEAST_KEYS: usize = 1000;

/// A master of a cluster, or the only server if there is no cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Master {
    /// One of its slots, which routes a command to it.
    slot: u16,
    /// Its id in the cluster. A cursor is valid on this server alone.
    id: String,
}

/// The position of a scan: the masters that remain, and the cursor on the first of them.
struct ScanPlace {
    masters: Vec<Master>,
    cursor: u64,
}

impl Redis {
    pub(super) async fn scan_page(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        let mut place = match from {
            Some(cursor) => ScanPlace::parse(cursor)?,
            None => ScanPlace { masters: self.masters().await?, cursor: 0 },
        };
        let Some(master) = place.masters.first() else {
            return Ok(ScanPage { rows: Vec::new(), next: None });
        };
        let (cursor, keys) = self.scan_keys(space, master.slot, place.cursor, limit).await?;
        // Another server may have the slot now, and the cursor is not valid there. A scan must not
        // miss the rows of a slot without an error.
        if self.is_cluster() && !self.masters().await?.contains(master) {
            return Err(StoreError::Unavailable("the cluster changed during a scan".into()));
        }
        let rows = self.read_rows(keys).await?;
        place.cursor = cursor;
        if cursor == 0 {
            place.masters.remove(0);
        }
        let next = (!place.masters.is_empty()).then(|| place.cursor());
        Ok(ScanPage { rows, next })
    }

    fn is_cluster(&self) -> bool {
        matches!(self.link.section().topology, Topology::Cluster)
    }

    /// Every master with slots.
    async fn masters(&self) -> Result<Vec<Master>, StoreError> {
        if !self.is_cluster() {
            return Ok(vec![Master { slot: 0, id: "only".to_owned() }]);
        }
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer = self.make(self.scan_step(Target::Slot(0), command)).await?;
        let mut masters = masters(answer).ok_or_else(|| Failure::unexpected().error)?;
        masters.sort();
        masters.dedup_by(|later, earlier| later.id == earlier.id);
        Ok(masters)
    }

    async fn scan_keys(
        &self,
        space: Space,
        slot: u16,
        cursor: u64,
        limit: usize,
    ) -> Result<(u64, Vec<Key>), StoreError> {
        let prefix = format!("{}:{}:{{", self.link.section().prefix, space.letter());
        let mut command = redis::cmd("SCAN");
        // No character that a prefix may have is special in a pattern.
        command.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(limit.max(LEAST_KEYS));
        let answer = self.make(self.scan_step(Target::Slot(slot), command)).await?;
        let (cursor, names) = parse_page(answer).ok_or_else(|| Failure::unexpected().error)?;
        let key = |name: Bytes| {
            let hex = name.strip_prefix(prefix.as_bytes())?.strip_suffix(b"}")?;
            let name = std::str::from_utf8(hex).ok().filter(|hex| hex.len() == 32)?;
            Some(Key { space, name: u128::from_str_radix(name, 16).ok()?.to_be_bytes() })
        };
        // A key that matches the pattern but is not a row of the gateway is skipped.
        Ok((cursor, names.into_iter().filter_map(key).collect()))
    }

    async fn read_rows(&self, keys: Vec<Key>) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let reads = keys.into_iter().map(|key| async move {
            let value = self.get(&key).await?;
            Ok::<_, StoreError>(value.map(|value| (key, value)))
        });
        let rows: Vec<Option<(Key, Bytes)>> =
            stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        // A row that ended between the two commands is skipped.
        Ok(rows.into_iter().flatten().collect())
    }

    fn scan_step(&self, target: Target, command: redis::Cmd) -> Step {
        Step { operation: Operation::Scan, target, command, with_code: None, has_written: |_| false }
    }
}

impl ScanPlace {
    /// Writes the position as `CURSOR SLOT=ID SLOT=ID …`.
    fn cursor(&self) -> ScanCursor {
        let masters = self.masters.iter().map(|master| format!(" {}={}", master.slot, master.id));
        ScanCursor::new(format!("{}{}", self.cursor, masters.collect::<String>()))
    }

    fn parse(cursor: &ScanCursor) -> Result<Self, StoreError> {
        let read = || {
            let mut words = std::str::from_utf8(cursor.as_bytes()).ok()?.split(' ');
            let cursor = words.next()?.parse().ok()?;
            let master = |word: &str| {
                let (slot, id) = word.split_once('=')?;
                Some(Master { slot: slot.parse().ok()?, id: id.to_owned() })
            };
            Some(Self { cursor, masters: words.map(master).collect::<Option<_>>()? })
        };
        read().ok_or_else(|| StoreError::Unavailable("the scan was begun on another store".into()))
    }
}

/// Parses the answer of `CLUSTER SLOTS`: the first slot and the master of each range.
fn masters(answer: Value) -> Option<Vec<Master>> {
    let Value::Array(ranges) = answer else { return None };
    let master = |range: Value| {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), _, Value::Array(master), ..] = range.as_slice() else { return None };
        let id = match master.get(2)? {
            Value::BulkString(id) => String::from_utf8(id.clone()).ok()?,
            Value::SimpleString(id) => id.clone(),
            _ => return None,
        };
        Some(Master { slot: u16::try_from(*first).ok()?, id })
    };
    ranges.into_iter().map(master).collect()
}

/// Parses the answer of `SCAN`: the next cursor, 0 at the end, and the names of keys.
fn parse_page(answer: Value) -> Option<(u64, Vec<Bytes>)> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    let cursor = row(parts.next()?).ok()??;
    let Value::Array(names) = parts.next()? else { return None };
    let names = names.into_iter().map(|name| row(name).ok().flatten()).collect::<Option<_>>()?;
    Some((std::str::from_utf8(&cursor).ok()?.parse().ok()?, names))
}
