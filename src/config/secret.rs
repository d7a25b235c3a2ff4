//! Reads a secret from the place that the configuration names.

use std::{env, fs};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::value::{EnvSecret, FileSecret};
use super::{Findings, SecretSource, warn_of_exposed_file};

impl SecretSource {
    /// Reads the secret. A finding at `path` says what is missing, or warns about an inline secret.
    pub fn read(&self, path: &str, findings: &mut Findings) -> Option<SecretString> {
        match self {
            Self::Env(EnvSecret { env: name }) => match env::var(name) {
                Ok(text) if !text.is_empty() => Some(text.into()),
                Ok(_) => {
                    findings.error(path, format!("environment variable `{name}` is empty"));
                    None
                }
                Err(_) if !is_variable_name(name) => {
                    // It can be the secret itself, which no message shows.
                    findings
                        .error(path, "the text after `env` is not the name of an environment variable")
                        .hint("write letters, digits and `_`, such as `{ env: SHOP_SECRET }`");
                    None
                }
                Err(_) => {
                    findings
                        .error(path, format!("environment variable `{name}` is not set, or is not UTF-8"))
                        .hint(format!("set `{name}` before the gateway starts, or name another source"));
                    None
                }
            },
            Self::File(FileSecret { file }) => match fs::read_to_string(file).map(Zeroizing::new) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    let text = text.strip_suffix('\r').unwrap_or(text);
                    if text.is_empty() {
                        findings.error(path, format!("file `{}` is empty", file.display()));
                        return None;
                    }
                    warn_of_exposed_file(path, file, findings);
                    Some(text.into())
                }
                Err(error) => {
                    findings
                        .error(path, format!("file `{}` cannot be read: {error}", file.display()))
                        .of_surroundings();
                    None
                }
            },
            Self::Inline(text) if text.is_empty() => {
                findings.error(path, "the secret is empty").hint("write `{ env: NAME }` or `{ file: path }`");
                None
            }
            Self::Inline(text) if placeholder(text).is_some() => {
                let reason = placeholder(text).unwrap_or_default();
                findings
                    .error(path, format!("this {reason}"))
                    .hint("write `{ env: NAME }`; if it is the secret itself, put it into a file");
                None
            }
            Self::Inline(text) => {
                findings
                    .warning(path, "the secret is written in the configuration file")
                    .hint("outside development, write `{ env: NAME }` or `{ file: path }`");
                Some(text.as_str().into())
            }
        }
    }
}

/// Why a text is the place of a secret, which a shell or a template should have replaced, and not a
/// secret.
pub fn placeholder(text: &str) -> Option<&'static str> {
    let is_between =
        |start, end| text.strip_prefix(start).is_some_and(|rest: &str| rest.ends_with(end) && rest.len() > 1);
    let is_variable = text.strip_prefix('$').is_some_and(is_variable_name);
    if is_variable || is_between("${", "}") || is_between("$(", ")") || is_between("%", "%") {
        Some("is the name of a variable, which nothing replaces here")
    } else if is_between("{{", "}}") || is_between("<", ">") {
        Some("is a template that was not filled in")
    } else {
        None
    }
}

fn is_variable_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
