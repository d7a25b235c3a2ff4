//! Logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, FilePath, SecretSource};

/// `telemetry`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The gateway's own messages, on standard error.
    pub log: Log,
    /// One line for each request.
    pub access_log: AccessLog,
    /// One line for each login, logout, refusal of a user, and action of an operator.
    pub audit_log: AuditLog,
    /// Keys of the hashes that stand for people in the logs. The first is used; `menshen person
    /// hash` also prints the hashes of the others. Empty: the gateway makes one key at the first
    /// start and keeps it in `data_dir`. With `store.engine: redis`, at least one key is required,
    /// the same on every gateway.
    pub user_hash_keys: Vec<UserHashKey>,
}

/// `telemetry.user_hash_keys[]`: a key of the hashes that stand for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserHashKey {
    /// The key's id. Each hash begins with it, and it must be unique.
    pub kid: String,
    /// 32 random bytes in base64, such as the output of `openssl rand -base64 32`.
    pub secret: SecretSource,
}

/// `telemetry.log`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Lowest level that is written: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `info,menshen::wechat=debug`.
    pub level: String,
    /// Format of a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text, for people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// `telemetry.access_log`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Where the lines are written.
    pub target: AccessLogTarget,
    /// The file, if `target` is `file`.
    pub file: Option<FilePath>,
    /// Maximum memory for lines that are not written yet. Lines beyond it are dropped and counted.
    /// 1MiB to 1GiB.
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
    /// The file. Lines are appended. SIGHUP opens it again. Not set: nothing is written.
    pub file: Option<FilePath>,
    /// Maximum memory for lines that are not written yet. Lines beyond it are dropped and counted.
    /// 1MiB to 1GiB.
    pub buffer: ByteSize,
}

impl Default for AuditLog {
    fn default() -> Self {
        Self { file: None, buffer: ByteSize::mib(1) }
    }
}

/// Where access log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file. Lines are appended. SIGHUP opens it again.
    File,
    /// They are not written.
    Off,
}
