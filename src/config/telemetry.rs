//! Logs.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// `telemetry`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// What the gateway says of itself, on standard error.
    pub log: Log,
    /// One line for each request.
    pub access_log: AccessLog,
    /// One line for each login, logout, refusal of a person, and deed of an operator.
    pub audit_log: AuditLog,
}

/// `telemetry.log`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Least level written: `error`, `warn`, `info`, `debug`, or a filter such as `info,menshen::wechat=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `telemetry.access_log`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Where the lines go.
    pub target: AccessLogTarget,
    /// The file, where `target` is `file`.
    pub file: Option<PathBuf>,
    /// Most memory for lines not yet written; beyond it lines are dropped and counted. 1MiB to 1GiB.
    pub buffer: ByteSize,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { target: AccessLogTarget::Stdout, file: None, buffer: ByteSize::mib(8) }
    }
}

/// `telemetry.audit_log`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditLog {
    /// The file, appended to; opened again on SIGHUP. Absent: nothing is written.
    pub file: Option<PathBuf>,
    /// Most memory for lines not yet written; beyond it lines are dropped and counted. 1MiB to 1GiB.
    pub buffer: ByteSize,
}

impl Default for AuditLog {
    fn default() -> Self {
        Self { file: None, buffer: ByteSize::mib(1) }
    }
}

/// Where access log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to; opened again on SIGHUP.
    File,
    /// Nowhere.
    Off,
}
