//! The access log: one line of JSON for each request, written behind the requests' back.
//!
//! A request's thread renders its line into a buffer and goes on; a thread of the log's own writes the buffer out
//! twenty times a second. A slow reader therefore never slows a request: when the buffer is full, lines are dropped
//! whole and counted. What a line says is [`Entry`]'s to define and the caller's to fill in.

mod line;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use crate::config::{self, AccessLogTarget, ByteSize, Findings};
pub use line::Entry;
use writer::{Queue, Sink};

/// Smallest buffer: one half must hold the longest line, see [`line::MAX_TEXT_BYTES`].
const MIN_BUFFER: ByteSize = ByteSize::mib(1);
/// Largest buffer: it is reserved at start, though used only when the target is slow.
const MAX_BUFFER: ByteSize = ByteSize::mib(1024);
/// Longest wait for the lines to be written, when somebody waits for them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The access log. Dropping it writes what is left.
#[derive(Debug)]
pub struct AccessLog {
    /// None when the log is off.
    writer: Option<Writer>,
}

impl AccessLog {
    /// Opens the target and starts the thread that writes; problems go to `findings`.
    pub fn open(
        config: &config::AccessLog,
        dropped_lines: IntCounter,
        findings: &mut Findings,
    ) -> Option<Self> {
        if !Self::check(config, findings) {
            return None;
        }
        let (file, path) = match (config.target, &config.file) {
            (AccessLogTarget::File, Some(path)) => (open_file(path), Some(path.clone())),
            (AccessLogTarget::Stdout, _) => (open_stdout(), None),
            (AccessLogTarget::Off | AccessLogTarget::File, _) => return Some(Self { writer: None }),
        };
        let started = file
            .and_then(|file| Writer::start(Box::new(file), path, config.buffer.as_usize(), dropped_lines))
            .map_err(|error| {
                let (key, name) = match &config.file {
                    Some(path) if config.target == AccessLogTarget::File => {
                        ("file", path.display().to_string())
                    }
                    _ => ("target", "stdout".into()),
                };
                findings.error(
                    format!("telemetry.access_log.{key}"),
                    format!("`{name}` cannot be written: {error}"),
                );
            });
        Some(Self { writer: Some(started.ok()?) })
    }

    /// Looks for what is wrong without touching the target, so that a check never makes a file.
    pub fn check(config: &config::AccessLog, findings: &mut Findings) -> bool {
        let mut sound = true;
        if !(MIN_BUFFER..=MAX_BUFFER).contains(&config.buffer) {
            findings
                .error("telemetry.access_log.buffer", format!("{} is no buffer for lines", config.buffer))
                .hint(format!("write `{MIN_BUFFER}` to `{MAX_BUFFER}`"));
            sound = false;
        }
        match (config.target, &config.file) {
            (AccessLogTarget::File, None) => {
                findings
                    .error("telemetry.access_log.file", "`target` is `file`, but no file is named")
                    .hint("write `file: access.log`, or `target: stdout`");
                sound = false;
            }
            (AccessLogTarget::Stdout | AccessLogTarget::Off, Some(path)) => {
                findings
                    .warning(
                        "telemetry.access_log.file",
                        format!("nothing is written to `{}`", path.display()),
                    )
                    .hint("write `target: file` to use it, or leave `file` out");
            }
            _ => {}
        }
        sound
    }

    /// Adds a line. Never waits for the target.
    pub fn write(&self, entry: &Entry<'_>) {
        if let Some(writer) = &self.writer {
            writer.queue.append(entry.longest(), |buffer| entry.render(buffer));
        }
    }

    /// Opens the file again before the next line is written: for whoever moved the old one away.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.queue.reopen();
        }
    }

    /// Waits until the lines added so far are written, two seconds at most. Blocks: not for a thread that serves.
    pub fn flush(&self) {
        if let Some(writer) = &self.writer {
            writer.queue.flush(FLUSH_TIMEOUT);
        }
    }
}

/// The thread that writes, and the buffer it takes lines from.
#[derive(Debug)]
struct Writer {
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(
        target: Box<dyn io::Write + Send>,
        path: Option<PathBuf>,
        buffer_bytes: usize,
        dropped_lines: IntCounter,
    ) -> io::Result<Self> {
        // Two halves: one is written while the other fills.
        let half = buffer_bytes / 2;
        let queue = Arc::new(Queue::new(half, dropped_lines.clone())?);
        let mut spare = writer::allocate(half)?;
        let mut sink = Sink::new(target, path, dropped_lines);
        let thread = thread::Builder::new().name("access-log".into()).spawn({
            let queue = Arc::clone(&queue);
            move || while queue.write_batch(&mut spare, &mut sink) {}
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A target nobody reads would hold the thread for ever; then it is left behind, with its lines.
        if self.queue.close(FLUSH_TIMEOUT)
            && let Some(thread) = self.thread.take()
        {
            _ = thread.join();
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // Client addresses are in it: readable for its owner and group only.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Standard output without the line buffer of [`io::stdout`], which would hide how much was written.
fn open_stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
