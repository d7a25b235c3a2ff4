//! Secret keys on disk: checks their permissions, and makes the first one exactly once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::config::Findings;
use crate::entropy::{self, Entropy, NoEntropy};

/// Largest key file that is read; an RSA key of 8192 bits has 6.5 KiB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Mode bits that a file made by the gateway must not have: only the owner may read it.
pub(crate) const OWNER_ONLY: u32 = 0o077;
/// Mode bits that another key file must not have. The group may read it: container platforms mount
/// secrets so for a user that is not root.
pub(crate) const GROUP_MAY_READ: u32 = 0o037;

/// What to do if no key is configured and none was made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissingKey {
    /// Make a key and write it to the data directory.
    Create,
    /// Make a key in memory and write nothing: for the check of a configuration.
    Ephemeral,
    /// Report an error: the gateway has issued tokens with the key that is missing.
    Refuse,
}

/// Why a key file cannot be used, or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error("may be read or written by other users (mode {0:04o})")]
    Exposed(u32),
    #[error("is larger than any private key")]
    TooLarge,
    #[error("cannot be made: {0}")]
    Create(#[source] io::Error),
    #[error("cannot be made: {0}")]
    NoEntropy(#[from] NoEntropy),
    #[error("cannot be made: {0}")]
    Generate(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("vanished while it was made")]
    Vanished,
    #[error("is gone, and what was made with it would be worth nothing with a new one in its place")]
    Gone,
}

/// Reads a key file; `None` when there is none. `forbidden` are the mode bits it must not have.
pub(crate) fn read(path: &Path, forbidden: u32) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyFileError::Read(error)),
    };
    // From the open file, not from the path: the path may name another file by now.
    let metadata = file.metadata().map_err(KeyFileError::Read)?;
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeyFileError::Exposed(mode));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(KeyFileError::TooLarge);
    }
    let mut pem = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(MAX_FILE_BYTES).read_to_end(&mut pem).map_err(KeyFileError::Read)?;
    Ok(Some(pem))
}

/// Reads the key that the gateway made itself, or makes it now.
pub(crate) fn read_or_make(
    path: &Path,
    missing: OnMissingKey,
    entropy: &dyn Entropy,
    make: impl FnOnce() -> Result<SecretString, KeyFileError>,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    if let Some(key) = read(path, OWNER_ONLY)? {
        return Ok(key);
    }
    if missing == OnMissingKey::Refuse {
        return Err(KeyFileError::Gone);
    }
    let made = make()?;
    if missing == OnMissingKey::Ephemeral {
        return Ok(Zeroizing::new(made.expose_secret().as_bytes().to_vec()));
    }
    publish(path, made.expose_secret(), entropy)?;
    // Another process may have been first: what counts is what lies there now.
    read(path, OWNER_ONLY)?.ok_or(KeyFileError::Vanished)
}

/// Reports a key file that cannot be used. `keys` is the configuration key that may name another
/// file.
pub(crate) fn refuse(at: &str, path: &Path, error: &KeyFileError, keys: &str, findings: &mut Findings) {
    let finding = findings.error(at, format!("file `{}` {error}", path.display()));
    match error {
        KeyFileError::Gone => {
            finding.hint("put it back; or restart the gateway, which makes a new one");
        }
        KeyFileError::Exposed(_) => {
            finding
                .hint(format!("run `chmod 600 {}`; if others could read it, make a new key", path.display()));
        }
        KeyFileError::Create(_) => {
            finding.hint(format!("make the folder writable for the gateway, or name a key under `{keys}`"));
        }
        _ => {}
    }
}

/// Writes a new key. If another process has made one in the meantime, that one stays.
///
/// The key is written completely, and synced to disk, under a temporary name, and then linked to
/// `path`: link(2) fails if the name exists. rename(2) would replace a key that another process has
/// begun to sign with.
fn publish(path: &Path, pem: &str, entropy: &dyn Entropy) -> Result<(), KeyFileError> {
    let directory = path.parent().filter(|parent| *parent != "").unwrap_or(Path::new("."));
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.{}.tmp", entropy::identifier(entropy)?));

    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(KeyFileError::Create)?;
    let linked = write_new(&draft, pem).and_then(|()| fs::hard_link(&draft, path));
    // A draft that stays is an unused key that only its owner can read.
    let _ = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(KeyFileError::Create(error)),
        _ => sync_directory(directory).map_err(KeyFileError::Create),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Without this, a power failure can lose the name of a file whose bytes are on disk.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
