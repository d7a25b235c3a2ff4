//! The files and folders that a start writes or needs, looked at without writing anything.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Access, access};

use crate::config::{AccessLogTarget, Config, FileAccess, Findings, StoreEngine};

/// The part of a private key's file that says whether it is encrypted.
const KEY_HEAD_BYTES: u64 = 16 * 1024;

/// Reports what a start could not write: its data directory, the store's file, the logs.
pub(super) fn check_writable(config: &Config, findings: &mut Findings) {
    let is_embedded = config.store.engine == StoreEngine::Embedded;
    if let Some(reason) = folder_refusal(&config.data_dir) {
        let needs_keys = config.tokens.keys.is_empty() || config.sessions.seal_keys.is_empty();
        // With its store on Redis and its keys at hand a gateway starts without the folder.
        let is_needed = is_embedded || needs_keys && !config.data_dir.exists();
        let finding = if is_needed {
            findings.error("data_dir", reason)
        } else {
            findings.warning("data_dir", format!("{reason}; operators cannot reach this gateway"))
        };
        finding.hint("let the gateway's user write there, or write another `data_dir`").cause();
    }
    if let Some(file) = config.store.embedded.file.as_deref().filter(|_| is_embedded)
        && let Some(reason) = file_refusal(file, true)
    {
        findings
            .error("store.embedded.file", reason)
            .hint("let the gateway's user write there, or write another file");
    }
    let access_log = config.telemetry.access_log.file.as_deref();
    let access_log = access_log.filter(|_| config.telemetry.access_log.target == AccessLogTarget::File);
    let audit_log = config.telemetry.audit_log.file.as_deref();
    for (key, file) in [("access_log", access_log), ("audit_log", audit_log)] {
        if let Some(reason) = file.and_then(|file| file_refusal(file, false)) {
            findings
                .error(format!("telemetry.{key}.file"), reason)
                .hint("make the folder, and let the gateway's user write there");
        }
    }
}

/// Why a file cannot be written; `None` if it can. `makes_folder` is whether its folder is made.
fn file_refusal(file: &Path, makes_folder: bool) -> Option<String> {
    let name = file.display();
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => Some(format!("`{name}` is a folder, not a file")),
        Ok(_) => {
            refusal(file, Access::WRITE_OK).map(|reason| format!("file `{name}` cannot be written: {reason}"))
        }
        Err(_) => {
            let folder = file.parent().unwrap_or(file);
            if !makes_folder && !folder.exists() {
                let folder = folder.display();
                return Some(format!("`{name}` cannot be made: there is no folder `{folder}`"));
            }
            folder_refusal(folder)
        }
    }
}

/// Why no file can be made in a folder, which is made if it is not there; `None` if one can.
fn folder_refusal(folder: &Path) -> Option<String> {
    let name = folder.display();
    for ancestor in folder.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        let metadata = match fs::metadata(ancestor) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(error) => return Some(format!("folder `{name}` cannot be used: {error}")),
        };
        if !metadata.is_dir() {
            return Some(if ancestor == folder {
                format!("`{name}` is a file, not a folder")
            } else {
                format!("folder `{name}` cannot be made: `{}` is a file", ancestor.display())
            });
        }
        // The check of the owner says more about a folder of another user.
        if ancestor == folder && FileAccess::of(&metadata).has_foreign_owner() {
            return None;
        }
        let reason = refusal(ancestor, Access::WRITE_OK | Access::EXEC_OK)?;
        return Some(if ancestor == folder {
            format!("folder `{name}` cannot be written: {reason}")
        } else {
            format!("folder `{name}` cannot be made: `{}` cannot be written: {reason}", ancestor.display())
        });
    }
    None
}

fn refusal(path: &Path, wanted: Access) -> Option<io::Error> {
    access(path, wanted).err().map(io::Error::from)
}

/// Refuses private keys that need a passphrase, before what loads them says only that there is no
/// key.
pub(super) fn refuse_encrypted_keys(config: &Config, findings: &mut Findings) {
    for (at, file) in private_keys(config) {
        if is_encrypted(file) {
            let name = file.display();
            findings
                .error(
                    at,
                    format!("the private key in `{name}` is encrypted, and the gateway has no passphrase"),
                )
                .hint(format!("decrypt it with `openssl pkey -in {name} -out FILE`, and write `FILE`"))
                .cause();
        }
    }
}

/// Every file with a private key, with its key in the configuration.
fn private_keys(config: &Config) -> Vec<(String, &Path)> {
    let mut files: Vec<(String, &Path)> = Vec::new();
    let internal = config.internal.iter().filter_map(|internal| internal.tls.as_ref());
    let internal = internal.map(|tls| ("internal.tls".to_owned(), &tls.certificates));
    let listeners = config.listeners.iter().enumerate().filter_map(|(index, listener)| {
        Some((format!("listeners[{index}].tls"), &listener.tls.as_ref()?.certificates))
    });
    for (at, certificates) in listeners.chain(internal) {
        let keys = certificates.iter().enumerate();
        files.extend(keys.map(|(index, pair)| (format!("{at}.certificates[{index}].key"), &*pair.key)));
    }
    files.extend(config.upstreams.iter().filter_map(|(name, upstream)| {
        let pair = upstream.tls.as_ref()?.client_certificate.as_ref()?;
        Some((format!("upstreams.{name}.tls.client_certificate.key"), &*pair.key))
    }));
    let redis = config.store.redis.tls.as_ref().filter(|_| config.store.engine == StoreEngine::Redis);
    let redis = redis.and_then(|tls| tls.key.as_deref());
    files.extend(redis.map(|file| ("store.redis.tls.key".to_owned(), file)));
    let signing = config.tokens.keys.iter().enumerate();
    files.extend(
        signing.filter_map(|(index, key)| Some((format!("tokens.keys[{index}].file"), key.file.as_deref()?))),
    );
    files
}

/// Whether a file has a private key under a passphrase: PKCS#8 (RFC 5958) or the older form of
/// OpenSSL (RFC 1421).
fn is_encrypted(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(KEY_HEAD_BYTES).read_to_end(&mut head));
    let text = String::from_utf8_lossy(&head);
    read.is_ok()
        && (text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED"))
}
