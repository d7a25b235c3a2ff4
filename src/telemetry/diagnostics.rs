//! Diagnostics on standard error: which events are written, in which format, and by whom.
//!
//! A thread of their own writes them. If the reader of standard error stalls, whole events are
//! dropped and counted, and no request waits.
//!
//! The access log is separate and does not use `tracing`.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus::IntCounter;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::line_log::{LineLog, LogTraits, Queue};
use super::panics;
use crate::config::{self, Findings, LogFormat};

/// Pingora logs each failed connection as an error, but the gateway already logs and counts each
/// failure once. Only Pingora logs the takeover of listeners and the shutdown, so those events
/// stay. All its targets start with `pingora`, so an operator's `pingora=info` overrides the first
/// directive.
const DEFAULT_DIRECTIVES: &str = "pingora=off,pingora_core::server=error";

/// The levels that an operator may write, for suggestions.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A line is written at once: a process that ends by itself must have said why.
const TRAITS: LogTraits = LogTraits { log: "diagnostic log", thread: "diagnostics", linger: Duration::ZERO };

/// Most memory for events that are not written yet, in bytes.
const BUFFER: usize = 2 * 1024 * 1024;

/// Events dropped because standard error was too slow or failed. There is one standard error for
/// all gateways of a process.
static DROPPED_LINES: LazyLock<Option<IntCounter>> = LazyLock::new(|| {
    let help =
        "Total number of diagnostic events dropped: the reader of standard error was too slow or gone.";
    IntCounter::new("menshen_diagnostics_dropped_lines_total", help).ok()
});

/// Diagnostics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// `telemetry.log.level` is not a filter.
    #[error("{0}")]
    InvalidFilter(String),
    /// `tracing` or `log` is already set up in this process.
    #[error("diagnostics are installed already: {0}")]
    AlreadyInstalled(#[from] tracing_subscriber::util::TryInitError),
    /// The thread that writes could not be started.
    #[error("cannot write diagnostics: {0}")]
    Io(#[from] io::Error),
}

/// The thread that writes diagnostics. Dropping it writes what is left, for two seconds at most.
#[derive(Debug)]
#[must_use = "diagnostics are written as long as this lives"]
pub struct Diagnostics {
    lines: LineLog,
}

impl Diagnostics {
    /// Writes a last line, which is no event, and all events before it, for two seconds at most.
    pub fn end_with(self, text: &str) {
        append(&self.lines.queue, format!("{text}\n").as_bytes());
    }
}

/// Sends the events of this process, including those of `log` and the messages of panics, to
/// standard error. It works once in a process.
///
/// # Errors
/// [`InstallError::InvalidFilter`] if [`check`] reports a problem,
/// [`InstallError::AlreadyInstalled`] the second time, [`InstallError::Io`] without a thread.
pub fn install(config: &config::Log) -> Result<Diagnostics, InstallError> {
    let has_color = io::stderr().is_terminal() && allows_color(|name| env::var(name).ok());
    // Without the lock and the panics of `io::stderr`.
    let target = io::stderr().as_fd().try_clone_to_owned().map(File::from)?;
    let lines = LineLog::start(TRAITS, Box::new(target), None, BUFFER, dropped_lines()?)?;
    let queue = Arc::clone(&lines.queue);
    subscriber(config, has_color, move || QueueWriter(Arc::clone(&queue)))?.try_init()?;
    panics::send_to_diagnostics();
    Ok(Diagnostics { lines })
}

/// Counts the dropped events of this process.
pub(super) fn dropped_lines() -> io::Result<IntCounter> {
    DROPPED_LINES.clone().ok_or_else(|| io::Error::other("the counter of dropped events has no valid name"))
}

/// Adds what `tracing` writes in one call, which is one event, to the queue.
struct QueueWriter(Arc<Queue>);

impl io::Write for QueueWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        append(&self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(queue: &Queue, bytes: &[u8]) {
    queue.append(bytes.len(), |buffer| buffer.extend_from_slice(bytes));
}

/// Checks the configuration.
pub fn check(config: &config::Log, findings: &mut Findings) -> bool {
    let Err(Invalid { reason, word }) = filter(&config.level) else { return true };
    let finding = findings.error("telemetry.log.level", reason);
    match word {
        Some(word) => finding.did_you_mean(&word, LEVELS),
        None => finding.hint("write a level, or a filter such as `info,menshen::wechat=debug`"),
    };
    false
}

fn subscriber<W>(
    config: &config::Log,
    has_color: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, InstallError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(&config.level).map_err(|invalid| InstallError::InvalidFilter(invalid.reason))?;
    // Without this, if standard error is closed, the layer prints an error to it, which panics.
    let layer = fmt::layer().with_writer(writer).log_internal_errors(false);
    let layer = match config.format {
        LogFormat::Text => layer.with_ansi(has_color).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(filter).with(FilterFn::new(is_discreet)).with(layer))
}

/// Whether an event is of a kind that holds no secrets. Pingora writes whole request headers at
/// `debug`, with tokens and cookies, and no filter of an operator may bring those into a log.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("pingora") || *metadata.level() <= Level::INFO
}

/// See <https://no-color.org>.
fn allows_color(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && variable("TERM").as_deref() != Some("dumb")
}

struct Invalid {
    reason: String,
    /// The word that is not a level, to suggest one.
    word: Option<String>,
}

fn filter(level: &str) -> Result<EnvFilter, Invalid> {
    for directive in level.split(',') {
        // `tracing` reads any other single word as the name of a module: `inof` would silence all
        // other modules.
        let directive = directive.trim();
        let is_word = !directive.contains(['=', '[', ']', '{', '}', '"']);
        if is_word && (directive.is_empty() || directive.parse::<LevelFilter>().is_err()) {
            let reason = format!("`{directive}` is not a level");
            return Err(Invalid { reason, word: Some(directive.to_owned()) });
        }
    }
    let is_off = level.trim().parse::<LevelFilter>().is_ok_and(|level| level == LevelFilter::OFF);
    let directives = if is_off { "off".to_owned() } else { format!("{DEFAULT_DIRECTIVES},{level}") };
    EnvFilter::builder()
        .with_regex(false)
        .parse(directives)
        .map_err(|error| Invalid { reason: format!("`{level}` is not a filter: {error}"), word: None })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{debug, error, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Capture(Arc<Mutex<Vec<u8>>>);

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(level: &str, format: LogFormat) -> config::Log {
        config::Log { level: level.into(), format }
    }

    fn captured(config: &config::Log, has_color: bool, events: impl FnOnce()) -> String {
        let capture = Capture::default();
        let writer = capture.clone();
        let subscriber = subscriber(config, has_color, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(capture.0.lock().clone()).unwrap()
    }

    fn levels_seen(level: &str) -> Vec<String> {
        let text = captured(&config(level, LogFormat::Json), false, || {
            debug!("own debug");
            info!("own info");
            warn!(target: "menshen::wechat", "wechat warn");
            debug!(target: "menshen::wechat", "wechat debug");
            error!(target: "pingora_core::protocols", "connection error");
            error!(target: "pingora_proxy", "proxy error");
            error!(target: "pingora_core::server", "server error");
            info!(target: "pingora_core::server", "server info");
            error!(target: "hyper", "hyper error");
        });
        let message =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone();
        text.lines().map(|line| message(line).as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn operator_sets_the_filter_and_pingora_is_quiet_unless_named() {
        let quiet = ["own info", "wechat warn", "server error", "hyper error"];
        for (level, expected) in [
            ("info", &quiet[..]),
            ("INFO", &quiet[..]),
            ("warn", &["wechat warn", "server error", "hyper error"]),
            ("off", &[]),
            (
                "info,menshen::wechat=debug",
                &["own info", "wechat warn", "wechat debug", "server error", "hyper error"],
            ),
            ("warn,menshen::wechat=off", &["server error", "hyper error"]),
            ("error,pingora_proxy=error", &["proxy error", "server error", "hyper error"]),
            ("error,pingora=error", &["connection error", "proxy error", "server error", "hyper error"]),
            ("error,pingora_core::server=info", &["server error", "server info", "hyper error"]),
            ("menshen=warn", &["wechat warn", "server error"]),
        ] {
            assert_eq!(levels_seen(level), expected, "{level}");
        }
    }

    #[test]
    fn no_filter_brings_pingoras_headers_into_the_log() {
        for level in ["trace", "pingora=trace", "trace,pingora=debug,pingora_proxy=trace,pingora_core=debug"]
        {
            let text = captured(&config(level, LogFormat::Text), false, || {
                debug!(target: "pingora_proxy::proxy_h1", "Sending header to upstream: secret");
                tracing::trace!(target: "pingora_proxy", "Request header: secret");
                debug!(target: "pingora_core::protocols::http", "secret");
            });

            assert_eq!(text, "", "{level}");
        }
    }

    #[test]
    fn json_lines_name_level_target_and_fields() {
        let text = captured(&config("info", LogFormat::Json), true, || info!(provider.name = "shop", "said"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();

        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "menshen::telemetry::diagnostics::tests");
        assert_eq!(line["provider.name"], "shop");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
    }

    #[test]
    fn text_has_color_only_if_allowed() {
        let config = config("info", LogFormat::Text);

        assert!(!captured(&config, false, || info!("said")).contains('\u{1b}'));
        assert!(captured(&config, true, || info!("said")).contains('\u{1b}'));
    }

    /// Takes what is written only once it is allowed to.
    struct Stalled(Arc<Target>);

    #[derive(Default)]
    struct Target {
        /// Whether it is read, and what was written.
        state: Mutex<(bool, Vec<u8>)>,
        changed: parking_lot::Condvar,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.state.lock();
            self.0.changed.wait_while(&mut state, |(is_read, _)| !*is_read);
            state.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_whole_events_and_each_is_counted() {
        let target = Arc::<Target>::default();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let target_of_log = Box::new(Stalled(Arc::clone(&target)));
        let lines = LineLog::start(TRAITS, target_of_log, None, 64 * 1024, dropped.clone()).unwrap();
        let queue = Arc::clone(&lines.queue);
        let writer = move || QueueWriter(Arc::clone(&queue));
        let subscriber = subscriber(&config("info", LogFormat::Text), false, writer).unwrap();

        tracing::subscriber::with_default(subscriber, || {
            for number in 0..10_000 {
                info!("event {number}");
            }
            target.state.lock().0 = true;
            target.changed.notify_all();
            lines.flush();
            info!("the last event");
        });
        Diagnostics { lines }.end_with("menshen: the end");

        let text = String::from_utf8(target.state.lock().1.clone()).unwrap();
        let written = text.lines().filter(|line| line.contains(" event ")).count() as u64;
        assert!(dropped.get() > 1000 && written > 100, "{} {written}", dropped.get());
        assert_eq!(written + dropped.get(), 10_000);
        assert!(text.lines().all(|line| line.contains("event") || line == "menshen: the end"), "{text}");
        assert!(text.ends_with("the last event\nmenshen: the end\n"), "{text}");
    }

    #[test]
    fn environment_can_turn_color_off() {
        for (variables, allowed) in [
            (&[][..], true),
            (&[("TERM", "xterm")], true),
            (&[("NO_COLOR", "1")], false),
            (&[("NO_COLOR", "")], true),
            (&[("TERM", "dumb")], false),
        ] {
            let lookup = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(allows_color(lookup), allowed, "{variables:?}");
        }
    }

    #[test]
    fn invalid_filter_is_reported() {
        for (level, expected) in [
            ("inof", "telemetry.log.level: `inof` is not a level; did you mean `info`?"),
            (
                "",
                "telemetry.log.level: `` is not a level; write one of: error, warn, info, debug, trace, off",
            ),
            (
                "info,",
                "telemetry.log.level: `` is not a level; write one of: error, warn, info, debug, trace, off",
            ),
            (
                "info,menshen",
                "telemetry.log.level: `menshen` is not a level; write one of: error, warn, info, debug, trace, off",
            ),
            (
                "menshen=loud",
                concat!(
                    "telemetry.log.level: `menshen=loud` is not a filter: error parsing level filter: ",
                    r#"expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; "#,
                    "write a level, or a filter such as `info,menshen::wechat=debug`"
                ),
            ),
        ] {
            let mut findings = Findings::default();
            assert!(!check(&config(level, LogFormat::Text), &mut findings), "{level}");
            assert_eq!(Vec::from_iter(findings.iter().map(ToString::to_string)), [expected]);
            assert!(subscriber(&config(level, LogFormat::Text), false, io::sink).is_err());
        }
    }

    #[test]
    fn valid_filter_is_accepted() {
        for level in ["error", "Warn", " info ", "off", "3", "info,a::b=debug", "info,[span{field=1}]=debug"]
        {
            let mut findings = Findings::default();
            assert!(check(&config(level, LogFormat::Text), &mut findings), "{level}: {findings:?}");
            assert_eq!(findings, Findings::default(), "{level}");
        }
    }
}
