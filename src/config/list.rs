//! Lists of people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FilePath;

/// `lists.<name>`: a list of people, for routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    /// Members: a unionid, or `appid:openid` for a user of one app.
    pub members: Vec<String>,
    /// File with more members, one on each line. Text after `#` is a comment. The gateway reads the
    /// file at start and at each reload.
    pub file: Option<FilePath>,
}
