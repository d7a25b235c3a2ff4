//! A log of lines, written by a thread of its own.
//!
//! A request's thread renders its line into a buffer and continues; the log's own thread writes the
//! buffer out twenty times a second. A slow reader therefore never slows a request: if the buffer
//! is full, whole lines are dropped and counted.

mod line;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use crate::config::{ByteSize, Findings};
#[cfg(test)]
pub(super) use line::MAX_TEXT_BYTES;
pub(super) use line::{Line, key, longest};
pub(super) use writer::{Queue, Sink};

/// Smallest buffer: one half must hold the longest line, see [`line::MAX_TEXT_BYTES`].
pub(super) const MIN_BUFFER: ByteSize = ByteSize::mib(1);
/// Largest buffer: it is reserved at start, but used only if the target is slow.
const MAX_BUFFER: ByteSize = ByteSize::mib(1024);
/// Longest wait for the lines to be written, on a flush or at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the lines of a log of requests may wait for more, so that many are one write.
pub(super) const REQUESTS_LINGER: Duration = Duration::from_millis(50);

/// The names of a log, and how long its lines may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogTraits {
    /// The name in messages, after an article.
    pub(super) log: &'static str,
    /// The name of its thread.
    pub(super) thread: &'static str,
    /// How long a line may wait for more.
    pub(super) linger: Duration,
}

/// The thread that writes, and the buffer it takes lines from. Dropping it writes what is left.
#[derive(Debug)]
pub(super) struct LineLog {
    pub(super) queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LineLog {
    pub(super) fn start(
        traits: LogTraits,
        target: Box<dyn io::Write + Send>,
        path: Option<PathBuf>,
        buffer_bytes: usize,
        dropped_lines: IntCounter,
    ) -> io::Result<Self> {
        // Two halves: one is written while the other fills.
        let half = buffer_bytes / 2;
        let queue = Arc::new(Queue::new(half, traits.linger, dropped_lines.clone())?);
        let mut spare = writer::allocate(half)?;
        let mut sink = Sink::new(traits.log, target, path, dropped_lines);
        let thread = thread::Builder::new().name(traits.thread.into()).spawn({
            let queue = Arc::clone(&queue);
            move || while queue.write_batch(&mut spare, &mut sink) {}
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Lets `render` append a line of at most `longest` bytes. Never waits for the target.
    pub(super) fn append(&self, longest: usize, render: impl FnOnce(&mut Vec<u8>)) {
        self.queue.append(longest, render);
    }

    /// Opens the file again before the next line is written.
    pub(super) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until the lines added so far are written, two seconds at most.
    pub(super) fn flush(&self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

impl Drop for LineLog {
    fn drop(&mut self) {
        // If the target is never read, the thread blocks forever; it is then abandoned with its
        // lines.
        if self.queue.close(FLUSH_TIMEOUT)
            && let Some(thread) = self.thread.take()
        {
            _ = thread.join();
        }
    }
}

/// Whether a buffer is large enough for the longest line, and not too large.
pub(super) fn check_buffer(buffer: ByteSize, key: &str, findings: &mut Findings) -> bool {
    let is_sound = (MIN_BUFFER..=MAX_BUFFER).contains(&buffer);
    if !is_sound {
        findings
            .error(key, format!("{buffer} is not a size for the buffer"))
            .hint(format!("write `{MIN_BUFFER}` to `{MAX_BUFFER}`"));
    }
    is_sound
}

pub(super) fn open_file(path: &Path) -> io::Result<File> {
    // The file holds client addresses, so only its owner and group may read it.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
