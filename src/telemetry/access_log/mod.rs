//! The access log: one line of JSON for each request, written by a thread of its own.
//!
//! `line_log` writes the lines without slowing a request. [`AccessLogEntry`] defines the fields,
//! and its callers fill them in.

mod line;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use prometheus::IntCounter;

use super::line_log::{self, LineLog, LogTraits, REQUESTS_LINGER};
use crate::config::{self, AccessLogTarget, Findings};
pub use line::AccessLogEntry;

const TRAITS: LogTraits = LogTraits { log: "access log", thread: "access-log", linger: REQUESTS_LINGER };

/// The access log. Dropping it writes what is left.
#[derive(Debug)]
pub struct AccessLog {
    /// `None` if the log is off.
    writer: Option<LineLog>,
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
            (AccessLogTarget::File, Some(path)) => (line_log::open_file(path), Some(path.to_path_buf())),
            (AccessLogTarget::Stdout, _) => (open_stdout(), None),
            (AccessLogTarget::Off | AccessLogTarget::File, _) => return Some(Self { writer: None }),
        };
        let started = file
            .and_then(|file| {
                LineLog::start(TRAITS, Box::new(file), path, config.buffer.as_usize(), dropped_lines)
            })
            .map_err(|error| {
                let (key, name) = match &config.file {
                    Some(path) if config.target == AccessLogTarget::File => {
                        ("file", path.display().to_string())
                    }
                    _ => ("target", "stdout".into()),
                };
                findings
                    .error(
                        format!("telemetry.access_log.{key}"),
                        format!("`{name}` cannot be written: {error}"),
                    )
                    .of_surroundings();
            });
        Some(Self { writer: Some(started.ok()?) })
    }

    /// Checks the configuration without opening the target, so that a check never creates a file.
    pub fn check(config: &config::AccessLog, findings: &mut Findings) -> bool {
        let mut sound = line_log::check_buffer(config.buffer, "telemetry.access_log.buffer", findings);
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
    pub fn write(&self, entry: &AccessLogEntry<'_>) {
        if let Some(writer) = &self.writer {
            writer.append(entry.longest(), |buffer| entry.render(buffer));
        }
    }

    /// Opens the file again before the next line is written, for an operator who has rotated the
    /// log.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.reopen();
        }
    }

    /// Waits until the lines added so far are written, two seconds at most. It blocks, so a thread
    /// that serves requests must not call it.
    pub fn flush(&self) {
        if let Some(writer) = &self.writer {
            writer.flush();
        }
    }
}

/// Standard output without the line buffer of [`io::stdout`], which hides how much was written.
fn open_stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
