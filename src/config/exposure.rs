//! Which users of the machine can read or change a file with a secret.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::geteuid;

use super::Findings;

/// Mode bits that a file with a secret should not have. The group may read it: container platforms
/// mount secrets so for a user that is not root.
const EXPOSED: u32 = 0o037;
/// The bit that lets every user write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// Who has a file, and what others may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// The owner's user id.
    pub owner: u32,
    /// The permission bits.
    pub mode: u32,
}

impl FileAccess {
    /// Reads it from the metadata of an open file or of a path.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self { owner: metadata.uid(), mode: metadata.mode() & 0o7777 }
    }

    /// Whether every user of the machine may write the file.
    pub const fn is_writable_by_all(self) -> bool {
        self.mode & WRITABLE_BY_ALL != 0
    }

    /// Whether the owner is neither root nor the user of this process.
    pub fn has_foreign_owner(self) -> bool {
        self.owner != 0 && self.owner != geteuid().as_raw()
    }

    /// Whether the mode lets other users read the file, or the group change it.
    pub const fn is_exposed(self) -> bool {
        self.mode & EXPOSED != 0
    }
}

/// Warns if other users of the machine can read or change a configured file with a secret. A file
/// that is not there is left to what reads it.
///
/// It is only a warning: container platforms choose the owner and the mode of the files they mount.
pub fn warn_of_exposed_file(at: &str, file: &Path, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(file) else { return };
    let access = FileAccess::of(&metadata);
    let name = file.display();
    if access.is_exposed() {
        let reason =
            format!("file `{name}` may be read or written by other users (mode {:04o})", access.mode);
        findings
            .warning(at, reason)
            .hint(format!("run `chmod 600 {name}`; if others could read it, make a new one"));
    }
    // Root checks configurations of gateways that run as another user.
    if access.has_foreign_owner() && !geteuid().is_root() {
        findings
            .warning(at, format!("file `{name}` belongs to user {}, who can change it", access.owner))
            .hint("give the file to the gateway's user, or to root");
    }
}
