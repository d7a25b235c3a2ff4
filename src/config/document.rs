//! A configuration that was read from a file: the values, and the place of each.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::report::{Position, Report};
use super::{Config, Draft, Findings};

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
    draft: Draft,
}

impl Document {
    pub(super) const fn new(config: Config, draft: Draft) -> Self {
        Self { config, draft }
    }

    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// Everything that the schema does not allow, with line and column.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Draft::load(path)?.into_document()
    }

    /// Reads a configuration from `text`; `name` stands for the file in messages. There is no file,
    /// so paths stay as they are written.
    ///
    /// # Errors
    /// Everything that the schema does not allow, with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        Draft::read(name, text, None)?.into_document()
    }

    /// Reports the findings of the modules and the contradictions of the file, each with its place.
    /// If the report has errors, the configuration must not be used.
    pub fn report(&self, findings: Findings) -> Report {
        self.draft.report([findings])
    }
}

/// Reads the text of the file at `path`; `name` stands for it in messages.
pub(super) fn read_text(name: &str, path: &Path) -> Result<String, Report> {
    let refuse = |reason: String, hint: &str| {
        let mut report = Report::new(name);
        report.error(None, "", reason).hint(hint);
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
        _ => {
            let mut report = Report::new(name);
            report
                .error(None, "", format!("cannot read the file: {error}"))
                .of_surroundings()
                .hint("check the path and its permissions");
            report
        }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
        let mut report = Report::new(name);
        report
            .error(Some(end_of(&before)), "", "the file is not UTF-8 from here on")
            .hint("save the file as UTF-8");
        report
    })
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
