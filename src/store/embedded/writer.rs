//! The one thread that writes. It commits the waiting steps together and answers their callers
//! after the commit.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use prometheus::Histogram;
use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::super::StoreError;
use super::compaction::Compaction;
use super::fault::Fault;
use super::file::{self, FileError};
use super::step::{self, Changes, Tables};
use crate::clock::Clock;
use crate::telemetry::panics;

/// Most steps in one transaction. Bounds how long the first step waits for the last.
const BATCH: usize = 1024;
/// Most ended rows removed in one transaction. Bounds how long a login waits for the removal.
const SWEEP: usize = 512;
/// Smallest file that is compacted by itself.
const LEAST_COMPACTED: u64 = 16 * 1024 * 1024;
/// After a compaction, how many times its duration must pass before the next.
const RESTS_FOR: u32 = 4;
/// Counts as the duration of a compaction that failed, for example because the disk is full.
const FAILED_REST: Duration = Duration::from_secs(15);
/// How often the writer removes ended rows, and tries to open a failed file again.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// The open file, or why it is not open.
pub(super) type Opened = RwLock<Result<Arc<Database>, StoreError>>;

/// Callers that wait until the file has given room back.
pub(super) type Reclaims = Mutex<Vec<oneshot::Sender<Result<(), StoreError>>>>;

/// A step on its way through the writer.
pub(super) trait Job: Send {
    /// Makes the step in a transaction that can still fail.
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;

    /// Sends the result to the caller.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A step, and the channel to the caller that waits for its result.
pub(super) struct Pending<F, T> {
    step: Option<F>,
    outcome: Result<T, StoreError>,
    waiting: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Pending<F, T> {
    pub(super) fn new(step: F, waiting: oneshot::Sender<Result<T, StoreError>>) -> Self {
        let outcome = Err(StoreError::Unavailable("the step was not made".into()));
        Self { step: Some(step), outcome, waiting }
    }
}

impl<F, T> Job for Pending<F, T>
where
    F: FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send,
    T: Send,
{
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let Some(step) = self.step.take() else { return Ok(()) };
        self.outcome = match step(tables) {
            Ok(value) => Ok(value),
            // The step found this before it changed the row, so the other steps of the transaction
            // continue.
            Err(fault @ Fault::Row(_)) => Err(fault.into_store_error()),
            Err(fault) => return Err(fault),
        };
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        // The caller may have stopped waiting. The step is made anyway.
        let _ = self.waiting.send(committed.and(self.outcome));
    }
}

/// The thread's own data.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) cache_bytes: usize,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) opened: Arc<Opened>,
    pub(super) commit_duration: Histogram,
    pub(super) reclaims: Arc<Reclaims>,
    pub(super) compacting: RefCell<Option<Compacting>>,
    /// How many bytes of rows are gone since the last compaction.
    pub(super) removed_bytes: Cell<u64>,
    /// Whether a caller wants bytes to be gone, and the last compaction failed: they must be gone
    /// also if no caller asks again.
    pub(super) owes_compaction: Cell<bool>,
    /// When the next compaction may begin.
    pub(super) rests_until: Cell<Option<Instant>>,
}

/// A compaction under way.
pub(super) struct Compacting {
    compaction: Compaction,
    began: Instant,
    size_before: u64,
    /// Who waited when it began. Rows that are removed later may have been copied.
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Writer {
    /// Runs until the queue is closed and every queued step is done.
    pub(super) fn run(self, queue: &Receiver<Box<dyn Job>>) {
        let mut tended = self.clock.instant();
        loop {
            let wait = if self.compacting.borrow().is_some() { Duration::ZERO } else { TEND_EVERY };
            match queue.recv_timeout(wait) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(queue.try_iter().take(BATCH - 1));
                    self.commit(batch);
                }
                Err(RecvTimeoutError::Timeout) if wait.is_zero() => {}
                Err(RecvTimeoutError::Timeout) => self.tend(&mut tended),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.compact();
            if self.clock.instant().saturating_duration_since(tended) >= TEND_EVERY {
                self.tend(&mut tended);
            }
        }
        self.close(StoreError::Unavailable("the store is closed".into()));
    }

    /// Begins a compaction if one is due, or goes on with the one that is under way. Each call
    /// takes about as long as a commit.
    fn compact(&self) {
        let database = self.opened.read().clone();
        let Ok(database) = database else { return };
        let Some(mut compacting) = self.compacting.take() else { return self.begin_compaction() };
        let now = self.clock.now();
        match guarded(|| compacting.compaction.copy_piece(&database, now)) {
            Ok(false) => *self.compacting.borrow_mut() = Some(compacting),
            Ok(true) => {
                drop(database);
                self.replace(compacting);
            }
            Err(error) => {
                self.rest(FAILED_REST);
                tracing::warn!("the session store could not be compacted: {error}");
                answer_all(compacting.waiting, &Err(error));
            }
        }
    }

    fn begin_compaction(&self) {
        let is_resting = self.rests_until.get().is_some_and(|end| self.clock.instant() < end);
        let is_wasteful = || {
            let size = size_of(&self.path);
            size >= LEAST_COMPACTED && self.removed_bytes.get() > size / 2
        };
        let is_asked_for = !self.reclaims.lock().is_empty() || self.owes_compaction.get();
        if is_resting || !(is_asked_for || is_wasteful()) {
            return;
        }
        let waiting = std::mem::take(&mut *self.reclaims.lock());
        self.owes_compaction.set(is_asked_for);
        self.removed_bytes.set(0);
        let (began, size_before) = (self.clock.instant(), size_of(&self.path));
        match guarded_open(|| Compaction::begin(&self.path, self.cache_bytes)) {
            Ok(compaction) => {
                *self.compacting.borrow_mut() = Some(Compacting { compaction, began, size_before, waiting });
            }
            Err(error) => {
                self.rest(FAILED_REST);
                tracing::warn!("the session store could not be compacted: {error}");
                answer_all(waiting, &Err(error));
            }
        }
    }

    /// Lets the copy take the place of the file.
    fn replace(&self, compacting: Compacting) {
        let Compacting { compaction, began, size_before, waiting } = compacting;
        let took = self.clock.instant().saturating_duration_since(began);
        self.rest(took);
        match guarded_open(|| compaction.finish()) {
            Ok(database) => {
                self.owes_compaction.set(false);
                let before = std::mem::replace(&mut *self.opened.write(), Ok(Arc::new(database)));
                // Closing writes the old file once more, and no step needs to wait for that.
                std::thread::spawn(move || _ = panics::catch(|| drop(before)));
                tracing::info!(
                    duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    "compacted {}: {} bytes, {size_before} before",
                    self.path.display(),
                    size_of(&self.path)
                );
                answer_all(waiting, &Ok(()));
            }
            Err(error) => {
                answer_all(waiting, &Err(error.clone()));
                // The copy may have the path already. The file that has it is opened again.
                self.fail(error);
            }
        }
    }

    /// Lets no compaction begin for a while: copying takes part of the disk's time.
    fn rest(&self, took: Duration) {
        self.rests_until.set(self.clock.instant().checked_add(took.saturating_mul(RESTS_FOR)));
    }

    fn commit(&self, mut batch: Vec<Box<dyn Job>>) {
        let began = self.clock.instant();
        let committed = self.transact(|tables| batch.iter_mut().try_for_each(|job| job.apply(tables)));
        self.commit_duration.observe(self.clock.instant().saturating_duration_since(began).as_secs_f64());
        for job in batch {
            job.answer(committed.clone());
        }
    }

    /// Removes some ended rows, or opens the file again if it failed.
    fn tend(&self, tended: &mut Instant) {
        let database = self.opened.read().clone();
        match database {
            Ok(database) => {
                let now = self.clock.now();
                let has_ended = guarded(|| step::has_ended(&database, now));
                drop(database);
                match has_ended {
                    Ok(false) => *tended = self.clock.instant(),
                    // A full removal means that there are more ended rows. `tended` stays, so that
                    // the next removal follows the next batch of steps.
                    Ok(true) => match self.sweep() {
                        Ok(removed) if removed == SWEEP => {}
                        _ => *tended = self.clock.instant(),
                    },
                    Err(error) => {
                        self.fail(error);
                        *tended = self.clock.instant();
                    }
                }
            }
            Err(_) => {
                self.reopen();
                *tended = self.clock.instant();
            }
        }
    }

    fn sweep(&self) -> Result<usize, StoreError> {
        let mut removed = 0;
        self.transact(|tables| {
            removed = tables.sweep(SWEEP)?;
            Ok(())
        })?;
        Ok(removed)
    }

    /// Runs `work` in one transaction, which is on disk when this returns. After a failure the
    /// state of the file is unknown: the writer closes it, and opens it again as after a crash.
    fn transact(&self, work: impl FnOnce(&mut Tables<'_>) -> Result<(), Fault>) -> Result<(), StoreError> {
        let database = self.opened.read().clone()?;
        let done = guarded(|| {
            let mut transaction = database.begin_write()?;
            transaction
                .set_durability(Durability::Immediate)
                .map_err(|error| Fault::Storage(error.into()))?;
            let mut tables = Tables::open(&transaction, self.clock.now())?;
            work(&mut tables)?;
            let changes = tables.into_changes();
            transaction.commit()?;
            Ok(changes)
        });
        drop(database);
        let Changes { names, removed_bytes } = done.inspect_err(|error| self.fail(error.clone()))?;
        self.removed_bytes.set(self.removed_bytes.get().saturating_add(removed_bytes));
        if let Some(compacting) = &mut *self.compacting.borrow_mut() {
            compacting.compaction.note(names);
        }
        Ok(())
    }

    fn fail(&self, error: StoreError) {
        tracing::error!("the session store failed: {error}");
        self.close(error);
    }

    fn close(&self, why: StoreError) {
        if let Some(compacting) = self.compacting.take() {
            answer_all(compacting.waiting, &Err(why.clone()));
        }
        let closed = std::mem::replace(&mut *self.opened.write(), Err(why));
        // Closing reads and writes the file, and redb can panic on a damaged file.
        let _ = panics::catch(|| drop(closed));
    }

    fn reopen(&self) {
        match file::open_existing(&self.path, self.cache_bytes, &*self.clock) {
            Ok(database) => {
                *self.opened.write() = Ok(Arc::new(database));
                tracing::info!("the session store is open again");
            }
            Err(error) => tracing::error!("the session store stays closed: {error}"),
        }
    }
}

fn answer_all(waiting: Vec<oneshot::Sender<Result<(), StoreError>>>, outcome: &Result<(), StoreError>) {
    for waiting in waiting {
        // The caller may have stopped waiting.
        let _ = waiting.send(outcome.clone());
    }
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// As [`guarded`], for what opens files.
fn guarded_open<T>(open: impl FnOnce() -> Result<T, FileError>) -> Result<T, StoreError> {
    guarded(|| Ok(open()))?.map_err(|error| StoreError::Unavailable(error.to_string().into()))
}

/// Turns a panic into [`StoreError::Damaged`]: the file's bytes are input, and redb trusts many of
/// them.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, StoreError> {
    match panics::catch(work) {
        Ok(done) => done.map_err(Fault::into_store_error),
        Err(_) => Err(StoreError::Damaged("the file cannot be read".into())),
    }
}
