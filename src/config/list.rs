//! Lists of people.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `lists.<name>`: people whom routes admit or refuse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    /// Unionids, or `appid:openid` for a person in one app.
    pub members: Vec<String>,
    /// File with further members, one a line; what follows `#` is a comment. Read again at each reload.
    pub file: Option<PathBuf>,
}
