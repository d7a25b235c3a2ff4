//! Requests on their way through: bodies of any length and pace, failures on either side, limits.

mod connections;
mod failure;
pub mod http2;
mod http2_end;
mod limits;
mod memory;
pub mod raw;
mod reuse;
mod streaming;

use std::time::Duration;

use serde_json::Value;

use crate::common::{World, eventually, now};

/// Lets time go by, for what must still hold after it.
pub fn pass(time: Duration) {
    let deadline = now() + time;
    while now() < deadline {
        std::thread::park_timeout(deadline.saturating_duration_since(now()));
    }
}

/// The access log's line of the one request with this path.
pub fn logged(world: &World, path: &str) -> Value {
    let mut found = None;
    eventually(&format!("{path} is in the access log"), || {
        let log = std::fs::read_to_string(world.data.path().join("access.log")).unwrap_or_default();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        found = lines.rfind(|line| line["url.path"] == path);
        found.is_some()
    });
    found.unwrap()
}

/// How often a request to `backend` failed for this reason.
pub fn upstream_failures(world: &World, reason: &str) -> f64 {
    world.metric(&format!(r#"menshen_upstream_failures_total{{reason="{reason}",upstream="backend"}}"#))
}
