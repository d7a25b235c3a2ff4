//! Which fields go to whom, by the configuration.

use std::time::Duration;

use crate::config::{self, Findings};

/// Longest `max_age`: the published test vectors are years old.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
/// Longest name of a field.
const MAX_NAME: usize = 64;

/// The checked section `user_data`.
#[derive(Clone, Debug)]
pub struct UserDataPolicy {
    /// Oldest accepted watermark.
    pub max_age: Duration,
    /// The fields that the client gets.
    pub client: Vec<String>,
}

impl UserDataPolicy {
    /// Checks the section; `None` when a finding is an error.
    pub fn build(config: &config::UserData, findings: &mut Findings) -> Option<Self> {
        findings.scope(|findings| {
            if config.max_age.is_zero() || *config.max_age > LONGEST {
                findings
                    .error("user_data.max_age", format!("`{}` is out of range", config.max_age))
                    .hint("write `1s` or more, such as `5m`");
            }
            check_names(&config.client, "user_data.client", findings);
            if findings.has_errors() {
                return None;
            }
            Some(Self { max_age: *config.max_age, client: config.client.clone() })
        })
    }
}

fn check_names(names: &[String], key: &str, findings: &mut Findings) {
    for (index, name) in names.iter().enumerate() {
        let is_name = !name.is_empty()
            && name.len() <= MAX_NAME
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            findings
                .error(
                    format!("{key}[{index}]"),
                    format!("`{}` is not the name of a field", name.escape_debug()),
                )
                .hint("write it as WeChat does, such as `phoneNumber`");
        }
    }
    if names.is_empty() {
        findings
            .warning(key, "the client gets no field of what it sends")
            .hint("name the fields, such as `[openGId]`");
    }
}
