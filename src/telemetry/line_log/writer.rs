//! The buffer between the requests and the target, and the thread that writes it out.

use std::io::{self, ErrorKind};
use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing::{info, warn};

use super::open_file;

/// How many bytes are written without waiting for more.
const ENOUGH: usize = 256 * 1024;
/// How long the thread waits if the target would block.
const BLOCKED_PAUSE: Duration = Duration::from_millis(5);

/// Reserves memory for `bytes` bytes once; the system provides pages only as they are used.
pub(super) fn allocate(bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).map_err(|error| io::Error::new(ErrorKind::OutOfMemory, error))?;
    Ok(buffer)
}

/// Lines that wait for the thread that writes.
#[derive(Debug)]
pub(in crate::telemetry) struct Queue {
    state: Mutex<QueueState>,
    /// Signalled when the thread that writes has something to do.
    work: Condvar,
    /// Signalled when a batch was written.
    written: Condvar,
    linger: Duration,
    dropped_lines: IntCounter,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Never grows beyond the capacity it was made with.
    lines: Vec<u8>,
    is_urgent: bool,
    is_reopening: bool,
    is_closing: bool,
    is_closed: bool,
    batches_taken: u64,
    batches_written: u64,
}

impl QueueState {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && !self.is_hurried()
    }

    fn is_hurried(&self) -> bool {
        self.is_urgent || self.is_reopening || self.is_closing
    }
}

impl Queue {
    pub(super) fn new(bytes: usize, linger: Duration, dropped_lines: IntCounter) -> io::Result<Self> {
        let state = QueueState { lines: allocate(bytes)?, ..QueueState::default() };
        let (state, work, written) = (Mutex::new(state), Condvar::new(), Condvar::new());
        Ok(Self { state, work, written, linger, dropped_lines })
    }

    /// Lets `render` append a line of at most `longest` bytes, or counts it as dropped.
    ///
    /// The first line after a batch wakes the thread that writes, and so does a full batch; other
    /// lines do not.
    pub(in crate::telemetry) fn append(&self, longest: usize, render: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let before = state.lines.len();
        if state.lines.capacity() - before < longest {
            drop(state);
            self.dropped_lines.inc();
            return;
        }
        render(&mut state.lines);
        let after = state.lines.len();
        drop(state);
        if before == 0 || (before < ENOUGH && after >= ENOUGH) {
            self.work.notify_one();
        }
    }

    pub(super) fn reopen(&self) {
        self.state.lock().is_reopening = true;
        self.work.notify_one();
    }

    /// Waits until the lines appended so far are written.
    pub(in crate::telemetry) fn flush(&self, timeout: Duration) {
        let mut state = self.state.lock();
        let last = state.batches_taken + u64::from(!state.lines.is_empty());
        state.is_urgent = true;
        self.work.notify_one();
        self.written.wait_while_for(&mut state, |state| state.batches_written < last, timeout);
    }

    /// Stops the thread after it has written the rest, and returns whether that is done.
    pub(in crate::telemetry) fn close(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        state.is_closing = true;
        self.work.notify_one();
        self.written.wait_while_for(&mut state, |state| !state.is_closed, timeout);
        state.is_closed
    }

    /// Waits for lines, writes them to `sink`, and returns whether to continue. `spare` is the
    /// other half of the buffer.
    pub(super) fn write_batch(&self, spare: &mut Vec<u8>, sink: &mut Sink) -> bool {
        let mut state = self.state.lock();
        self.work.wait_while(&mut state, |state| state.is_idle());
        self.work.wait_while_for(
            &mut state,
            |state| state.lines.len() < ENOUGH && !state.is_hurried(),
            self.linger,
        );
        mem::swap(&mut state.lines, spare);
        state.is_urgent = false;
        state.batches_taken += 1;
        let is_reopening = mem::take(&mut state.is_reopening);
        let is_last = state.is_closing;
        drop(state);

        if is_reopening {
            sink.reopen();
        }
        sink.write(spare);
        spare.clear();

        let mut state = self.state.lock();
        state.batches_written = state.batches_taken;
        state.is_closed = is_last;
        self.written.notify_all();
        !is_last
    }
}

/// The target of the lines, and the state of its failures.
pub(in crate::telemetry) struct Sink {
    /// The log's name.
    name: &'static str,
    target: Box<dyn io::Write + Send>,
    path: Option<PathBuf>,
    dropped_lines: IntCounter,
    /// How many lines were dropped when the last batch was written, and how many were reported.
    dropped_before: u64,
    dropped_reported: u64,
    /// Whether the last batch failed, so that a failure is logged once and not for each batch.
    is_failing: bool,
    /// Whether the target ends in part of a line.
    is_torn: bool,
}

impl Sink {
    pub(in crate::telemetry) fn new(
        name: &'static str,
        target: Box<dyn io::Write + Send>,
        path: Option<PathBuf>,
        dropped_lines: IntCounter,
    ) -> Self {
        let dropped_before = dropped_lines.get();
        Self {
            name,
            target,
            path,
            dropped_lines,
            dropped_before,
            dropped_reported: dropped_before,
            is_failing: false,
            is_torn: false,
        }
    }

    /// Opens the file again; keeps the open file if that fails.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        let name = self.name;
        match open_file(path) {
            Ok(file) => {
                self.target = Box::new(file);
                self.is_torn = false;
                info!(file.path = %path.display(), "opened {name} {} again", path.display());
            }
            Err(error) => {
                warn!(file.path = %path.display(), "{name} {} was not opened again: {error}", path.display());
            }
        }
    }

    /// Writes the lines. Lines that fail are counted as dropped; the next batch is tried as usual.
    pub(in crate::telemetry) fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        // A part of a line that a failure left must not corrupt the next line.
        if self.is_torn
            && let Err((_, error)) = self.put(b"\n")
        {
            return self.fail(lines, &error);
        }
        self.is_torn = false;
        match self.put(lines) {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                info!("the {} is written again", self.name);
            }
            Ok(()) => self.report_dropped(),
            Err((rest, error)) => {
                let written = lines.get(..lines.len() - rest.len());
                self.is_torn = written.and_then(<[u8]>::last).is_some_and(|byte| *byte != b'\n');
                self.fail(rest, &error);
            }
        }
    }

    /// Reports how many lines were dropped, once no more are.
    fn report_dropped(&mut self) {
        let dropped = self.dropped_lines.get();
        let lines = dropped.saturating_sub(self.dropped_reported);
        if lines > 0 && dropped == self.dropped_before {
            self.dropped_reported = dropped;
            warn!("{lines} lines of the {} were dropped: it was not written fast enough", self.name);
        }
        self.dropped_before = dropped;
    }

    /// Writes all bytes, or returns what is left and why.
    fn put<'b>(&mut self, mut bytes: &'b [u8]) -> Result<(), (&'b [u8], io::Error)> {
        while !bytes.is_empty() {
            match self.target.write(bytes) {
                Ok(0) => return Err((bytes, ErrorKind::WriteZero.into())),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The parent process made this pipe non-blocking; only the log's own thread waits.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(BLOCKED_PAUSE),
                Err(error) => return Err((bytes, error)),
            }
        }
        Ok(())
    }

    fn fail(&mut self, lost: &[u8], error: &io::Error) {
        let lines = lost.iter().filter(|byte| **byte == b'\n').count();
        self.dropped_lines.inc_by(lines as u64);
        if !self.is_failing {
            self.is_failing = true;
            warn!("the {} cannot be written, lines are dropped until it can: {error}", self.name);
        }
    }
}
