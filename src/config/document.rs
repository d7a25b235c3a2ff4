//! A configuration as it was read from a file: the values, and where each stands.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize as _;

use super::report::{Position, Report};
use super::tree::{self, YamlNode, YamlValue};
use super::{Config, Findings, rules, structure};

/// Largest configuration file read. A real one is a few KiB; `/dev/zero` named by accident must not fill the memory.
const MAX_BYTES: u64 = 1024 * 1024;

/// A configuration of which every key and value is what the schema allows.
///
/// What makes no sense in it stands in [`Document::report`], together with what the modules find: all at once.
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
    /// Everything in it that the schema does not allow, with line and column.
    pub fn load(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let refuse = |reason: String, hint: &str| {
            let mut report = Report::new(&name);
            report.error(None, "", reason).hint(hint);
            report
        };
        let bytes = read(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                refuse("there is no such file".into(), "name one with `--config FILE` or MENSHEN_CONFIG")
            }
            io::ErrorKind::IsADirectory => refuse("this is a directory".into(), "name the file in it"),
            io::ErrorKind::FileTooLarge => {
                refuse("larger than 1 MiB".into(), "is this the configuration file?")
            }
            _ => refuse(format!("cannot be read: {error}"), "check the path and its permissions"),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before =
                String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            let mut report = Report::new(&name);
            report.error(Some(end_of(&before)), "", "not UTF-8 from here on").hint("save the file as UTF-8");
            report
        })?;
        Self::parse(&name, &text)
    }

    /// Reads a configuration from `text`; `name` stands for the file in messages.
    ///
    /// # Errors
    /// Everything in it that the schema does not allow, with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        let mut report = Report::new(name);
        let mut root = match tree::parse(text) {
            Ok(Some(root)) => root,
            Ok(None) => {
                report.error(None, "", "nothing is configured here").hint("start from conf/minimal.yaml");
                return Err(report);
            }
            Err(error) => {
                report.error(Some(error.at), "", error.reason).hint = error.hint.map(str::to_owned);
                return Err(report);
            }
        };
        structure::check(&root, &mut report);
        if report.has_errors() {
            return Err(report);
        }
        // From the tree that was checked: two readings of one text could differ.
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

    /// Places findings of the modules in the file, beside what the file itself contradicts. A report with errors
    /// is a configuration that must not be used.
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

/// Where the value at a key path stands, or its nearest parent that exists.
fn locate(node: &YamlNode, path: &str) -> Position {
    descend(node, path).map_or(node.at, |(below, rest)| locate(below, rest))
}

/// Takes one step of a key path. The longest key wins: names of apps and upstreams may hold dots.
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
