//! The templates: the built-in ones, or an operator's.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use crate::config::Findings;

pub(super) const SIGN_IN: &str = "sign_in.html";
pub(super) const MESSAGE: &str = "message.html";
pub(super) const HAND_OVER: &str = "hand_over.html";
const LAYOUT: &str = "layout.html";

const DELIVERED: [(&str, &str); 4] = [
    (LAYOUT, include_str!("templates/layout.html")),
    (SIGN_IN, include_str!("templates/sign_in.html")),
    (MESSAGE, include_str!("templates/message.html")),
    (HAND_OVER, include_str!("templates/hand_over.html")),
];

const KEY: &str = "login.page.templates";
const MAX_BYTES: u64 = 256 * 1024;
const DOCUMENTATION: &str = "docs/browser.md says what a template may use";

/// Templates that parse, and their source.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    /// The operator's folder, and which are from there.
    replaced: Option<(PathBuf, Vec<String>)>,
}

impl Templates {
    /// The built-in templates.
    pub(super) fn delivered(findings: &mut Findings) -> Option<Self> {
        Self::new(None, &[], findings)
    }

    /// The templates of an operator's folder, and a built-in one for each that it does not have.
    pub(super) fn in_folder(folder: &Path, findings: &mut Findings) -> Option<Self> {
        let (replaced, is_complete) = read_folder(folder, findings);
        let templates = Self::new(Some(folder), &replaced, findings)?;
        is_complete.then_some(templates)
    }

    fn new(folder: Option<&Path>, replaced: &[(String, String)], findings: &mut Findings) -> Option<Self> {
        let names = replaced.iter().map(|(name, _)| name.clone()).collect();
        let mut templates =
            Self { environment: environment(), replaced: folder.map(|folder| (folder.to_owned(), names)) };
        let mut is_sound = true;
        for (name, source) in DELIVERED {
            let own = replaced.iter().find(|(known, _)| known == name).map(|(_, source)| source.clone());
            let source = own.map_or(Cow::Borrowed(source), Cow::Owned);
            if let Err(error) = templates.environment.add_template_owned(name, source) {
                templates.refuse(name, &error, findings);
                is_sound = false;
            }
        }
        is_sound.then_some(templates)
    }

    pub(super) fn render(&self, name: &str, view: &Value) -> Result<String, Error> {
        self.environment.get_template(name)?.render(view.clone())
    }

    /// Reports a page that shows no way to sign in: it must not be used.
    pub(super) fn refuse_dead_end(&self, rendered: &str, findings: &mut Findings) -> bool {
        let needed = if rendered == HAND_OVER { "`form.path`" } else { "`choices[0].href`" };
        let folder =
            self.replaced.as_ref().map(|(folder, _)| folder.display().to_string()).unwrap_or_default();
        findings
            .error(KEY, format!("{rendered}, with the templates of `{folder}`, does not link to {needed}"))
            .hint("a layout needs `{% block content %}`, and a page of your own needs the link");
        false
    }

    /// Reports a template that could not be rendered, with the file that has the mistake.
    pub(super) fn refuse(&self, rendered: &str, error: &Error, findings: &mut Findings) {
        let name = error.name().unwrap_or(rendered);
        let place = match &self.replaced {
            Some((folder, names)) if names.iter().any(|known| known == name) => {
                folder.join(name).display().to_string()
            }
            _ => format!("{name} (built-in)"),
        };
        refuse(&place, error, findings);
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // Names what is not defined.
    environment.set_debug(true);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(escaped);
    environment
}

/// Escapes a value as markup. It ignores `autoescape`, so that no template can switch escaping off.
/// The template is responsible for a value that it marks `safe`.
fn escaped(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let text = value.to_string();
    if value.is_safe() {
        return out.write_str(&text).map_err(Error::from);
    }
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'', '\0']) {
        let (plain, special) = rest.split_at(at);
        out.write_str(plain)?;
        let mut characters = special.chars();
        out.write_str(match characters.next() {
            Some('&') => "&amp;",
            Some('<') => "&lt;",
            Some('>') => "&gt;",
            Some('"') => "&quot;",
            Some('\'') => "&#39;",
            // A browser makes this of it, but only in some places.
            _ => "\u{fffd}",
        })?;
        rest = characters.as_str();
    }
    out.write_str(rest).map_err(Error::from)
}

#[derive(Debug, thiserror::Error)]
enum TemplateFileError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("is not a file")]
    NotAFile,
    #[error("is larger than 256 KiB")]
    TooLarge,
    #[error("is not UTF-8")]
    NotUtf8,
}

/// Every template of the folder that can be read, and whether all of them can be read.
fn read_folder(folder: &Path, findings: &mut Findings) -> (Vec<(String, String)>, bool) {
    let names = match names(folder) {
        Ok(names) => names,
        Err(error) => {
            findings
                .error(KEY, format!("folder `{}` cannot be read: {error}", folder.display()))
                .of_surroundings()
                .hint("give the path of a folder that the gateway may read, or leave the key out");
            return (Vec::new(), false);
        }
    };
    let mut templates = Vec::new();
    let mut is_complete = true;
    for name in names {
        let path = folder.join(&name);
        if DELIVERED.iter().all(|(known, _)| *known != name) {
            findings
                .error(KEY, format!("`{}` is not the name of a template", path.display()))
                .did_you_mean(&name, DELIVERED.map(|(known, _)| known));
            is_complete = false;
            continue;
        }
        match read_file(&path) {
            Ok(source) => templates.push((name, source)),
            Err(error) => {
                findings
                    .error(KEY, format!("template `{}` {error}", path.display()))
                    .hint("write a text file that the gateway may read");
                is_complete = false;
            }
        }
    }
    (templates, is_complete)
}

/// Names in the folder, without hidden names such as the `..data` of a Kubernetes volume.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_file(path: &Path) -> Result<String, TemplateFileError> {
    // Asked before it is opened: to open a pipe is to wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(TemplateFileError::NotAFile);
    }
    let mut source = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut source)?;
    if source.len() as u64 > MAX_BYTES {
        return Err(TemplateFileError::TooLarge);
    }
    String::from_utf8(source).map_err(|_| TemplateFileError::NotUtf8)
}

fn refuse(place: &str, error: &Error, findings: &mut Findings) {
    let line = error.line().map(|line| format!(" line {line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let reason = format!("template `{place}`{line}: {}{detail}", error.kind());
    // A mistake in the layout appears in every page.
    if findings.iter().any(|known| known.reason == reason) {
        return;
    }
    findings.error(KEY, reason).hint(match error.kind() {
        ErrorKind::SyntaxError => "the syntax is that of Jinja 2",
        ErrorKind::TemplateNotFound => {
            "a template may extend or include layout.html, sign_in.html, message.html and hand_over.html"
        }
        _ => DOCUMENTATION,
    });
}
