//! A configuration as it is written, right or wrong: everything that can be checked of it, in one
//! run.

use std::io;
use std::path::Path;

use serde::Deserialize as _;

use super::document::{Document, read_text};
use super::paths::PathBase;
use super::repair::{self, Repaired};
use super::report::{Position, Report};
use super::slips::{self, Rescued};
use super::tree::{self, YamlNode, YamlValue};
use super::{Config, Finding, Findings, rules, structure};

/// Most words that are tried in the place of one that is not known.
const MAX_CHOICES: usize = 8;

/// Keys of routes whose values name entries of a section. If the section itself is wrong, that they
/// name nothing is no second mistake.
const REFERENCES: [(&str, &[&str]); 3] = [
    ("apps", &[".apps[", ".sign_in[", ".require_unionid", "login.origins"]),
    ("lists", &[".allow_lists[", ".deny_lists["]),
    ("upstreams", &[".upstream"]),
];

/// A configuration that may be wrong.
///
/// If it is, [`Draft::readings`] has what its author may have meant: where a word is not known, one
/// reading for each word that could stand there. What is found in all of them is wrong in any case.
#[derive(Debug)]
pub struct Draft {
    root: YamlNode,
    /// What does not fit the schema.
    misfits: Report,
    /// Key paths of values that stand in for others.
    doubtful: Vec<String>,
    readings: Vec<Config>,
    /// What contradicts itself in every reading.
    contradictions: Vec<Finding>,
}

impl Draft {
    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// If nothing of it can be read: there is no such file, or it is not YAML.
    pub fn load(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let text = read_text(&name, path)?;
        let base = PathBase::of(path).map_err(|error: io::Error| {
            let mut report = Report::new(&name);
            report
                .error(None, "", format!("the working directory cannot be used: {error}"))
                .hint("start in another folder");
            report
        })?;
        Self::read(&name, &text, Some(&base))
    }

    /// Reads a configuration from `text`. Without `base`, paths stay as they are written.
    pub(super) fn read(name: &str, text: &str, base: Option<&PathBase>) -> Result<Self, Report> {
        let mut misfits = Report::new(name);
        let root = match tree::parse(text) {
            Ok(Some(root)) => root,
            Ok(None) => {
                misfits.error(None, "", "the file is empty").hint("start from conf/minimal.yaml");
                return Err(misfits);
            }
            Err(error) => return Self::rescue(name, slips::rescue(text, error), base),
        };
        structure::check(&root, &[], &mut misfits);
        if !misfits.has_errors() {
            return Self::of_sound(root, base, misfits);
        }
        match slips::rescue_keys(text) {
            Some(rescued) => Self::rescue(name, rescued, base),
            None => Self::repair(name, &root, Vec::new(), base, misfits),
        }
    }

    /// What can be checked of a file with errors of syntax.
    fn rescue(name: &str, rescued: Rescued, base: Option<&PathBase>) -> Result<Self, Report> {
        let mut misfits = Report::new(name);
        for error in rescued.errors {
            misfits.error(Some(error.at), "", error.reason).hint = error.hint.map(str::to_owned);
        }
        let Some(root) = rescued.root else { return Err(misfits) };
        structure::check(&root, &rescued.left_out, &mut misfits);
        Self::repair(name, &root, rescued.left_out, base, misfits)
    }

    fn of_sound(mut root: YamlNode, base: Option<&PathBase>, mut misfits: Report) -> Result<Self, Report> {
        let doubtful = resolve(base, &mut root, &mut misfits);
        // Read from the tree that was checked: a second parser could read the text in another way.
        match Config::deserialize(root.to_json()) {
            Ok(config) => Ok(Self::of_readings(root, misfits, doubtful, vec![config])),
            Err(error) => {
                misfits.error(None, "", error.to_string());
                Err(misfits)
            }
        }
    }

    fn repair(
        name: &str,
        written: &YamlNode,
        left_out: Vec<String>,
        base: Option<&PathBase>,
        mut misfits: Report,
    ) -> Result<Self, Report> {
        if !matches!(written.value, YamlValue::Map(_)) {
            return Err(misfits);
        }
        let Repaired { mut root, mut doubtful, choices } = repair::repair(written, 0);
        doubtful.extend(left_out);
        doubtful.extend(resolve(base, &mut root, &mut misfits));
        let mut readings = Vec::from_iter(Config::deserialize(root.to_json()).ok());
        for choice in 1..choices.min(MAX_CHOICES) {
            let mut other = repair::repair(written, choice).root;
            if let Some(base) = base {
                base.resolve(&mut other, &mut Report::new(name));
            }
            readings.extend(Config::deserialize(other.to_json()).ok());
        }
        Ok(Self::of_readings(root, misfits, doubtful, readings))
    }

    fn of_readings(
        mut root: YamlNode,
        misfits: Report,
        doubtful: Vec<String>,
        readings: Vec<Config>,
    ) -> Self {
        root.forget_texts();
        let mut contradictions = in_all(readings.iter().map(rules::check));
        contradictions.retain(|finding| !is_follow_up(finding, &doubtful));
        Self { root, misfits, doubtful, readings, contradictions }
    }

    /// Whether the configuration must not be used, from what the file alone shows.
    pub fn has_errors(&self) -> bool {
        self.misfits.has_errors()
    }

    /// What can be checked. If the file has no errors: its one configuration.
    pub fn readings(&self) -> &[Config] {
        &self.readings
    }

    /// Reports what is wrong with the file, and what was found in every reading, each with its
    /// place. What may come from another mistake is left out.
    pub fn report(&self, found: impl IntoIterator<Item = Findings>) -> Report {
        let mut report = self.misfits.clone();
        let mut found = in_all(found);
        found.retain(|finding| !is_follow_up(finding, &self.doubtful));
        report.extend_without_follow_ups(&self.contradictions, found, |path| {
            (!path.is_empty()).then(|| locate(&self.root, path))
        });
        report
    }

    /// The configuration, if the file alone shows no errors.
    ///
    /// # Errors
    /// The report of them.
    pub fn into_document(mut self) -> Result<Document, Report> {
        if self.has_errors() {
            return Err(self.report([]));
        }
        match self.readings.pop() {
            Some(config) => Ok(Document::new(config, self)),
            None => Err(self.misfits),
        }
    }
}

/// Makes the paths absolute. Returns the keys of those that are refused: what else is found there
/// comes from it.
fn resolve(base: Option<&PathBase>, root: &mut YamlNode, misfits: &mut Report) -> Vec<String> {
    let known = misfits.findings().count();
    if let Some(base) = base {
        base.resolve(root, misfits);
    }
    misfits.findings().skip(known).map(|finding| finding.path.clone()).collect()
}

/// What every pass found.
fn in_all(passes: impl IntoIterator<Item = Findings>) -> Vec<Finding> {
    let mut passes = passes.into_iter();
    let mut common: Vec<Finding> =
        passes.next().map(|first| first.iter().cloned().collect()).unwrap_or_default();
    for pass in passes {
        common.retain(|finding| pass.iter().any(|other| other == finding));
    }
    common
}

/// Whether a finding may come from a value that stands in for a wrong one.
fn is_follow_up(finding: &Finding, doubtful: &[String]) -> bool {
    let refers = |section: &str| {
        let keys = REFERENCES.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, keys)| keys);
        keys.iter().any(|key| finding.path.contains(key))
    };
    doubtful.iter().any(|path| finding.is_related_to(path) || refers(path))
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
