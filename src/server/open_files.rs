//! How many files the process may have open, and so how many connections it can take.
//!
//! If client connections use up the files of the process, the gateway reaches neither its backends
//! nor its store. So it accepts no more connections than there are files for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Findings;
use crate::proxy::budget::RequestFiles;

/// Files reserved for what is not of clients: some connections to backends, the doors of
/// monitoring, operators and programs, the store, WeChat, listeners and logs; a quarter if there
/// are few files.
const RESERVED: usize = 1024;
/// Most idle connections to servers that are kept for later requests.
const MAX_IDLE: usize = 8192;

/// How the files of the process are shared.
pub(super) struct OpenFiles {
    /// Most client connections.
    pub(super) connections: usize,
    /// Those that requests under way may take, with a connection to a server each.
    pub(super) requests: RequestFiles,
    /// Most idle connections to servers.
    pub(super) idle: usize,
    pub(super) doors: DoorConnections,
}

/// How many connections each listener that is not for clients may have, of the files that are
/// reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DoorConnections {
    pub(super) admin: usize,
    pub(super) internal: usize,
    pub(super) wechat_alias: usize,
    pub(super) control: usize,
}

impl OpenFiles {
    /// Raises the limit of open files as far as the process may, and shares them: at most `wanted`
    /// client connections. A warning if it is fewer.
    pub(super) fn share(wanted: usize, findings: &mut Findings) -> Self {
        let files = raise_limit();
        let shares = Self::of(files.unwrap_or(usize::MAX), wanted);
        let connections = shares.connections;
        if connections < wanted {
            let files = files.unwrap_or(usize::MAX);
            let reason = format!("{wanted} cannot be reached: the process may open {files} files");
            findings.warning("limits.max_connections", reason).hint(format!(
                "the gateway accepts at most {connections}; allow it twice as many files as connections, \
                 with `LimitNOFILE=` of systemd or `--ulimit nofile=` of a container"
            ));
        }
        shares
    }

    /// The shares of so many files. All of them together are fewer: the rest is for the store,
    /// WeChat, listeners and logs.
    fn of(files: usize, wanted: usize) -> Self {
        let reserved = RESERVED.min(files / 4);
        let of_clients = files - reserved;
        let idle = MAX_IDLE.min(of_clients / 8);
        let shared = of_clients - idle;
        Self {
            connections: wanted.min(shared),
            requests: RequestFiles { shared, reserved: reserved / 4 },
            idle,
            doors: DoorConnections {
                admin: reserved / 8,
                internal: reserved / 4,
                wechat_alias: (reserved / 16).max(1),
                control: (reserved / 16).max(1),
            },
        }
    }
}

/// Many systems start programs with a limit of 1,024, for old programs, and let a program raise it.
fn raise_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shared_so_that_no_part_can_use_up_those_of_another() {
        for (files, connections, idle, doors) in [
            (256, 168, 24, (8, 16, 4)),
            (1024, 672, 96, (32, 64, 16)),
            (4096, 2688, 384, (128, 256, 64)),
            (20_000, 16_604, 2372, (128, 256, 64)),
            (131_072, 50_000, 8192, (128, 256, 64)),
            (usize::MAX, 50_000, 8192, (128, 256, 64)),
        ] {
            let shares = OpenFiles::of(files, 50_000);

            let DoorConnections { admin, internal, wechat_alias, control } = shares.doors;
            assert_eq!((shares.connections, shares.idle), (connections, idle), "{files}");
            assert_eq!((admin, internal, control), doors, "{files}");
            let RequestFiles { shared, reserved } = shares.requests;
            let taken = shared + reserved + shares.idle + admin + internal + wechat_alias + control;
            assert!(taken <= files - RESERVED.min(files / 4) / 4, "{files}: too few are left");
        }
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
