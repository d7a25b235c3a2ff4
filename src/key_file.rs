//! Secret keys on disk: checks who may use them and their folder, and makes the first one exactly
//! once.

pub(crate) mod named;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::config::{FileAccess, Findings};
use crate::entropy::{self, Entropy, NoEntropy};

/// Largest key file that is read; an RSA key of 8192 bits has 6.5 KiB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Mode bits that a file made by the gateway should not have: only the owner may read it.
const OWNER_ONLY: u32 = 0o077;
/// The mode bit that lets the group of the data directory write there.
const GROUP_MAY_WRITE: u32 = 0o020;

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
    #[error("may be written by every user of the machine (mode {0:04o})")]
    WritableByAll(u32),
    #[error("belongs to user {0}, who is neither root nor the user of this process")]
    ForeignOwner(u32),
    #[error("is larger than any private key")]
    TooLarge,
    #[error("cannot be made: {0}")]
    Create(#[source] io::Error),
    #[error("cannot be made: {0}")]
    NoEntropy(#[from] NoEntropy),
    #[error("cannot be made: {0}")]
    Generate(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("disappeared while it was made")]
    Vanished,
    #[error("is missing, and a new key would make everything invalid that was made with it")]
    Gone,
}

impl KeyFileError {
    /// Whether the cause lies in the surroundings, and not in the configuration or in who may use
    /// the file.
    const fn lies_in_surroundings(&self) -> bool {
        match self {
            Self::WritableByAll(_) | Self::ForeignOwner(_) | Self::TooLarge => false,
            Self::Read(_)
            | Self::Create(_)
            | Self::NoEntropy(_)
            | Self::Generate(_)
            | Self::Vanished
            | Self::Gone => true,
        }
    }
}

/// Reads a key file that an operator made; `None` if there is none. The warnings about its owner
/// and mode are in [`config::warn_of_exposed_file`](crate::config::warn_of_exposed_file).
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    Ok(read_with_access(path)?.map(|file| file.key))
}

/// What a key file holds, and which users may use it.
struct KeyFile {
    key: Zeroizing<Vec<u8>>,
    access: FileAccess,
}

fn read_with_access(path: &Path) -> Result<Option<KeyFile>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyFileError::Read(error)),
    };
    // From the open file, not from the path: the path may name another file by now.
    let metadata = file.metadata().map_err(KeyFileError::Read)?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(KeyFileError::TooLarge);
    }
    let mut key = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(MAX_FILE_BYTES).read_to_end(&mut key).map_err(KeyFileError::Read)?;
    Ok(Some(KeyFile { key, access: FileAccess::of(&metadata) }))
}

/// Reads the key that the gateway made itself, or makes it now. Other users who may read it are a
/// warning.
///
/// # Errors
/// Another user may have put the key there: it is refused, except by a check, which may run as
/// another user than the gateway.
pub(crate) fn read_or_make(
    path: &Path,
    missing: OnMissingKey,
    entropy: &dyn Entropy,
    findings: &mut Findings,
    make: impl FnOnce() -> Result<SecretString, KeyFileError>,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    if let Some(key) = read_own(path, missing, findings)? {
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
    read_own(path, missing, findings)?.ok_or(KeyFileError::Vanished)
}

fn read_own(
    path: &Path,
    missing: OnMissingKey,
    findings: &mut Findings,
) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let Some(KeyFile { key, access }) = read_with_access(path)? else { return Ok(None) };
    refuse_others(access, path, missing, findings)?;
    if access.mode & OWNER_ONLY != 0 {
        let reason =
            format!("file `{}` may be read by other users (mode {:04o})", path.display(), access.mode);
        findings.warning("data_dir", reason).hint(fix_of_mode(path));
    }
    Ok(Some(key))
}

/// Checks the data directory before anything is read from it: another user who may write there can
/// put a key, or a whole store, in the place of the gateway's. A directory that is not there is
/// made later.
pub fn check_data_dir(path: &Path, missing: OnMissingKey, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let access = FileAccess::of(&metadata);
    let name = path.display();
    match refuse_others(access, path, missing, findings) {
        Ok(()) if access.mode & GROUP_MAY_WRITE != 0 => {
            let reason = format!("folder `{name}` may be written by its group (mode {:04o})", access.mode);
            findings.warning("data_dir", reason).hint(format!("run `chmod g-w {name}`"));
        }
        Ok(()) => {}
        Err(error) => {
            let finding = findings.error("data_dir", format!("folder `{name}` {error}"));
            finding.hint(match error {
                KeyFileError::ForeignOwner(_) => {
                    format!("run `chown` on `{name}`, or run the gateway as its owner")
                }
                _ => format!("run `chmod 700 {name}`; if another user could write there, make new keys"),
            });
        }
    }
}

/// Refuses a file or folder that another user could have written. A foreign owner is only a warning
/// of a check: it may run as root, and the gateway as the owner.
fn refuse_others(
    access: FileAccess,
    path: &Path,
    missing: OnMissingKey,
    findings: &mut Findings,
) -> Result<(), KeyFileError> {
    if access.is_writable_by_all() {
        return Err(KeyFileError::WritableByAll(access.mode));
    }
    if !access.has_foreign_owner() {
        return Ok(());
    }
    let error = KeyFileError::ForeignOwner(access.owner);
    if missing != OnMissingKey::Ephemeral {
        return Err(error);
    }
    findings
        .warning("data_dir", format!("`{}` {error}", path.display()))
        .hint("a gateway that runs as this user does not start; run the check as the gateway's user");
    Ok(())
}

/// Reports a key file that cannot be used. `keys` is the configuration key that may name another
/// file.
pub(crate) fn refuse(at: &str, path: &Path, error: &KeyFileError, keys: &str, findings: &mut Findings) {
    let finding = findings.error(at, format!("file `{}` {error}", path.display()));
    finding.is_of_surroundings = error.lies_in_surroundings();
    match error {
        KeyFileError::Gone => {
            finding.hint("put it back; or restart the gateway, which makes a new one");
        }
        KeyFileError::WritableByAll(_) => {
            finding.hint(fix_of_mode(path));
        }
        KeyFileError::ForeignOwner(_) => {
            finding.hint(format!("run `chown` on `{}`, or run the gateway as its owner", path.display()));
        }
        KeyFileError::Create(_) => {
            finding.hint(format!("make the folder writable for the gateway, or name a key under `{keys}`"));
        }
        _ => {}
    }
}

fn fix_of_mode(path: &Path) -> String {
    format!("run `chmod 600 {}`; if others could read it, make a new key", path.display())
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
