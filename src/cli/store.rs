//! `menshen store`: maintains the embedded store's file while no gateway uses it, and copies it
//! while one does.

use std::io::{self, BufWriter};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::control::ask;
use super::table::unreadable_answer;
use super::{CommandOutcome, FAILED, MISUSED};
use crate::clock::SystemClock;
use crate::config::{Document, EmbeddedStore, StoreEngine};
use crate::store::{self, ExportError, Space, Verified};

/// Longest wait for a copy of the file.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Free the disk space of ended sessions
    Compact,
    /// Check the file for damage and count its rows
    Verify,
    /// Copy the file of the running gateway
    Backup {
        /// The new file. The gateway writes it, so its user must be allowed to
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print every row as a line of JSON
    ///
    /// Tokens are hashed and session keys are encrypted. The rows are still personal data: they
    /// show who uses which app, and since when.
    Export,
}

pub(super) fn run(command: &StoreCommand, config: &Path) -> CommandOutcome {
    let (path, embedded) = match find_file(config) {
        Ok(file) => file,
        Err(outcome) => return outcome,
    };
    match command {
        StoreCommand::Backup { file } => back_up(file, config),
        StoreCommand::Compact => compact(&path, &embedded),
        StoreCommand::Verify => verify(&path, &embedded),
        StoreCommand::Export => export(&path, &embedded),
    }
}

fn find_file(config: &Path) -> Result<(PathBuf, EmbeddedStore), CommandOutcome> {
    let document =
        Document::load(config).map_err(|report| CommandOutcome::failure(MISUSED, report.to_string()))?;
    let config = &document.config;
    match config.store.engine {
        StoreEngine::Embedded => Ok((
            store::embedded_path(&config.store.embedded, &config.data_dir),
            config.store.embedded.clone(),
        )),
        StoreEngine::Redis => Err(CommandOutcome::failure(
            MISUSED,
            "menshen: `store.engine` is `redis`, but these commands are for the embedded store's file: \
             use the tools of the Redis server",
        )),
    }
}

fn back_up(file: &Path, config: &Path) -> CommandOutcome {
    // The gateway's working directory may be another one.
    let file = match path::absolute(file) {
        Ok(file) => file,
        Err(error) => return CommandOutcome::failure(MISUSED, format!("menshen: {error}")),
    };
    let body = json!({ "file": file.to_string_lossy() }).to_string();
    let request = Request::post("/store/backup").header(CONTENT_TYPE, "application/json").body(body.into());
    match ask(config, request, BACKUP_TIMEOUT) {
        Ok(answer) => {
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            match answer.get("bytes").and_then(Value::as_u64) {
                Some(bytes) => CommandOutcome::answer(format!("{}: {bytes} bytes", file.display())),
                None => unreadable_answer(),
            }
        }
        Err(outcome) => outcome,
    }
}

fn compact(path: &Path, config: &EmbeddedStore) -> CommandOutcome {
    match store::compact(path, config, &SystemClock) {
        Ok(sizes) => CommandOutcome::answer(format!(
            "{}: {} bytes, {} before",
            path.display(),
            sizes.after,
            sizes.before
        )),
        Err(error) => CommandOutcome::failure(FAILED, format!("menshen: {error}")),
    }
}

fn verify(path: &Path, config: &EmbeddedStore) -> CommandOutcome {
    match store::verify(path, config, &SystemClock) {
        Ok(verified) if verified.faults.is_empty() => CommandOutcome::answer(format_counts(path, &verified)),
        Ok(verified) => CommandOutcome {
            answer: format_counts(path, &verified),
            messages: format!(
                "{}\nmenshen: {} is damaged: restore a copy, or move the file away; without the file, every session ends",
                verified.faults.join("\n"),
                path.display()
            ),
            code: FAILED,
        },
        Err(error) => CommandOutcome::failure(FAILED, format!("menshen: {error}")),
    }
}

fn format_counts(path: &Path, verified: &Verified) -> String {
    let count = |space| verified.rows.get(&space).copied().unwrap_or_default();
    // A store has at most one key of its own, and none before a gateway made it. It has tokens of
    // apps only if a program calls WeChat's API.
    let is_optional = |space| matches!(space, Space::Key | Space::AppToken);
    let spaces = Space::ALL.into_iter().filter(|space| !is_optional(*space) || count(*space) > 0);
    let rows = spaces.map(|space| (plural_name(space), count(space)));
    let counts = rows.into_iter().chain([("log", verified.log), ("ended", verified.ended)]);
    let lines = counts.map(|(what, count)| format!("\n{what:13}{count}"));
    format!("{}{}", path.display(), lines.collect::<String>())
}

const fn plural_name(space: Space) -> &'static str {
    match space {
        Space::Subject => "subjects",
        Space::UnionId => "unionids",
        Space::Revocation => "revocations",
        Space::Code => "codes",
        Space::SignIn => "sign-ins",
        Space::Person => "people",
        Space::Key => "keys",
        Space::AppToken => "app tokens",
    }
}

fn export(path: &Path, config: &EmbeddedStore) -> CommandOutcome {
    match store::export(path, config, &SystemClock, &mut BufWriter::new(io::stdout().lock())) {
        Ok(_) => CommandOutcome::default(),
        // As in `written`: the reader has all the lines it wanted.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            CommandOutcome::default()
        }
        Err(error) => CommandOutcome::failure(FAILED, format!("menshen: {error}")),
    }
}
