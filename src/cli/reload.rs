//! `menshen reload`: lets the running gateway load its configuration again.

use std::path::Path;
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::CommandOutcome;
use super::control::ask;
use super::table::{unreadable_answer, without_control_characters};

/// Longest wait: the gateway may resolve names and connect to servers.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(config: &Path) -> CommandOutcome {
    let request = Request::post("/reload").header(CONTENT_TYPE, "application/json").body("{}".into());
    match ask(config, request, TIMEOUT) {
        Ok(answer) => format_reload(&answer),
        Err(outcome) => outcome,
    }
}

fn format_reload(answer: &[u8]) -> CommandOutcome {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let Some(warnings) = answer.get("warnings").and_then(Value::as_array) else { return unreadable_answer() };
    let warnings = warnings.iter().filter_map(Value::as_str);
    let messages: Vec<String> =
        warnings.map(|warning| format!("warning: {}", without_control_characters(warning))).collect();
    CommandOutcome {
        messages: messages.join("\n"),
        ..CommandOutcome::answer("loaded the configuration again")
    }
}
