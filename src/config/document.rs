//! A configuration that was read from a file: the values, and the place of each.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize as _;

use super::paths::PathBase;
use super::report::{Position, Report};
use super::tree::{self, YamlNode, YamlValue};
use super::{Config, Findings, rules, structure};

/// Largest configuration file. Real files have a few KiB; `/dev/zero`, named by mistake, must not
/// fill the memory.
const MAX_BYTES: u64 = 1024 * 1024;

/// A configuration whose keys and values all fit the schema.
///
/// [`Document::report`] has the contradictions between its values, and what the modules find.
#[derive(Debug)]
pub struct Document {
    /// The values.
    pub config: Config,
    name: String,
    root: YamlNode,
    contradictions: Findings,
}

impl Document {
    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// Everything that the schema does not allow, with line and column.
    pub fn load(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let refuse = |reason: String, hint: &str| {
            let mut report = Report::new(&name);
            report.error(None, "", reason).hint(hint);
            report
        };
        let unreadable = |error: io::Error| {
            let mut report = Report::new(&name);
            report
                .error(None, "", format!("cannot read the file: {error}"))
                .of_surroundings()
                .hint("check the path and its permissions");
            report
        };
        let bytes = read(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                refuse("there is no such file".into(), "name the file with `--config FILE` or MENSHEN_CONFIG")
            }
            io::ErrorKind::IsADirectory => refuse("this is a directory".into(), "name a file"),
            io::ErrorKind::FileTooLarge => {
                refuse("the file is larger than 1 MiB".into(), "is it the configuration file?")
            }
            _ => unreadable(error),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before =
                String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            let mut report = Report::new(&name);
            report
                .error(Some(end_of(&before)), "", "the file is not UTF-8 from here on")
                .hint("save the file as UTF-8");
            report
        })?;
        let base = PathBase::of(path).map_err(|error| {
            refuse(format!("the working directory cannot be used: {error}"), "start in another folder")
        })?;
        Self::read(&name, &text, Some(&base))
    }

    /// Reads a configuration from `text`; `name` stands for the file in messages. There is no file,
    /// so paths stay as they are written.
    ///
    /// # Errors
    /// Everything that the schema does not allow, with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        Self::read(name, text, None)
    }

    pub(super) fn read(name: &str, text: &str, base: Option<&PathBase>) -> Result<Self, Report> {
        let mut report = Report::new(name);
        let mut root = match tree::parse(text) {
            Ok(Some(root)) => root,
            Ok(None) => {
                report.error(None, "", "the file is empty").hint("start from conf/minimal.yaml");
                return Err(report);
            }
            Err(error) => {
                report.error(Some(error.at), "", error.reason).hint = error.hint.map(str::to_owned);
                return Err(report);
            }
        };
        structure::check(&root, &mut report);
        if let Some(base) = base {
            base.resolve(&mut root, &mut report);
        }
        if report.has_errors() {
            return Err(report);
        }
        // Read from the tree that was checked: a second parser could read the text in another way.
        let config = match Config::deserialize(root.to_json()) {
            Ok(config) => config,
            Err(error) => {
                report.error(None, "", error.to_string());
                return Err(report);
            }
        };
        let contradictions = rules::check(&config);
        root.forget_texts();
        Ok(Self { config, name: name.to_owned(), root, contradictions })
    }

    /// Reports the findings of the modules and the contradictions of the file, each with its place.
    /// If the report has errors, the configuration must not be used.
    pub fn report(&self, findings: Findings) -> Report {
        let mut report = Report::new(&self.name);
        let locate = |path: &str| (!path.is_empty()).then(|| locate(&self.root, path));
        report.extend(&self.contradictions, locate);
        report.extend(&findings, locate);
        report
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn end_of(text: &str) -> Position {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Position { line: text.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

/// The place of the value at a key path, or of its nearest parent that exists.
fn locate(node: &YamlNode, path: &str) -> Position {
    descend(node, path).map_or(node.at, |(below, rest)| locate(below, rest))
}

/// Goes one step down a key path. The longest key wins: names of apps and upstreams can have dots.
fn descend<'n, 'p>(node: &'n YamlNode, path: &'p str) -> Option<(&'n YamlNode, &'p str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    match &node.value {
        YamlValue::Scalar(_) => None,
        YamlValue::List(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            Some((items.get(index.parse::<usize>().ok()?)?, rest))
        }
        YamlValue::Map(entries) => entries
            .iter()
            .filter_map(|entry| Some((entry, path.strip_prefix(entry.key.as_str())?)))
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with(['.', '[']))
            .max_by_key(|(entry, _)| entry.key.len())
            .map(|(entry, rest)| (&entry.node, rest)),
    }
}
