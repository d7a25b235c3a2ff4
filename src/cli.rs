//! The command line.
//!
//! Answers go to standard output, messages to standard error. The exit code is 0 for success, 1 for
//! a failure, and 2 for wrong usage or a wrong configuration; docs/exit-codes.md has the list. The
//! other modules do the work of the commands.

mod control;
mod person;
mod reload;
mod session;
mod store;
mod table;
mod throttle;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use self::person::PersonCommand;
use self::session::SessionCommand;
use self::throttle::ThrottleCommand;
use crate::clock::SystemClock;
use crate::config::{self, Draft, Findings, KeyAlgorithm, Report};
use crate::demo::{self, DemoError, DemoLanguage, DemoOptions};
use crate::emulator::{self, Emulator};
use crate::entropy::SystemEntropy;
use crate::server::{self, RunError, Sources, StartError};
use crate::telemetry::diagnostics::{self, InstallError};
use crate::token;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  menshen demo                          try the gateway, without a configuration
  menshen check --config menshen.yaml   report errors in a configuration
  menshen serve --config menshen.yaml   run the gateway";

/// Runs the command of the command line.
pub fn run() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => arguments.run(),
        // Clap writes help to standard output, and usage errors to standard error.
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(MISUSED);
            return exit_code_after(error.print(), code);
        }
    };
    outcome.write()
}

/// A reverse-proxy authentication gateway for applications whose users sign in with WeChat.
#[derive(Debug, Parser)]
#[command(name = "menshen", version, before_help = EXAMPLES)]
struct Arguments {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "MENSHEN_CONFIG", default_value = "menshen.yaml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Serve,
    /// Check the configuration and report every error in it
    Check,
    /// Describe the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// List and end sessions of the gateway on this machine
    #[command(subcommand)]
    Session(SessionCommand),
    /// Block people and bind them to users, at the gateway on this machine
    #[command(subcommand)]
    Person(PersonCommand),
    /// List and lift what the limits on sign-ins count of addresses, at the gateway on this machine
    #[command(subcommand)]
    Throttle(ThrottleCommand),
    /// Let the gateway on this machine load its configuration again, as SIGHUP does
    Reload,
    /// Maintain the embedded store's file, and copy it while a gateway uses it
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Run an emulated WeChat on 127.0.0.1:9900, for development and tests
    Emulator {
        /// The address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
        listen: SocketAddr,
        /// YAML file with apps, users and quotas; the defaults are in `docs/emulator.md`
        #[arg(long, value_name = "FILE")]
        apps: Option<PathBuf>,
        /// Accept every code of `wx.login`, as one person: for WeChat's developer tools
        #[arg(long)]
        accept_any_code: bool,
    },
    /// Run the gateway, an emulated WeChat and a sample backend in one process
    Demo {
        /// Run the steps of the demo and exit with 0 if all of them succeed
        #[arg(long)]
        self_test: bool,
        /// The address of the gateway, with WeChat on the next port; by default free ports
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// The language, zh or en; by default that of LC_ALL, LC_MESSAGES or LANG
        #[arg(long, value_name = "LANGUAGE", value_parser = parse_language)]
        lang: Option<DemoLanguage>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a new signing key: the private key to standard output, its id to standard error
    Generate {
        /// The key's algorithm: ES256, EdDSA or RS256
        #[arg(long, value_name = "ALGORITHM", default_value = "ES256", value_parser = parse_algorithm)]
        algorithm: KeyAlgorithm,
    },
}

impl Arguments {
    fn run(&self) -> CommandOutcome {
        match self.command.as_ref().unwrap_or(&Command::Serve) {
            Command::Serve => serve(&self.config),
            Command::Check => check(&self.config),
            Command::Config(ConfigCommand::Schema) => print_schema(),
            Command::Key(KeyCommand::Generate { algorithm }) => generate_key(*algorithm),
            Command::Session(command) => command.run(&self.config),
            Command::Person(command) => command.run(&self.config),
            Command::Throttle(command) => command.run(&self.config),
            Command::Reload => reload::run(&self.config),
            Command::Store(command) => store::run(command, &self.config),
            Command::Emulator { listen, apps, accept_any_code } => {
                run_emulator(*listen, apps.as_deref(), *accept_any_code)
            }
            Command::Demo { self_test, listen, lang } => {
                let language =
                    lang.unwrap_or_else(|| DemoLanguage::of_environment(|name| std::env::var(name).ok()));
                run_demo(*self_test, DemoOptions { listen: *listen, language })
            }
        }
    }
}

/// The result of a command.
#[derive(Debug, Default)]
struct CommandOutcome {
    /// For standard output.
    answer: String,
    /// For standard error.
    messages: String,
    code: u8,
}

impl CommandOutcome {
    fn answer(answer: impl Into<String>) -> Self {
        Self { answer: answer.into(), messages: String::new(), code: 0 }
    }

    fn failure(code: u8, messages: impl Into<String>) -> Self {
        Self { answer: String::new(), messages: messages.into(), code }
    }

    fn write(&self) -> ExitCode {
        let messages = write_line(&mut io::stderr().lock(), &self.messages);
        exit_code_after(messages.and(write_line(&mut io::stdout().lock(), &self.answer)), self.code)
    }
}

fn serve(path: &Path) -> CommandOutcome {
    let draft = match Draft::load(path) {
        Ok(draft) => draft,
        Err(report) => return refused(&report),
    };
    if draft.has_errors() {
        // The start would report only what the file alone shows.
        return check_draft(&draft);
    }
    let document = match draft.into_document() {
        Ok(document) => document,
        Err(report) => return refused(&report),
    };
    let diagnostics = match diagnostics::install(&document.config.telemetry.log) {
        Ok(diagnostics) => diagnostics,
        Err(error) => {
            let is_misused = matches!(error, InstallError::InvalidFilter(_));
            let code = if is_misused { MISUSED } else { FAILED };
            return CommandOutcome::failure(code, format!("menshen: {error}"));
        }
    };
    let ended = server::run(&document, path);
    if let Err(error @ (RunError::ServiceEnded | RunError::Signals(_))) = &ended {
        // Written with a deadline: the process must end even if the reader of standard error
        // stalls.
        diagnostics.end_with(&format!("menshen: {error}"));
        return CommandOutcome { code: FAILED, ..CommandOutcome::default() };
    }
    drop(diagnostics);
    match ended {
        Ok(()) => CommandOutcome::default(),
        Err(RunError::Start(StartError::Config(report))) => refused(&report),
        Err(error) => CommandOutcome::failure(FAILED, format!("menshen: {error}")),
    }
}

/// The end of a start for the errors of a report. Only what the configuration itself has wrong is
/// [`MISUSED`]: then a restart does not help.
fn refused(report: &Report) -> CommandOutcome {
    CommandOutcome::failure(if report.may_pass() { FAILED } else { MISUSED }, report.to_string())
}

fn check(path: &Path) -> CommandOutcome {
    match Draft::load(path) {
        Ok(draft) => check_draft(&draft),
        Err(report) => CommandOutcome::failure(MISUSED, report.to_string()),
    }
}

fn check_draft(draft: &Draft) -> CommandOutcome {
    let report = match server::check_draft(draft, &Sources::default()) {
        Ok(report) => report,
        Err(error) => return CommandOutcome::failure(FAILED, format!("menshen: {error}")),
    };
    if report.has_errors() {
        return CommandOutcome::failure(MISUSED, report.to_string());
    }
    CommandOutcome { messages: report.to_string(), ..CommandOutcome::answer("configuration is valid") }
}

fn print_schema() -> CommandOutcome {
    CommandOutcome::answer(format!("{:#}", config::schema()))
}

fn generate_key(algorithm: KeyAlgorithm) -> CommandOutcome {
    match token::generate_key(algorithm) {
        Ok(key) => CommandOutcome {
            answer: key.pem.expose_secret().trim_end().to_owned(),
            messages: format!("kid: {}", key.kid),
            code: 0,
        },
        Err(error) => CommandOutcome::failure(MISUSED, format!("menshen: {error}")),
    }
}

fn parse_algorithm(name: &str) -> Result<KeyAlgorithm, String> {
    let known = [KeyAlgorithm::ES256, KeyAlgorithm::EdDSA, KeyAlgorithm::RS256, KeyAlgorithm::HS256];
    let named = known.into_iter().find(|algorithm| format!("{algorithm:?}").eq_ignore_ascii_case(name));
    named.ok_or_else(|| "write ES256, EdDSA or RS256".to_owned())
}

fn run_emulator(listen: SocketAddr, apps: Option<&Path>, accepts_any_code: bool) -> CommandOutcome {
    let mut config = match apps.map(read_emulator_config).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(message) => return CommandOutcome::failure(MISUSED, message),
    };
    if accepts_any_code && config.accept_any_code.wxid().is_none() {
        config.accept_any_code = emulator::AcceptAnyCode::Switch(true);
    }
    // For its warnings. Diagnostics that are installed already stay.
    let log = config::Log { level: "warn".into(), ..config::Log::default() };
    let _diagnostics = diagnostics::install(&log).ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return CommandOutcome::failure(FAILED, format!("menshen: cannot start threads: {error}"));
        }
    };
    let ended = runtime.block_on(async {
        let emulator = Emulator::new(config, Arc::new(SystemClock), Arc::new(SystemEntropy));
        // The first process of a container has no default action for SIGTERM: it must end by
        // itself. It waits for the signal before it says that it listens.
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| format!("menshen: cannot wait for signals: {error}"))?;
        let mut running = emulator
            .listen(listen)
            .map_err(|error| format!("menshen: cannot listen on {listen}: {error}"))?;
        let started =
            format!("menshen emulator {} listening on {}", env!("CARGO_PKG_VERSION"), running.url());
        write_line(&mut io::stderr().lock(), &started)
            .map_err(|error| format!("menshen: cannot write: {error}"))?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            () = running.wait() => Err("menshen: the listener failed".to_owned()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    ended.map_or_else(|message| CommandOutcome::failure(FAILED, message), |()| CommandOutcome::default())
}

fn read_emulator_config(path: &Path) -> Result<emulator::Config, String> {
    let yaml = std::fs::read_to_string(path)
        .map_err(|error| format!("menshen: cannot read `{}`: {error}", path.display()))?;
    let mut findings = Findings::default();
    emulator::Config::from_yaml(&yaml, &mut findings).ok_or_else(|| {
        let lines = findings.iter().map(|finding| format!("{}: {finding}", path.display()));
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn parse_language(name: &str) -> Result<DemoLanguage, String> {
    DemoLanguage::parse(name).ok_or_else(|| "write zh or en".to_owned())
}

fn run_demo(self_test: bool, options: DemoOptions) -> CommandOutcome {
    let out = &mut io::stdout().lock();
    let shown =
        if self_test { demo::self_test(options, out) } else { demo::show(options, out).map(|()| true) };
    match shown {
        Ok(true) => CommandOutcome::default(),
        Ok(false) => CommandOutcome { code: FAILED, ..CommandOutcome::default() },
        // As in `exit_code_after`: the reader has all the lines it wanted.
        Err(DemoError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            CommandOutcome::default()
        }
        Err(error) => CommandOutcome::failure(FAILED, format!("menshen: {error}")),
    }
}

fn write_line(to: &mut impl Write, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    // In one piece: diagnostics of another thread could come between.
    to.write_all(format!("{text}\n").as_bytes())?;
    to.flush()
}

/// The exit code after writing. A closed pipe (`menshen config schema | head`) is no failure: the
/// reader has all the lines it wanted. A full disk is one.
fn exit_code_after(result: io::Result<()>, code: u8) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr().lock(), "menshen: cannot write: {error}");
            ExitCode::from(FAILED)
        }
        _ => ExitCode::from(code),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_leads_with_an_example() {
        let help = Arguments::command().render_help().to_string();

        assert!(help.starts_with("Examples:\n  menshen demo"), "{help}");
        Arguments::command().debug_assert();
    }

    #[test]
    fn config_flag_is_allowed_before_and_after_the_command() {
        for line in [["menshen", "--config", "a.yaml", "check"], ["menshen", "check", "--config", "a.yaml"]] {
            let arguments = Arguments::try_parse_from(line).unwrap();

            assert_eq!(arguments.config, Path::new("a.yaml"));
            assert!(matches!(arguments.command, Some(Command::Check)));
        }
    }

    #[test]
    fn wrong_usage_exits_2_and_help_exits_0() {
        for (line, code) in
            [("chekc", 2), ("--frobnicate", 2), ("config", 2), ("--help", 0), ("--version", 0)]
        {
            let error = Arguments::try_parse_from(["menshen", line]).unwrap_err();

            assert_eq!(error.exit_code(), code, "{line}");
        }
    }

    #[test]
    fn check_of_a_valid_file_says_so() {
        let outcome = check(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/minimal.yaml")));

        assert_eq!((outcome.answer.as_str(), outcome.code), ("configuration is valid", 0));
    }

    #[test]
    fn check_of_a_wrong_file_exits_2_with_every_problem_and_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong.yaml");
        std::fs::write(&path, "worker_threads: two\ndrain_timeout: 30\n").unwrap();

        let outcome = check(&path);

        assert_eq!((outcome.answer.as_str(), outcome.code), ("", 2));
        assert!(outcome.messages.contains(":1:17: error: worker_threads: "), "{}", outcome.messages);
        assert!(outcome.messages.contains(":2:16: error: drain_timeout: "), "{}", outcome.messages);
    }

    #[test]
    fn check_reports_findings_of_modules_and_of_sections() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong.yaml");
        let yaml = include_str!("../conf/minimal.yaml").replace("upstream: backend", "upstream: backnd");
        std::fs::write(&path, format!("{yaml}login: {{ body_timeout: 0s }}\ntrusted_proxies: [0.0.0.0/0]\n"))
            .unwrap();

        let outcome = check(&path);

        assert_eq!((outcome.answer.as_str(), outcome.code), ("", 2));
        for expected in [
            ":8:13: warning: apps.shop.secret: ",
            ":17:15: error: routes[0].upstream: upstream `backnd` is not defined; did you mean `backend`?",
            ":18:24: error: login.body_timeout: ",
            ":19:19: warning: trusted_proxies[0]: `0.0.0.0/0` is every address",
        ] {
            assert!(outcome.messages.contains(expected), "{expected}\n{}", outcome.messages);
        }
    }

    #[test]
    fn check_warns_of_a_route_below_the_login_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doubtful.yaml");
        for (route, is_below) in [("/auth", true), ("/auth/x", true), ("/author", false), ("/", false)] {
            let yaml = include_str!("../conf/minimal.yaml").replace("path: /", &format!("path: {route}"));
            std::fs::write(&path, yaml).unwrap();

            let outcome = check(&path);

            assert_eq!(outcome.messages.contains("routes[0].path"), is_below, "{}", outcome.messages);
        }
    }

    #[test]
    fn check_warns_of_nodes_without_a_common_signing_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doubtful.yaml");
        for (store, is_warned) in [("embedded", false), ("redis", true)] {
            let minimal = include_str!("../conf/minimal.yaml");
            std::fs::write(&path, format!("{minimal}store: {{ engine: {store} }}\n")).unwrap();

            let outcome = check(&path);

            for warning in ["tokens.keys: each gateway", "sessions.seal_keys: each gateway"] {
                assert_eq!(outcome.messages.contains(warning), is_warned, "{}", outcome.messages);
            }
        }
    }

    #[test]
    fn check_prints_warnings_and_still_exits_0() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doubtful.yaml");
        let minimal = include_str!("../conf/minimal.yaml");
        std::fs::write(&path, format!("{minimal}telemetry: {{ access_log: {{ file: a.log }} }}\n")).unwrap();

        let outcome = check(&path);

        assert_eq!((outcome.answer.as_str(), outcome.code), ("configuration is valid", 0));
        assert!(outcome.messages.contains("warning: telemetry.access_log.file: "), "{}", outcome.messages);
    }

    #[test]
    fn closed_pipe_does_not_change_the_exit_code() {
        assert_eq!(exit_code_after(Err(io::ErrorKind::BrokenPipe.into()), 0), ExitCode::SUCCESS);
        assert_eq!(exit_code_after(Err(io::ErrorKind::BrokenPipe.into()), 2), ExitCode::from(2));
    }
}
