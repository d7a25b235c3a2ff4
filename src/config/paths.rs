//! The paths of a configuration file: what they are relative to, and what no path can be.
//!
//! A path is relative to the folder of the file, so that it means the same for every command and
//! every working directory. The schema says which values are paths: those of the type `FilePath`.

use std::env;
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};

use serde_json::Value as Schema;

use super::report::{Position, Report};
use super::schema::{self, alternatives, free_values, join, properties};
use super::tree::{Scalar, ScalarKind, YamlEntry, YamlNode, YamlValue};
use super::value::InvalidValue;

/// The key of the gateway's own folder. Its default is the only path that is not relative to the
/// file.
const DATA_DIR: &str = "data_dir";
/// The folder of the data in the working directory, if nothing names another.
const DEFAULT_DATA_DIR: &str = "data";
/// The folders that systemd made for the service, absolute, with `:` between them. See
/// systemd.exec(5), `StateDirectory=`.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// The folders that paths can be relative to.
#[derive(Clone, Debug)]
pub(super) struct PathBase {
    /// The folder of the configuration file.
    file_folder: PathBuf,
    working_directory: PathBuf,
    /// The folder that systemd made for the gateway's state.
    state_directory: Option<PathBuf>,
}

impl PathBase {
    /// The folders of this process, for the configuration file at `file`.
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let file = path::absolute(file)?;
        let named = env::var_os(STATE_DIRECTORY).unwrap_or_default();
        // Several folders are possible; the first is the one of the unit file.
        let first = env::split_paths(&named).next().filter(|first| first.is_absolute());
        Ok(Self {
            file_folder: file.parent().unwrap_or(&file).to_owned(),
            working_directory: env::current_dir()?,
            state_directory: first,
        })
    }

    #[cfg(test)]
    pub(super) fn new(file_folder: &Path, working_directory: &Path, state_directory: Option<&Path>) -> Self {
        Self {
            file_folder: file_folder.to_owned(),
            working_directory: working_directory.to_owned(),
            state_directory: state_directory.map(Path::to_owned),
        }
    }

    /// Makes every path in `root` absolute. Refuses a path that names something only in the working
    /// directory, where earlier versions looked for it.
    pub(super) fn resolve(&self, root: &mut YamlNode, report: &mut Report) {
        self.set_data_dir(root, report);
        self.value(schema::root(), root, "", report);
    }

    fn value(&self, schema: &'static Schema, node: &mut YamlNode, key: &str, report: &mut Report) {
        let at = node.at;
        let alternatives = alternatives(schema);
        match &mut node.value {
            YamlValue::Map(entries) => entries.iter_mut().for_each(|entry| {
                let known = alternatives.iter().find_map(|schema| property(schema, &entry.key));
                if let Some(below) = known {
                    self.value(below, &mut entry.node, &join(key, &entry.key), report);
                }
            }),
            YamlValue::List(items) => {
                let below = alternatives.iter().find_map(|schema| schema.get("items"));
                let items = items.iter_mut().enumerate();
                items.for_each(|(index, item)| {
                    if let Some(below) = below {
                        self.value(below, item, &format!("{key}[{index}]"), report);
                    }
                });
            }
            YamlValue::Scalar(scalar) => {
                let is_path = alternatives.iter().any(|schema| is_path(schema));
                if is_path && scalar.kind() == ScalarKind::Text {
                    self.path(scalar, at, key, report);
                }
            }
        }
    }

    fn path(&self, scalar: &mut Scalar, at: Position, key: &str, report: &mut Report) {
        let (now, before) =
            (below(&self.file_folder, &scalar.text), below(&self.working_directory, &scalar.text));
        let is_data_dir = key == DATA_DIR;
        let is_used = |path: &Path| if is_data_dir { has_files(path, &before) } else { path.exists() };
        if now != before && is_used(&before) && !is_used(&now) {
            let reason = format!(
                "a path is relative to the folder of this file: `{}` does not exist, but `{}` does",
                now.display(),
                before.display()
            );
            report.error(Some(at), key, reason).hint("write the path that you mean from `/` on, or move it");
        }
        if let Some(now) = now.to_str() {
            scalar.text = now.to_owned();
        }
    }

    /// Writes the default of `data_dir` into the tree.
    fn set_data_dir(&self, root: &mut YamlNode, report: &mut Report) {
        let at = root.at;
        let YamlValue::Map(entries) = &mut root.value else { return };
        if entries.iter().any(|entry| entry.key == DATA_DIR) {
            return;
        }
        let before = self.working_directory.join(DEFAULT_DATA_DIR);
        let now = self.state_directory.clone().unwrap_or_else(|| before.clone());
        if now != before && has_files(&before, &before) && !has_files(&now, &before) {
            let reason = format!(
                "the default is `{}`, which ${STATE_DIRECTORY} names, but the gateway's files are in `{}`",
                now.display(),
                before.display()
            );
            let hint = format!("write `{DATA_DIR}: {}`, or move the files", before.display());
            report.error(Some(at), DATA_DIR, reason).hint(hint);
        }
        if let Some(text) = now.to_str() {
            let scalar = Scalar { text: text.to_owned(), is_plain: false };
            let node = YamlNode { at, value: YamlValue::Scalar(scalar) };
            entries.push(YamlEntry { key: DATA_DIR.to_owned(), at, node });
        }
    }
}

/// The schema of a key of a map.
fn property(schema: &'static Schema, key: &str) -> Option<&'static Schema> {
    let mut known = properties(schema);
    known.find(|(name, _)| *name == key).map(|(_, below)| below).or_else(|| free_values(schema))
}

/// Whether values of `schema` are paths.
pub(super) fn is_path(schema: &Schema) -> bool {
    schema.get("format").and_then(Schema::as_str) == Some("path")
}

/// `text` as an absolute path; a relative path is below `folder`.
fn below(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join(text);
    path::absolute(&path).unwrap_or(path)
}

/// Whether there is anything in `folder` besides `other`.
fn has_files(folder: &Path, other: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|entry| entry != other)
}

/// Refuses what is no path on the systems that the gateway runs on.
pub(super) fn check(text: &str) -> Result<(), InvalidValue> {
    let drive = text.as_bytes().get(..3);
    let has_drive = drive
        .is_some_and(|start| matches!(start, [letter, b':', b'\\' | b'/'] if letter.is_ascii_alphabetic()));
    let (reason, hint) = match text {
        "" => ("is empty", "write a path, or remove the key"),
        _ if text.contains('\0') => ("has a zero byte", "write the path without it"),
        _ if has_drive || text.starts_with("\\\\") => (
            "is a path of Windows",
            "write a path of the machine where the gateway runs, such as `/etc/menshen/key.pem`",
        ),
        _ if text.starts_with("~/") || text == "~" => {
            ("starts with `~`, which only a shell replaces", "write the path from `/` on")
        }
        _ if text.starts_with('$') || text.contains("${") => {
            ("has a variable, which only a shell replaces", "write the path from `/` on")
        }
        _ if text.contains("://") => ("is a URL, not a path", "write the path of a file on this machine"),
        _ => return Ok(()),
    };
    Err(InvalidValue::new(text, reason, hint))
}
