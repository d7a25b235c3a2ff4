//! The one thread that writes. It commits the waiting steps together and answers their callers
//! after the commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prometheus::Histogram;
use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::super::StoreError;
use super::fault::Fault;
use super::file;
use super::step::{self, Tables};
use crate::clock::Clock;
use crate::telemetry::panics;

/// Most steps in one transaction. Bounds how long the first step waits for the last.
const BATCH: usize = 1024;
/// Most ended rows removed in one transaction. Bounds how long a login waits for the removal.
const SWEEP: usize = 512;
/// How often the writer removes ended rows, and tries to open a failed file again.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// The open file, or why it is not open.
pub(super) type Opened = RwLock<Result<Arc<Database>, StoreError>>;

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
}

impl Writer {
    /// Runs until the queue is closed and every queued step is done.
    pub(super) fn run(self, queue: &Receiver<Box<dyn Job>>) {
        let mut tended = self.clock.instant();
        loop {
            match queue.recv_timeout(TEND_EVERY) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(queue.try_iter().take(BATCH - 1));
                    self.commit(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.tend(&mut tended),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.clock.instant().saturating_duration_since(tended) >= TEND_EVERY {
                self.tend(&mut tended);
            }
        }
        self.close(StoreError::Unavailable("the store is closed".into()));
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
            work(&mut Tables::open(&transaction, self.clock.now())?)?;
            Ok(transaction.commit()?)
        });
        drop(database);
        done.inspect_err(|error| self.fail(error.clone()))
    }

    fn fail(&self, error: StoreError) {
        tracing::error!("the session store failed: {error}");
        self.close(error);
    }

    fn close(&self, why: StoreError) {
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

/// Turns a panic into [`StoreError::Damaged`]: the file's bytes are input, and redb trusts many of
/// them.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, StoreError> {
    match panics::catch(work) {
        Ok(done) => done.map_err(Fault::into_store_error),
        Err(_) => Err(StoreError::Damaged("the file cannot be read".into())),
    }
}
