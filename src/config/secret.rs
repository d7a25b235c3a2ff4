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
            Self::Inline(text) => {
                findings
                    .warning(path, "the secret is written in the configuration file")
                    .hint("outside development, write `{ env: NAME }` or `{ file: path }`");
                Some(text.as_str().into())
            }
        }
    }
}
