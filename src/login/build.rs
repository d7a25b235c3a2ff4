//! The login from its configuration.

use std::sync::Arc;
use std::time::Duration;

use super::replay::Replay;
use super::{Dependencies, Login};
use crate::config::{self, Findings};

/// A code's life at WeChat: nothing can be gained by remembering it longer.
const MAX_REPLAY_WINDOW: Duration = Duration::from_secs(300);
const MAX_REPLAY_CAPACITY: u64 = 10_000_000;
const MAX_BODY_BYTES: u64 = 1 << 20;
const MAX_BODY_TIMEOUT: Duration = Duration::from_secs(300);

impl Login {
    /// Builds the endpoints; `None` when a finding is an error.
    pub fn build(config: &config::Login, parts: Dependencies, findings: &mut Findings) -> Option<Self> {
        let mut own = Findings::default();
        check_prefix(&config.path_prefix, &mut own);
        check_limits(config, &mut own);
        let capacity = usize::try_from(config.replay_capacity).unwrap_or(usize::MAX);
        let replay = Replay::new(*config.replay_window, capacity, &*parts.entropy);
        if let Err(error) = &replay {
            own.error("login", error.to_string());
        }
        let is_usable = !own.has_errors();
        findings.extend(own);

        let replay = replay.ok().filter(|_| is_usable)?;
        Some(Self {
            path_prefix: config.path_prefix.clone(),
            max_body_bytes: config.max_body.as_usize(),
            body_timeout: *config.body_timeout,
            replay: Arc::new(replay),
            parts,
        })
    }

    /// Goes on with the codes that another configuration's login remembers, so that a reload forgets no answer; one with
    /// other limits starts afresh.
    #[must_use]
    pub fn with_memory_of(mut self, previous: &Self) -> Self {
        if self.replay.has_limits_of(&previous.replay) {
            self.replay = Arc::clone(&previous.replay);
        }
        self
    }
}

/// Accepts only what a canonical path can begin with, else the endpoints would be where nobody finds them.
fn check_prefix(prefix: &str, findings: &mut Findings) {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let is_valid = prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
    if !is_valid {
        findings
            .error("login.path_prefix", format!("`{}` is not a path to put endpoints below", prefix.escape_debug()))
            .hint("write segments of letters, digits, `-`, `.`, `_`, `~`, without a `/` at the end, such as `/auth`");
    } else if prefix.split('/').nth(1) == Some(".well-known") {
        findings
            .error("login.path_prefix", format!("`{prefix}` is reserved by RFC 8615"))
            .hint("write a path of your own, such as `/auth`");
    }
}

fn check_limits(config: &config::Login, findings: &mut Findings) {
    if !(1..=MAX_BODY_BYTES).contains(&config.max_body.0) {
        findings
            .error("login.max_body", format!("`{}` is out of range", config.max_body))
            .hint("write 1B to 1MiB; a login needs less than `4KiB`");
    }
    if config.body_timeout.is_zero() || *config.body_timeout > MAX_BODY_TIMEOUT {
        findings
            .error("login.body_timeout", format!("`{}` is out of range", config.body_timeout))
            .hint("write 1ms to 5m, such as `10s`");
    }
    if *config.replay_window > MAX_REPLAY_WINDOW {
        findings
            .error("login.replay_window", format!("`{}` is longer than a code lives", config.replay_window))
            .hint("write at most `5m`");
    }
    if !(1..=MAX_REPLAY_CAPACITY).contains(&config.replay_capacity) {
        findings
            .error("login.replay_capacity", format!("`{}` is out of range", config.replay_capacity))
            .hint(format!("write 1 to {MAX_REPLAY_CAPACITY}"));
    }
}
