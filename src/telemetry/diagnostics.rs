//! Diagnostics on standard error: which events are written, and in which format.
//!
//! The access log is separate and does not use `tracing`.

use std::env;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{self, Findings, LogFormat};

/// Pingora logs each failed connection as an error, but the gateway already logs and counts each
/// failure once. Only Pingora logs the takeover of listeners and the shutdown, so those events
/// stay. All its targets start with `pingora`, so an operator's `pingora=info` overrides the first
/// directive.
const DEFAULT_DIRECTIVES: &str = "pingora=off,pingora_core::server=error";

/// The levels that an operator may write, for suggestions.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Diagnostics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// `telemetry.log.level` is not a filter.
    #[error("{0}")]
    InvalidFilter(String),
    /// `tracing` or `log` is already set up in this process.
    #[error("diagnostics are installed already: {0}")]
    AlreadyInstalled(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the events of this process, including those of `log`, to standard error. It works once in
/// a process.
///
/// # Errors
/// [`InstallError::InvalidFilter`] if [`check`] reports a problem,
/// [`InstallError::AlreadyInstalled`] the second time.
pub fn install(config: &config::Log) -> Result<(), InstallError> {
    let has_color = io::stderr().is_terminal() && allows_color(|name| env::var(name).ok());
    subscriber(config, has_color, io::stderr)?.try_init()?;
    Ok(())
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
