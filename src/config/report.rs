//! Findings with their places in the file, as an operator reads them.

use std::fmt;

use super::{Finding, Severity};

/// All findings about one configuration file. They are sorted by line when they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    name: String,
    entries: Vec<PlacedFinding>,
}

/// A place in the file. Lines and columns begin at 1; a column is a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PlacedFinding {
    at: Option<Position>,
    finding: Finding,
}

impl Report {
    /// An empty report about the file `name`.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), entries: Vec::new() }
    }

    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.entries.iter().any(|entry| entry.finding.severity == Severity::Error)
    }

    /// Whether all errors lie in the surroundings, so that the same configuration may be usable
    /// later.
    pub fn may_pass(&self) -> bool {
        let mut errors = self.findings().filter(|finding| finding.severity == Severity::Error).peekable();
        errors.peek().is_some() && errors.all(|finding| finding.is_of_surroundings)
    }

    /// Whether there are no findings.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The findings, in the order they were added.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.entries.iter().map(|entry| &entry.finding)
    }

    /// Adds an error and returns it, so that a hint can be added.
    pub(super) fn error(
        &mut self,
        at: Option<Position>,
        path: impl Into<String>,
        reason: impl Into<String>,
    ) -> &mut Finding {
        let finding = Finding {
            severity: Severity::Error,
            path: path.into(),
            reason: reason.into(),
            hint: None,
            is_of_surroundings: false,
            is_cause: false,
        };
        self.entries.push(PlacedFinding { at, finding });
        let last = self.entries.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "an element was pushed on the line above")]
        &mut self.entries[last].finding
    }

    /// Adds the contradictions of a file and what the modules found, and looks up their places. A
    /// finding that is already there, or that comes from another, is not added.
    pub(super) fn extend_without_follow_ups(
        &mut self,
        contradictions: &[Finding],
        found: Vec<Finding>,
        locate: impl Fn(&str) -> Option<Position>,
    ) {
        let all: Vec<Finding> = contradictions.iter().cloned().chain(found).collect();
        let causes: Vec<(usize, &Finding)> =
            all.iter().enumerate().filter(|(_, finding)| finding.is_cause).collect();
        for (index, finding) in all.iter().enumerate() {
            let comes_from = |(cause_index, cause): &(usize, &Finding)| {
                *cause_index != index && !finding.is_cause && finding.is_related_to(&cause.path)
            };
            let entry = PlacedFinding { at: locate(&finding.path), finding: finding.clone() };
            if !causes.iter().any(comes_from) && !self.entries.contains(&entry) {
                self.entries.push(entry);
            }
        }
    }
}

impl fmt::Display for Report {
    /// Writes one line for each finding: `FILE:LINE:COLUMN: error: KEY.PATH: reason; hint`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries: Vec<&PlacedFinding> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.at);
        for (index, PlacedFinding { at, finding }) in entries.into_iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            write!(f, "{newline}{}", self.name)?;
            if let Some(Position { line, column }) = at {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {severity}: {finding}")?;
        }
        Ok(())
    }
}
