//! The shape in which a route refuses.

use http::StatusCode;

use crate::config::{self, Findings, RejectShape};
use crate::json_template::{JsonTemplate, build_error_status};

/// What a placeholder in a refusal can stand for.
const PLACEHOLDERS: [&str; 4] = ["code", "message", "status", "request_id"];

/// How a route refuses.
#[derive(Debug)]
pub enum Reject {
    /// By a problem document.
    Problem,
    /// By 200 and `{"code":401,"message":...}`.
    Code200,
    /// In a shape of the operator's own.
    Template(RejectTemplate),
}

/// A refusal in a shape of the operator's own.
#[derive(Debug)]
pub struct RejectTemplate {
    /// The status of all refusals; `None`: that of the refusal.
    pub status: Option<StatusCode>,
    /// The document.
    pub body: JsonTemplate,
}

impl Reject {
    /// Checks the section at the key `at`.
    pub(super) fn build(config: &config::Reject, at: &str, findings: &mut Findings) -> Self {
        match config {
            config::Reject::Named(RejectShape::Problem) => Self::Problem,
            config::Reject::Named(RejectShape::Code200) => Self::Code200,
            config::Reject::Template(template) => Self::Template(RejectTemplate {
                status: build_error_status(template.status, &format!("{at}.status"), findings),
                body: JsonTemplate::build(&template.body, &format!("{at}.body"), &PLACEHOLDERS, findings),
            }),
        }
    }
}
