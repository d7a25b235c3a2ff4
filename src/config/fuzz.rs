//! Drives the parser of the configuration file.

use super::{Config, Document, Findings};

pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let document = match Document::parse("fuzz", text) {
        Ok(document) => document,
        Err(report) => {
            assert!(report.has_errors() && !report.to_string().is_empty(), "refused without a message");
            return;
        }
    };
    let _ = document.report(Findings::default()).to_string();
    // JSON is YAML. An inline secret is written as `[redacted]`.
    let written = json(&document.config);
    let again = Document::parse("again", &written).map(|again| json(&again.config));
    assert!(again.as_ref().is_ok_and(|again| *again == written), "{written}\nis read as\n{again:?}");
}

fn json(config: &Config) -> String {
    serde_json::to_string(config).unwrap_or_default()
}
