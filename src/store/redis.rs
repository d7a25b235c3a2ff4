//! The Redis engine: rows that several gateways share, on one server, behind sentinels, or in a
//! cluster.
//!
//! Every step is one command or one script, on keys of one slot. If no answer comes, the engine
//! never makes the step again: the caller must know that the step may have been made.
//! `docs/redis.md` says what an operator must set up.

mod error;
mod health;
mod link;
mod listen;
mod scan;
mod script;
mod section;
mod sentinel;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::Semaphore;

use self::error::{Cause, Failure};
use self::health::Health;
use self::link::Link;
use self::listen::Listener;
use self::script::{Known, Scripts};
use self::section::Section;
use self::wire::{ConnectionSet, Target};
use super::operation::Operation;
use super::{
    Key, LogEntries, MAX_VALUE_BYTES, ScanCursor, ScanPage, SharedRate, SharedRates, Space, Store, StoreError,
};
use crate::config::{self, Findings};
use crate::telemetry::metrics::Metrics;

/// Most entries of the log read at once.
const MAX_LOG_ENTRIES: u64 = 1000;
/// Length of the two stamps before an entry of the log: the previous entry's and its own.
const STAMPS_BYTES: usize = 32;
/// Longest lifetime of a row: a thousand years. Redis adds it to its clock in signed milliseconds,
/// and the sum must not overflow.
const MAX_TTL_MILLIS: u128 = 1000 * 365 * 24 * 3600 * 1000;
/// Lifetime of the row that a ping writes.
const PING_LASTS: Duration = Duration::from_secs(60);
/// Pause before the engine repeats a step that was certainly not made, while a cluster moves slots.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Most attempts at a step that was certainly not made.
const MAX_ATTEMPTS: u32 = 8;

/// The Redis engine.
pub struct Redis {
    link: Arc<Link>,
    listener: Listener,
    scripts: Scripts,
    permits: Semaphore,
    health: Health,
    log_key: String,
    log_channel: String,
    /// Number and stamp of the log's last entry at the last read.
    log_seen: Mutex<(u64, Bytes)>,
}

/// One step: what to send, and whether its write must be waited for.
struct Step {
    operation: Operation,
    target: Target,
    command: Cmd,
    /// The command for a server that does not have the script yet.
    with_code: Option<Cmd>,
    /// Whether the answer means that the step wrote a row that must be durable.
    has_written: fn(&Value) -> bool,
}

impl Redis {
    /// Checks the section and reads its secrets and certificates, without connecting.
    pub fn build(config: &config::RedisStore, metrics: &Metrics, findings: &mut Findings) -> Option<Self> {
        let section = Section::build(config, findings)?;
        let log_channel = format!("{}:log", section.prefix);
        Some(Self {
            listener: Listener::new(log_channel.clone()),
            scripts: Scripts::new(),
            permits: Semaphore::new(section.max_in_flight),
            health: Health::new(metrics),
            log_key: format!("{}:log:{{log}}", section.prefix),
            log_channel,
            log_seen: Mutex::default(),
            link: Link::new(section),
        })
    }

    fn key(&self, key: &Key) -> String {
        self.name(key.space.letter(), &key.name)
    }

    /// The braces make the slot depend on the row's name alone, not on the prefix.
    fn name(&self, letter: char, name: &[u8; 16]) -> String {
        format!("{}:{letter}:{{{:032x}}}", self.link.section().prefix, u128::from_be_bytes(*name))
    }

    /// Returns a step of one command. The caller sets `has_written` if the write must be durable.
    fn command(&self, operation: Operation, key: String, command: Cmd) -> Step {
        let target = Target::Key(key);
        Step { operation, target, command, with_code: None, has_written: |_| false }
    }

    fn script(&self, operation: Operation, key: String, script: &Known, arguments: &[&[u8]]) -> Step {
        let (command, with_code) = script.call(&key, arguments);
        let target = Target::Key(key);
        Step { operation, target, command, with_code: Some(with_code), has_written: |_| false }
    }

    /// Makes a step within its time limit, and counts it.
    async fn make(&self, step: Step) -> Result<Value, StoreError> {
        let operation = step.operation;
        let _timer = self.health.time(operation);
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(self.health.refused(operation, StoreError::Busy));
        };
        let used = Mutex::new(None);
        let limit = wire::limit(self.link.section());
        let result = match tokio::time::timeout(limit, self.attempt(step, &used)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::late()),
        };
        match result {
            Ok(answer) => {
                self.health.worked(operation);
                Ok(answer)
            }
            Err(failure) => {
                if let Some(session) = used.into_inner() {
                    self.give_up(operation, &session, &failure);
                }
                Err(self.health.failed(operation, failure))
            }
        }
    }

    /// Replaces a session that did not answer, or whose server is the wrong one. A session of a
    /// cluster reconnects by itself: one silent server is no reason to leave the others. An
    /// operation that waits for replicas can be late although the session works.
    fn give_up(&self, operation: Operation, session: &Arc<ConnectionSet>, failure: &Failure) {
        let is_slow = failure.cause == Cause::Late && self.is_awaited(operation);
        let is_suspect = matches!(failure.cause, Cause::Late | Cause::Connection | Cause::WrongServer);
        if session.is_one_server() && is_suspect && !is_slow {
            self.link.give_up(session, (failure.cause == Cause::Late).then(|| failure.error.to_string()));
        }
    }

    fn is_awaited(&self, operation: Operation) -> bool {
        self.link.section().durability.is_awaited() && operation.is_lasting()
    }

    /// Repeats the step until an attempt may have made it.
    async fn attempt(
        &self,
        mut step: Step,
        used: &Mutex<Option<Arc<ConnectionSet>>>,
    ) -> Result<Value, Failure> {
        for _ in 1..MAX_ATTEMPTS {
            match self.send(&step, used).await {
                Err(Failure { cause: Cause::UnknownScript, error }) => match step.with_code.take() {
                    Some(with_code) => step.command = with_code,
                    None => return Err(Failure { cause: Cause::Step, error }),
                },
                Err(Failure { cause: Cause::NotMade, .. }) => tokio::time::sleep(RETRY_PAUSE).await,
                answer => return answer,
            }
        }
        self.send(&step, used).await
    }

    async fn send(&self, step: &Step, used: &Mutex<Option<Arc<ConnectionSet>>>) -> Result<Value, Failure> {
        let session = self.link.session().await?;
        *used.lock() = Some(Arc::clone(&session));
        let durability = self.link.section().durability;
        let is_awaited = self.is_awaited(step.operation);
        let mut commands = Pipeline::new();
        commands.add_command(step.command.clone());
        if is_awaited {
            commands.add_command(durability.command());
        }
        let mut answers = session.send(&step.target, &commands, is_awaited).await?.into_iter();
        let answer = answers.next().ok_or_else(Failure::unexpected)?.extract_error()?;
        if is_awaited {
            let waited = answers.next().ok_or_else(Failure::unexpected)?.extract_error();
            if (step.has_written)(&answer) {
                durability.check(waited?)?;
            }
        }
        Ok(answer)
    }

    /// Returns the stamp of entry `number` if the last read ended there; empty if it did not.
    fn stamp_at(&self, number: u64) -> Bytes {
        let seen = self.log_seen.lock();
        if seen.0 == number { seen.1.clone() } else { Bytes::new() }
    }
}

impl section::Durability {
    /// The command that follows a write on the same connection.
    fn command(self) -> Cmd {
        let millis = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = redis::cmd(if self.fsync { "WAITAOF" } else { "WAIT" });
        if self.fsync {
            command.arg(1);
        }
        command.arg(self.replicas).arg(millis);
        command
    }

    /// Checks that the answer to [`Self::command`] counts enough servers.
    fn check(self, answer: Value) -> Result<(), Failure> {
        let parts = match answer {
            Value::Array(parts) if self.fsync => parts,
            count if !self.fsync => vec![count],
            _ => return Err(Failure::unexpected()),
        };
        // Not the conversion of the crate `redis`, which turns -1 into four billion.
        let count = |part: &Value| number(part).ok().and_then(|count| u32::try_from(count).ok());
        let counts: Vec<u32> =
            parts.iter().map(count).collect::<Option<_>>().ok_or_else(Failure::unexpected)?;
        let wanted: &[u32] = if self.fsync { &[1, self.replicas] } else { &[self.replicas] };
        if counts.len() != wanted.len() {
            return Err(Failure::unexpected());
        }
        if counts.iter().zip(wanted).all(|(count, wanted)| count >= wanted) {
            return Ok(());
        }
        // The error gives the master and its replicas as one number. An extra replica does not
        // replace the master.
        let acknowledged = counts.iter().zip(wanted).map(|(count, wanted)| count.min(wanted)).sum();
        let error = StoreError::NotReplicated { acknowledged, wanted: wanted.iter().sum() };
        Err(Failure { error, cause: Cause::Refused })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = self.link.section();
        f.debug_struct("Redis")
            .field("topology", &section.topology)
            .field("addresses", &section.addresses)
            .field("prefix", &section.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Redis {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let key = self.key(key);
        let mut command = redis::cmd("GET");
        command.arg(&key);
        row(self.make(self.command(Operation::Get, key, command)).await?)
    }

    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let key = self.key(key);
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(checked(&value)?).arg("PX").arg(millis(ttl));
        let step = Step { has_written: |_| true, ..self.command(Operation::Put, key, command) };
        match self.make(step).await? {
            Value::Okay => Ok(()),
            _ => Err(Failure::unexpected().error),
        }
    }

    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let key = self.key(key);
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(checked(&value)?).arg("PX").arg(millis(ttl)).arg("NX");
        let has_written = |answer: &Value| *answer != Value::Nil;
        let step = Step { has_written, ..self.command(Operation::PutIfAbsent, key, command) };
        match self.make(step).await? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(Failure::unexpected().error),
        }
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = millis(ttl).to_string();
        let arguments = [expected, checked(&value)?, ttl.as_bytes()];
        let script = &self.scripts.compare_and_set;
        let step = self.script(Operation::CompareAndSet, self.key(key), script, &arguments);
        yes_or_no(&self.make(Step { has_written: said_yes, ..step }).await?)
    }

    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError> {
        let script = &self.scripts.compare_and_delete;
        let step = self.script(Operation::CompareAndDelete, self.key(key), script, &[expected]);
        yes_or_no(&self.make(Step { has_written: said_yes, ..step }).await?)
    }

    async fn scan(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        self.scan_page(space, from, limit).await
    }

    async fn append(&self, entry: Bytes, ttl: Duration) -> Result<u64, StoreError> {
        let ttl = millis(ttl).to_string();
        let arguments = [checked(&entry)?, ttl.as_bytes(), self.log_channel.as_bytes()];
        let step = self.script(Operation::Append, self.log_key.clone(), &self.scripts.append, &arguments);
        number(&self.make(Step { has_written: |_| true, ..step }).await?)
    }

    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError> {
        let (from, most) = (after.to_string(), MAX_LOG_ENTRIES.to_string());
        let stamp = self.stamp_at(after);
        let arguments = [from.as_bytes(), most.as_bytes(), &stamp];
        let step =
            self.script(Operation::LogAfter, self.log_key.clone(), &self.scripts.log_after, &arguments);
        let (entries, seen) =
            log(self.make(step).await?, after).ok_or_else(|| Failure::unexpected().error)?;
        *self.log_seen.lock() = seen;
        Ok(entries)
    }

    async fn log_moved(&self) {
        self.listener.moved(&self.link).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Not `PING`: Redis answers it even to a user without rights, and even when a replica or
        // full memory refuses every write.
        let key = format!("{}:alive:2", self.log_key);
        let mut command = redis::cmd("SET");
        command.arg(&key).arg("").arg("PX").arg(millis(PING_LASTS));
        let step = Step { has_written: |_| true, ..self.command(Operation::Ping, key, command) };
        self.make(step).await.map(drop)
    }

    async fn has_older_peer(&self) -> Result<bool, StoreError> {
        // The key that the previous version writes every second.
        let key = format!("{}:alive", self.log_key);
        let mut command = redis::cmd("GET");
        command.arg(&key);
        Ok(row(self.make(self.command(Operation::Get, key, command)).await?)?.is_some())
    }

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        Some(self)
    }
}

#[async_trait]
impl SharedRates for Redis {
    async fn acquire(&self, bucket: &[u8; 16], rate: SharedRate) -> Result<Result<(), Duration>, StoreError> {
        // Whole microseconds, rounded up, so that the rate is never exceeded.
        let every = rate.every.as_nanos().div_ceil(1000).clamp(1, MAX_TTL_MILLIS).to_string();
        let burst = rate.burst.max(1).to_string();
        let arguments = [every.as_bytes(), burst.as_bytes()];
        let step = self.script(Operation::Acquire, self.name('b', bucket), &self.scripts.acquire, &arguments);
        let wait = number(&self.make(step).await?)?;
        Ok(if wait == 0 { Ok(()) } else { Err(Duration::from_micros(wait)) })
    }

    async fn reset(&self, bucket: &[u8; 16]) -> Result<(), StoreError> {
        let key = self.name('b', bucket);
        let mut command = redis::cmd("DEL");
        command.arg(&key);
        self.make(self.command(Operation::Acquire, key, command)).await.map(drop)
    }
}

fn checked(value: &Bytes) -> Result<&[u8], StoreError> {
    if value.len() > MAX_VALUE_BYTES { Err(StoreError::TooLong(value.len())) } else { Ok(value) }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis().clamp(1, MAX_TTL_MILLIS)).unwrap_or(1)
}

fn row(answer: Value) -> Result<Option<Bytes>, StoreError> {
    match answer {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        _ => Err(Failure::unexpected().error),
    }
}

fn number(answer: &Value) -> Result<u64, StoreError> {
    match answer {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Failure::unexpected().error),
        _ => Err(Failure::unexpected().error),
    }
}

fn said_yes(answer: &Value) -> bool {
    *answer == Value::Int(1)
}

fn yes_or_no(answer: &Value) -> Result<bool, StoreError> {
    match answer {
        Value::Int(1) => Ok(true),
        Value::Int(0) => Ok(false),
        _ => Err(Failure::unexpected().error),
    }
}

/// Parses the answer of the script that reads the log: the entries, and the number and stamp of the
/// last one. `None` if the answer is malformed.
fn log(answer: Value, after: u64) -> Option<(LogEntries, (u64, Bytes))> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    let last = number(&parts.next()?).ok()?;
    let stamp = row(parts.next()?).ok()??;
    let is_whole = yes_or_no(&parts.next()?).ok()?;
    let seen = (last, stamp);
    if !is_whole {
        return Some((LogEntries::Gap { last }, seen));
    }
    let rows = match parts.next() {
        None => Vec::new(),
        Some(Value::Array(rows)) => rows,
        Some(_) => return None,
    };
    let entry = |entry: Value| row(entry).ok().flatten().filter(|entry| entry.len() >= STAMPS_BYTES);
    let entries: Option<Vec<Bytes>> =
        rows.into_iter().map(|value| Some(entry(value)?.slice(STAMPS_BYTES..))).collect();
    let entries = entries.filter(|entries| u64::try_from(entries.len()).ok() == last.checked_sub(after))?;
    Some((LogEntries::All { entries, last }, seen))
}
