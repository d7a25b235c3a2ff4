//! Nothing that writes stops a request: standard output, standard error and the audit log go to
//! pipes whose readers have stopped.

use std::fs::{File, OpenOptions};
use std::io::BufRead as _;
use std::path::Path;
use std::process::Command;

use crate::common::{Connection, NO_THROTTLE, ROUTES, Tally, World};
use crate::process::Process;

/// Enough that the pipes, of 64 KiB each, are full long before the last of them.
const LOGINS: usize = 500;

/// A named pipe, opened so that a writer finds a reader. It is never read.
fn unread_pipe(path: &Path) -> File {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn readers_of_the_logs_that_stop_stop_no_request() {
    let pipes = tempfile::tempdir().unwrap();
    let audit = pipes.path().join("audit.log");
    let _unread = unread_pipe(&audit);
    let telemetry = format!(
        "telemetry:\n  log: {{ level: debug }}\n  access_log: {{ target: stdout }}\n  audit_log: {{ file: '{}' }}\n",
        audit.display()
    );
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{telemetry}"));
    let (mut process, mut stderr) = Process::with_pipes(&world);

    for number in 0..LOGINS {
        let body = format!(r#"{{"code":"{}"}}"#, world.code("alice"));
        let login = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(process.connect().send(login.as_bytes()).status, 200, "login {number}");
    }
    let public = process.connect().send(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(public.status, 200);
    for path in ["/livez", "/readyz", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        let answer = Connection::open(process.admin_address).send(request.as_bytes());
        assert_eq!(answer.status, 200, "{path}");
        if path == "/metrics" {
            assert!(answer.text().contains("menshen_diagnostics_dropped_lines_total "), "{}", answer.text());
        }
    }
    // The process ends as well, although nothing that it has to say is read.
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));
    let mut said = 0;
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line).unwrap() > 0 {
        said += 1;
        assert!(line.ends_with(b"\n") || said > 100, "the first line is whole");
        line.clear();
    }
    assert!(said > 100, "the pipe was full: {said} lines");
    let remark = "all answered, and health and metrics too";
    Tally::of(LOGINS, remark.to_owned()).report("floods: logins while readers of the logs have stopped");
}
