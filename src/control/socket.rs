//! The file of the socket: only its owner can connect from the moment that it exists, one gateway
//! has it at a time, and one that a killed gateway left is replaced.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::config::Findings;
use crate::entropy::{self, Entropy};

/// The name in the data directory.
const NAME: &str = "control.socket";
/// The file whose lock says which gateway has the socket. A connection could not say it: a gateway
/// that has just bound the socket does not accept yet.
const LOCK: &str = "control.lock";
/// Longest path of a socket, in bytes: `sun_path` of unix(7) has 108, with a zero at the end.
const MAX_PATH_BYTES: usize = 107;

/// Where the socket of a data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// The path by which the socket is made and used: relative to the working directory if only then it
/// is short enough.
pub(super) fn shortest(path: &Path) -> PathBuf {
    let folder = env::current_dir().unwrap_or_default();
    let below = path.strip_prefix(folder).ok();
    below.filter(|_| path.as_os_str().len() > MAX_PATH_BYTES).unwrap_or(path).to_owned()
}

/// A socket that is bound. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Held for as long as the socket is.
    _lock: File,
}

/// Why a socket cannot be bound.
#[derive(Debug, thiserror::Error)]
enum ControlSocketError {
    #[error("belongs to another running gateway")]
    InUse,
    #[error("cannot be made: {0}")]
    Io(#[from] io::Error),
}

impl ControlSocket {
    /// Checks that the path can be one of a socket.
    pub fn check(data_dir: &Path, findings: &mut Findings) -> bool {
        let path = socket_path(data_dir);
        let length = shortest(&path).as_os_str().len();
        if length <= MAX_PATH_BYTES {
            return true;
        }
        let reason = format!(
            "`{}` has {length} bytes; the path of a socket has at most {MAX_PATH_BYTES}",
            path.display()
        );
        findings
            .error("data_dir", reason)
            .hint("choose a shorter folder; below the working directory, only the rest of the path counts");
        false
    }

    /// Makes the socket in the data directory.
    ///
    /// Problems go to `findings`: errors, or only a warning if `is_optional` and the file system
    /// does not allow it. A gateway with its store on Redis can run on a read-only file system.
    pub fn bind(
        data_dir: &Path,
        is_optional: bool,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        if !Self::check(data_dir, findings) {
            return None;
        }
        let error = match Self::make(data_dir, entropy) {
            Ok(socket) => return Some(socket),
            Err(error) => error,
        };
        let reason = format!("`{}` {error}", socket_path(data_dir).display());
        match error {
            ControlSocketError::InUse => {
                findings
                    .error("data_dir", reason)
                    .of_surroundings()
                    .hint("give each gateway a `data_dir` of its own");
            }
            ControlSocketError::Io(_) if is_optional => {
                findings
                    .warning("data_dir", format!("{reason}; operators cannot reach this gateway"))
                    .hint("let the gateway write to its data directory");
            }
            ControlSocketError::Io(_) => {
                findings
                    .error("data_dir", reason)
                    .of_surroundings()
                    .hint("let the gateway write to its data directory");
            }
        }
        None
    }

    fn make(data_dir: &Path, entropy: &dyn Entropy) -> Result<Self, ControlSocketError> {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(data_dir.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ControlSocketError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let path = socket_path(data_dir);
        // The mode of a new socket depends on the umask of the whole process. So it is made in a
        // folder that no other user can enter, and moved once its mode is right.
        let number = u32::from_be_bytes(entropy::bytes(entropy).map_err(io::Error::other)?);
        let folder = data_dir.join(format!(".c{number:08x}"));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let listener = bind_in(&folder, &path);
        let _ = fs::remove_dir_all(&folder);
        Ok(Self { path, listener: listener?, _lock: lock })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to accept connections, on the threads of the current runtime.
    pub(super) fn listen(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Only one gateway has the lock, so the file is this one's.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds a socket in a private folder, and moves it to its path: what was there is replaced.
fn bind_in(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    let draft = folder.join("s");
    let listener = UnixListener::bind(shortest(&draft))?;
    fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
    fs::rename(&draft, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::entropy::SystemEntropy;

    fn bind(data_dir: &Path, is_optional: bool) -> (Option<ControlSocket>, String) {
        let mut findings = Findings::default();
        let socket = ControlSocket::bind(data_dir, is_optional, &SystemEntropy, &mut findings);
        (socket, findings.iter().map(|finding| format!("{:?} {finding}\n", finding.severity)).collect())
    }

    #[test]
    fn socket_is_for_its_owner_alone_and_goes_with_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/data");

        let (socket, said) = bind(&data, false);

        assert_eq!(said, "");
        let path = data.join("control.socket");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        let names = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.count(), 2, "nothing but the socket and its lock");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn socket_of_a_killed_gateway_is_replaced_and_of_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && UnixStream::connect(&path).is_err());

        let (first, said) = bind(folder.path(), false);
        let (second, refused) = bind(folder.path(), true);

        assert!(first.is_some() && second.is_none(), "{said}{refused}");
        assert!(refused.contains("Error") && refused.contains("another running gateway"), "{refused}");
        assert!(UnixStream::connect(&path).is_ok());
        drop(first);
        assert!(bind(folder.path(), false).0.is_some());
    }

    #[test]
    fn path_that_is_too_long_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let room = MAX_PATH_BYTES - folder.path().as_os_str().len() - "//control.socket".len();

        let (longest, said) = bind(&folder.path().join("x".repeat(room)), false);
        let (longer, refused) = bind(&folder.path().join("x".repeat(room + 1)), true);

        assert!(longest.is_some() && longer.is_none(), "{said}");
        assert!(refused.contains("108 bytes") && refused.contains("shorter folder"), "{refused}");
    }

    #[test]
    fn folder_that_cannot_be_written_is_an_error_unless_the_store_is_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();

        for (is_optional, severity) in [(false, "Error"), (true, "Warning")] {
            let (socket, said) = bind(&file, is_optional);

            assert!(socket.is_none() && said.starts_with(severity), "{said}");
        }
    }
}
