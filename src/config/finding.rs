//! Errors and warnings about a configuration, with their key paths. The loader adds file, line and
//! column.

use std::fmt;

use super::characters::is_invisible;

/// One error or warning about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the configuration can be used.
    pub severity: Severity,
    /// The key, such as `routes[2].upstream`; empty if the finding is about the whole file.
    pub path: String,
    /// What is wrong, with the wrong value (never a secret).
    pub reason: String,
    /// What to write instead: `write one of …`, `did you mean …?`.
    pub hint: Option<String>,
    /// Whether the cause lies in the surroundings, and not in the configuration: a file that cannot
    /// be read, a store in use. The same configuration may be usable later.
    pub is_of_surroundings: bool,
    /// Whether what else is found at this key comes from this, and is not reported.
    pub is_cause: bool,
}

/// Whether a configuration with this finding can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used, and the operator gets a warning.
    Warning,
}

/// All findings of one pass, so that an operator can fix them all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Adds an error at a key path.
    pub fn error(&mut self, path: impl Into<String>, reason: impl Into<String>) -> &mut Finding {
        self.push(Severity::Error, path.into(), reason.into())
    }

    /// Adds a warning at a key path.
    pub fn warning(&mut self, path: impl Into<String>, reason: impl Into<String>) -> &mut Finding {
        self.push(Severity::Warning, path.into(), reason.into())
    }

    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The findings, in the order they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.list.iter()
    }

    /// Adds the findings of another pass.
    pub fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// Runs the builder of one section with findings of its own, then adds them to these.
    ///
    /// Returns what was built, or `None` if the builder reported an error. An error of another
    /// section does not stop this one from being built and checked.
    pub fn scope<T>(&mut self, build: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut own = Self::default();
        let built = build(&mut own);
        let is_valid = !own.has_errors();
        self.extend(own);
        built.filter(|_| is_valid)
    }

    fn push(&mut self, severity: Severity, path: String, reason: String) -> &mut Finding {
        self.list.push(Finding {
            severity,
            path,
            reason,
            hint: None,
            is_of_surroundings: false,
            is_cause: false,
        });
        let last = self.list.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "an element was pushed on the line above")]
        &mut self.list[last]
    }
}

impl Finding {
    /// Adds what to write instead.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says that the cause lies in the surroundings, and not in the configuration.
    pub const fn of_surroundings(&mut self) -> &mut Self {
        self.is_of_surroundings = true;
        self
    }

    /// Says that what else is found at this key comes from this, and is not reported.
    pub const fn cause(&mut self) -> &mut Self {
        self.is_cause = true;
        self
    }

    /// Whether this is about the key at `path`, one below it, or one that it is in.
    pub(super) fn is_related_to(&self, path: &str) -> bool {
        let is_in = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        !self.path.is_empty() && (is_in(&self.path, path) || is_in(path, &self.path))
    }

    /// Adds the nearest of the `known` names to a name that is not one of them, or lists them all.
    pub fn did_you_mean<'a>(&mut self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> &mut Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(wrong, known.iter().copied()) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None if known.is_empty() => self,
            None => self.hint(format!("write one of: {}", known.join(", "))),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// The one of the `known` names that `wrong` most likely means.
pub(super) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&normalize(wrong), &normalize(name)), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// A name for comparison: `readTimeout`, `read-timeout` and `read_timeout` are the same.
fn normalize(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' ') && !is_invisible(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

/// A value for a message: not too long, and without characters that control a terminal.
pub(super) fn escape(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = text.chars().take(MOST).flat_map(escape_char).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

fn escape_char(c: char) -> impl Iterator<Item = char> {
    let (plain, escape) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escape.into_iter().flatten())
}
