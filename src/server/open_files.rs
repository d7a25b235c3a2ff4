//! How many files the process may have open, and so how many connections it can take.
//!
//! If client connections use up the files of the process, the gateway reaches neither its backends
//! nor its store. So it accepts no more connections than there are files for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Findings;
use crate::proxy::budget::RequestFiles;

/// Files reserved for connections to backends and to the store, listeners, logs, monitoring and
/// operators; a quarter if there are few files.
const RESERVED: usize = 1024;

/// How the files of the process are shared.
pub(super) struct OpenFiles {
    /// Most client connections.
    pub(super) connections: usize,
    /// Those that requests under way may take, with a connection to a server each.
    pub(super) requests: RequestFiles,
}

impl OpenFiles {
    /// Raises the limit of open files as far as the process may, and shares them: at most `wanted`
    /// client connections. A warning if it is fewer.
    pub(super) fn share(wanted: usize, findings: &mut Findings) -> Self {
        let Some(files) = raise_limit() else {
            let requests = RequestFiles { shared: usize::MAX, reserved: 0 };
            return Self { connections: wanted, requests };
        };
        let (shared, reserved) = (room(files), reserved(files));
        let connections = wanted.min(shared);
        if connections < wanted {
            let reason = format!("{wanted} cannot be reached: the process may open {files} files");
            findings.warning("limits.max_connections", reason).hint(format!(
                "the gateway accepts at most {connections}; allow it twice as many files as connections, \
                 with `LimitNOFILE=` of systemd or `--ulimit nofile=` of a container"
            ));
        }
        // The others are for the store, logs, operators and monitoring.
        Self { connections, requests: RequestFiles { shared, reserved: reserved / 4 } }
    }
}

/// Many systems start programs with a limit of 1,024, for old programs, and let a program raise it.
fn raise_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections each listener that is not for clients may have, of the files that are
/// reserved.
pub(super) fn door_connections() -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE)
        .map_or(usize::MAX, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX));
    door_share(files)
}

fn door_share(files: usize) -> usize {
    RESERVED.min(files / 4) / 4
}

fn room(files: usize) -> usize {
    files - reserved(files)
}

const fn reserved(files: usize) -> usize {
    if files / 4 < RESERVED { files / 4 } else { RESERVED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_reserved_for_other_uses() {
        assert_eq!((door_share(1024), door_share(20_000)), (64, 256));
        assert_eq!(room(1024), 768);
        assert_eq!(room(20_000), 18_976);
        assert_eq!(room(usize::MAX), usize::MAX - 1024);
    }

    #[test]
    fn the_limit_is_raised_and_no_more_connections_are_accepted() {
        let mut findings = Findings::default();
        assert_eq!(OpenFiles::share(10, &mut findings).connections, 10);
        assert_eq!(findings.iter().count(), 0);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);

        let files = OpenFiles::share(usize::MAX, &mut findings);

        assert!(files.connections < usize::try_from(hard).unwrap_or(usize::MAX));
        assert_eq!(files.requests.shared, files.connections);
        assert!((1..RESERVED).contains(&files.requests.reserved));
        assert_eq!(findings.iter().filter(|finding| finding.path == "limits.max_connections").count(), 1);
        assert!(!findings.has_errors());
    }
}
