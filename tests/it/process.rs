//! The gateway as operations run it: the binary, its output, its signals.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

use crate::common::{Connection, PATIENCE, Response, World, eventually, leaks, now};

/// A gateway in a process of its own, between the emulator and the backend of a [`World`].
pub struct Process {
    child: Child,
    folder: TempDir,
    pub address: SocketAddr,
    pub admin_address: SocketAddr,
}

impl Process {
    /// Runs the binary with the configuration of `world`, and with files of its own.
    pub fn like(world: &World) -> Self {
        let folder = folder_like(world);
        let (child, address, admin_address) = serve(folder.path());
        Self { child, folder, address, admin_address }
    }

    /// As [`Process::like`], but its output goes to pipes: standard output to one that is never
    /// read, standard error to the one that is returned, and that is not read any further.
    pub fn with_pipes(world: &World) -> (Self, BufReader<ChildStderr>) {
        let folder = folder_like(world);
        let mut child = spawn(binary(), folder.path(), Stdio::piped(), Stdio::piped());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut addresses) = (String::new(), None);
        while addresses.is_none() {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "the process ended: {said}");
            addresses = announced(&said);
        }
        let (address, admin_address) = addresses.unwrap();
        (Self { child, folder, address, admin_address }, stderr)
    }

    /// As [`Process::like`], in a process that may open so many files and no more.
    pub fn with_files(world: &World, files: usize) -> Self {
        let folder = folder_like(world);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_menshen")]);
        let (child, address, admin_address) = serve_with(shell, folder.path());
        Self { child, folder, address, admin_address }
    }

    /// Runs the binary again in the same folder, once the one before has ended.
    pub fn start_again(&mut self) {
        _ = self.child.wait();
        // Its output goes to a new file.
        leaks::assert_absent_in_files(self.folder.path());
        (self.child, self.address, self.admin_address) = serve(self.folder.path());
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("menshen.yaml")
    }

    /// The file of the embedded store.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("state/sessions.redb")
    }

    /// The socket of the operators.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.path().join("state/control.socket")
    }

    /// Where the programs of the business connect.
    pub fn internal_address(&self) -> SocketAddr {
        let said = self.stderr();
        let line = said.split("programs of the business are answered at ").nth(1);
        let line = line.expect("it was announced");
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Asks for the next pair of tokens.
    pub fn refresh(&self, refresh_token: &str) -> Response {
        let body = format!(r#"{{"refresh_token":"{refresh_token}"}}"#);
        let request = format!(
            "POST /auth/refresh HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.connect().send(request.as_bytes())
    }

    pub fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        Connection::open(self.admin_address).send(request.as_bytes()).text()
    }

    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id();
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap();
        assert!(status.success());
    }

    /// The exit code, once it ends.
    pub fn wait(&mut self) -> Option<i32> {
        wait(&mut self.child)
    }

    /// A line of `/proc/PID/status` that counts memory, in bytes: `VmRSS` now, `VmHWM` the most so
    /// far.
    pub fn memory(&self, line: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if !std::thread::panicking() {
            leaks::assert_absent_in_files(self.folder.path());
        }
    }
}

/// A folder with the configuration of `world`, which names files in it.
fn folder_like(world: &World) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let yaml = fs::read_to_string(world.data.path().join("menshen.yaml")).unwrap();
    let yaml = yaml.replace(world.data.path().to_str().unwrap(), folder.path().to_str().unwrap());
    fs::write(folder.path().join("menshen.yaml"), yaml).unwrap();
    folder
}

/// Runs `menshen serve` in a folder until it ends by itself; its exit code and standard error.
pub fn run_to_end(folder: &Path) -> (Option<i32>, String) {
    let mut child = spawn_to_files(binary(), folder);
    let code = wait(&mut child);
    leaks::assert_absent_in_files(folder);
    (code, fs::read_to_string(folder.join("stderr")).unwrap())
}

/// Runs a command such as `store verify` with this configuration; its exit code, standard output
/// and standard error.
pub fn command(config: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_menshen"))
        .arg("--config")
        .arg(config)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    leaks::assert_absent("what a command said", &[&output.stdout[..], &output.stderr[..]].concat());
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), stdout, stderr)
}

/// Starts the binary and waits until it serves.
fn serve(folder: &Path) -> (Child, SocketAddr, SocketAddr) {
    serve_with(binary(), folder)
}

/// As [`serve`], by a command that runs the binary.
fn serve_with(command: Command, folder: &Path) -> (Child, SocketAddr, SocketAddr) {
    let mut child = spawn_to_files(command, folder);
    let stderr = folder.join("stderr");
    let mut addresses = None;
    eventually("the process serves", || {
        let said = fs::read_to_string(&stderr).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "the process ended: {said}");
        addresses = announced(&said);
        addresses.is_some()
    });
    let (address, admin_address) = addresses.unwrap();
    (child, address, admin_address)
}

fn spawn_to_files(command: Command, folder: &Path) -> Child {
    let file = |name: &str| Stdio::from(File::create(folder.join(name)).unwrap());
    spawn(command, folder, file("stdout"), file("stderr"))
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_menshen"))
}

fn spawn(mut command: Command, folder: &Path, stdout: Stdio, stderr: Stdio) -> Child {
    command
        .args(["serve", "--config"])
        .arg(folder.join("menshen.yaml"))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
}

fn wait(child: &mut Child) -> Option<i32> {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if now() > deadline {
            _ = child.kill();
            _ = child.wait();
            panic!("the process did not end");
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

/// The addresses that a starting gateway names, once it has named both.
fn announced(said: &str) -> Option<(SocketAddr, SocketAddr)> {
    let after = |mark: &str| said.split(mark).nth(1)?.split_whitespace().next()?.parse().ok();
    let admin = after(" admin listening on ")?;
    let public = said
        .lines()
        .find(|line| !line.contains(" admin listening on ") && line.contains(" listening on "))?;
    Some((public.split(" listening on ").nth(1)?.split_whitespace().next()?.parse().ok()?, admin))
}
