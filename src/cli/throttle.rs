//! `menshen throttle`: lists and lifts what the limits on sign-ins count of addresses.

use std::path::Path;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::CommandOutcome;
use super::control::{ANSWER_TIMEOUT, ask};
use super::table::{format_columns, unreadable_answer};

#[derive(Debug, Subcommand)]
pub(super) enum ThrottleCommand {
    /// List the addresses that a limit of this gateway refuses now
    List {
        /// Print the gateway's answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget what was counted of an address: menshen throttle lift 192.0.2.1
    Lift(LiftArgs),
}

#[derive(Debug, Args)]
pub(super) struct LiftArgs {
    /// An address, or a network as `menshen throttle list` shows it
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Print the gateway's answer as JSON
    #[arg(long)]
    json: bool,
}

impl ThrottleCommand {
    pub(super) fn run(&self, config: &Path) -> CommandOutcome {
        let (request, json) = match self {
            Self::List { json } => (Request::get("/throttle").body(Bytes::new()), *json),
            Self::Lift(lift) => (lift.request(), lift.json),
        };
        let answer = match ask(config, request, ANSWER_TIMEOUT) {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        match self {
            _ if json => CommandOutcome::answer(String::from_utf8_lossy(&answer)),
            Self::List { .. } => format_list(&answer),
            Self::Lift(_) => format_lift(&answer),
        }
    }
}

impl LiftArgs {
    fn request(&self) -> http::Result<Request<Bytes>> {
        let body = json!({ "address": self.address }).to_string();
        Request::post("/throttle/lift").header(CONTENT_TYPE, "application/json").body(body.into())
    }
}

fn format_list(answer: &[u8]) -> CommandOutcome {
    const COLUMNS: &[(&str, &str)] =
        &[("ADDRESS", "address"), ("LIMIT", "limit"), ("SINCE", "since"), ("REFUSED", "refused")];
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let Some(listed) = answer.get("throttled").and_then(Value::as_array) else { return unreadable_answer() };
    if listed.is_empty() {
        return CommandOutcome { messages: "no address is throttled".into(), ..CommandOutcome::default() };
    }
    let listed: Vec<Value> = listed
        .iter()
        .map(|entry| {
            let mut entry = entry.clone();
            // The columns are text.
            if let Some(refused) = entry.get_mut("refused") {
                *refused = refused.to_string().into();
            }
            entry
        })
        .collect();
    CommandOutcome::answer(format_columns(COLUMNS, &listed))
}

fn format_lift(answer: &[u8]) -> CommandOutcome {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    match answer.get("lifted").and_then(Value::as_u64) {
        Some(0) => CommandOutcome::answer("no limit refused it; what was counted is forgotten"),
        Some(1) => CommandOutcome::answer("lifted 1 limit"),
        Some(count) => CommandOutcome::answer(format!("lifted {count} limits")),
        None => unreadable_answer(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FAILED;
    use super::*;

    #[test]
    fn addresses_are_listed_in_columns() {
        let answer = r#"{"throttled":[
            {"address":"192.0.2.1","limit":"login","since":"2026-11-21T10:00:00Z","refused":1200},
            {"address":"2001:db8::/48","limit":"sign_in","since":"2026-11-21T10:00:01Z","refused":3}
        ]}"#;

        assert_eq!(
            format_list(answer.as_bytes()).answer,
            "ADDRESS        LIMIT    SINCE                 REFUSED\n\
             192.0.2.1      login    2026-11-21T10:00:00Z  1200\n\
             2001:db8::/48  sign_in  2026-11-21T10:00:01Z  3"
        );
        let empty = format_list(br#"{"throttled":[]}"#);
        assert_eq!((empty.answer.as_str(), empty.messages.as_str()), ("", "no address is throttled"));
    }

    #[test]
    fn unreadable_answer_is_a_failure() {
        for answer in ["", "{}", "[]", r#"{"throttled":{}}"#, r#"{"lifted":"all"}"#] {
            assert_eq!(format_list(answer.as_bytes()).code, FAILED, "{answer}");
            assert_eq!(format_lift(answer.as_bytes()).code, FAILED, "{answer}");
        }
        assert_eq!(format_lift(br#"{"lifted":2}"#).answer, "lifted 2 limits");
    }
}
