//! Real servers on free loopback ports, which end with the test that started them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::seen::Seen;
use crate::common::redis::free_address;
use crate::common::{World, eventually, now};

/// Longest wait for the first answer: a Java machine on a busy computer takes its time.
const START: Duration = Duration::from_secs(90);
/// How much of a log a failed test prints.
const LAST_LINES: usize = 30;
/// Not what else may be installed: the packages of Debian bring modules for its own interpreters.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A program behind a server: how it is run, and what is known of it.
pub struct Program {
    pub name: &'static str,
    /// Whether it takes `X_WX_OPENID` for `X-WX-OPENID`.
    pub folds_names: bool,
    /// Whether it reads a body without `Content-Length`.
    pub reads_chunked: bool,
    /// What its log says of a request that the server could not read.
    malformed: &'static str,
    /// The commands to run, all as long as the server lasts.
    commands: fn(&Place) -> Vec<Vec<String>>,
}

pub const PHP: Program = Program {
    name: "PHP behind nginx",
    folds_names: true,
    reads_chunked: true,
    malformed: "400 \"",
    commands: |place| {
        let nginx = place.configure("php/nginx.conf", "nginx.conf");
        let folder = place.folder();
        vec![
            words(&["php-cgi", "-b", &format!("{folder}/php.sock")]),
            words(&["nginx", "-p", &folder, "-e", "stderr", "-c", &nginx]),
        ]
    },
};

pub const DJANGO: Program = Program {
    name: "Django under gunicorn",
    folds_names: true,
    reads_chunked: false,
    malformed: "Invalid request from ip",
    commands: |place| {
        let server = ["gunicorn", "--workers", "1", "--threads", "4", "--log-level", "debug"];
        // By default it closes a connection after two idle seconds, on a busy computer just as the
        // gateway uses it again, and kills a worker that was not scheduled for thirty.
        let patience = ["--keep-alive", "600", "--timeout", "0"];
        let place = [
            "--bind",
            &place.address.to_string(),
            "--worker-tmp-dir",
            &place.folder(),
            "--chdir",
            &place.fixture("django"),
            "app:application",
        ];
        vec![words(&[&server[..], &patience, &place].concat())]
    },
};

pub const FLASK: Program = Program {
    name: "Flask",
    folds_names: true,
    reads_chunked: true,
    malformed: "code 400",
    commands: |place| vec![words(&["python3", &place.fixture("flask/app.py")])],
};

pub const EXPRESS: Program = Program {
    name: "Express",
    folds_names: false,
    reads_chunked: true,
    malformed: "malformed request",
    commands: |place| vec![words(&["node", "--insecure-http-parser", &place.fixture("express/server.js")])],
};

pub const TOMCAT: Program = Program {
    name: "Tomcat",
    folds_names: false,
    reads_chunked: true,
    malformed: "Error parsing HTTP request header",
    commands: |place| {
        place.configure("tomcat/server.xml", "conf/server.xml");
        let (home, folder) = ("/usr/share/tomcat10", place.folder());
        let classes = format!(
            "{home}/bin/bootstrap.jar:{home}/bin/tomcat-juli.jar:/usr/share/java/eclipse-jdt-core.jar"
        );
        vec![words(&[
            "java",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx128m",
            &format!("-Dcatalina.home={home}"),
            &format!("-Dcatalina.base={folder}"),
            &format!("-Djava.io.tmpdir={folder}"),
            "-cp",
            &classes,
            "org.apache.catalina.startup.Bootstrap",
            "start",
        ])]
    },
};

pub const UVICORN: Program = Program {
    name: "ASGI under uvicorn",
    folds_names: false,
    reads_chunked: true,
    malformed: "Invalid HTTP request received",
    commands: |place| uvicorn(place, "app:application", &["--timeout-keep-alive", "600"]),
};

/// It closes a connection after two idle seconds, and shows its clients' ports.
pub const UVICORN_KEEPING_CONNECTIONS_BRIEFLY: Program = Program {
    commands: |place| uvicorn(place, "app:application", &["--timeout-keep-alive", "2", "--no-proxy-headers"]),
    ..UVICORN
};

/// A server of Socket.IO.
pub const CHAT: Program = Program {
    name: "Socket.IO under uvicorn",
    commands: |place| uvicorn(place, "chat:application", &["--timeout-keep-alive", "600"]),
    ..UVICORN
};

fn uvicorn(place: &Place, application: &str, options: &[&str]) -> Vec<Vec<String>> {
    let (folder, port) = (place.fixture("asgi"), place.address.port().to_string());
    let server =
        ["uvicorn", "--app-dir", &folder, "--host", "127.0.0.1", "--port", &port, "--lifespan", "off"];
    vec![words(&[&server[..], options, &[application]].concat())]
}

/// Where a server listens and keeps its files.
pub struct Place {
    pub address: SocketAddr,
    pub folder: PathBuf,
}

/// A server that answers. It is killed when this is dropped, or when the tests' process ends in
/// whatever way.
pub struct Server {
    pub program: &'static Program,
    pub address: SocketAddr,
    _processes: Vec<Process>,
    folder: TempDir,
}

/// A process and all that it starts, in the care of a shell that kills their group once its own
/// input ends.
pub struct Process {
    shell: Child,
    id: String,
}

impl Program {
    /// Starts the server; fails the test where a program is missing or does not answer.
    pub fn start(&'static self) -> Server {
        let mut log = String::new();
        // Another program may have taken the free port in the meantime.
        for _ in 0..3 {
            match self.try_start() {
                Ok(server) => return server,
                Err(why) => log = why,
            }
        }
        panic!("{} does not start (`scripts/test` installs what it needs):\n{log}", self.name);
    }

    fn try_start(&'static self) -> Result<Server, String> {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { address: free_address(), folder: folder.path().to_owned() };
        let processes: Vec<Process> =
            (self.commands)(&place).iter().map(|command| Process::start(command, &place)).collect();
        let deadline = now() + START;
        // Another server may answer, at a port that this one did not get.
        while !answers(place.address) || !folder.path().join("seen").exists() {
            if now() > deadline || !processes.iter().all(Process::is_running) {
                return Err(logged(folder.path()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(Server { program: self, address: place.address, _processes: processes, folder })
    }
}

impl Server {
    /// A gateway before this server.
    pub fn world(&self, sections: &str) -> World {
        World::with(&format!("{sections}\nupstreams:\n  backend: {{ servers: ['{}'] }}\n", self.address))
    }

    /// Where the program's account of its requests ends now.
    pub fn position(&self) -> usize {
        usize::try_from(fs::metadata(self.account()).unwrap().len()).unwrap()
    }

    /// Every request that came to the program since then.
    pub fn seen_since(&self, position: usize) -> Vec<Seen> {
        let account = fs::read(self.account()).unwrap();
        let text = std::str::from_utf8(&account[position..]).unwrap();
        text.lines().map(|line| Seen::parse(line.as_bytes()).unwrap()).collect()
    }

    fn account(&self) -> PathBuf {
        self.folder.path().join("seen")
    }

    /// How many requests the server could not read and refused before the program, as far as its
    /// log says.
    pub fn malformed(&self) -> usize {
        logged(self.folder.path()).lines().filter(|line| line.contains(self.program.malformed)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = logged(self.folder.path());
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            println!("{} wrote at last:\n{}", self.program.name, last.join("\n"));
        }
    }
}

impl Place {
    fn folder(&self) -> String {
        self.folder.display().to_string()
    }

    fn fixture(&self, name: &str) -> String {
        fixtures().join(name).display().to_string()
    }

    /// Copies a configuration file, with what it must be told of this place; where it is.
    fn configure(&self, fixture: &str, name: &str) -> String {
        let text = fs::read_to_string(fixtures().join(fixture)).unwrap();
        let text = text
            .replace("{address}", &self.address.to_string())
            .replace("{port}", &self.address.port().to_string())
            .replace("{folder}", &self.folder())
            .replace("{fixtures}", &fixtures().display().to_string());
        let file = self.folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }
}

impl Process {
    pub fn start(command: &[String], place: &Place) -> Self {
        let mut shell = Command::new("sh")
            .args([
                "-c",
                "command -v \"$1\" >/dev/null || echo \"$1 is missing\" >>\"$0\"\n\
                 \"$@\" </dev/null >>\"$0\" 2>&1 & echo $!; read -r _; kill -9 0",
            ])
            .arg(place.folder.join("output.log"))
            .args(command)
            .current_dir(&place.folder)
            .env("PATH", PATH)
            .env("ADDRESS", place.address.to_string())
            .env("SEEN", place.folder.join("seen"))
            .env("NODE_PATH", "/usr/share/nodejs")
            // It would end after 500 requests.
            .env("PHP_FCGI_MAX_REQUESTS", "0")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PYTHONPATH")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut id = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut id).unwrap();
        Self { shell, id: id.trim().to_owned() }
    }

    pub fn is_running(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if !std::thread::panicking() {
            eventually("the server is gone", || !self.is_running());
        }
    }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backends")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Whether the program behind the server answers.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    _ = stream.set_read_timeout(Some(START));
    _ = stream.write_all(b"GET /start HTTP/1.1\r\nHost: start\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    answer.get(8..13) == Some(b" 200 ")
}

/// All that the server's processes wrote to their logs.
fn logged(folder: &Path) -> String {
    let files = ["output.log", "access.log"].map(|name| fs::read(folder.join(name)).unwrap_or_default());
    String::from_utf8_lossy(&files.concat()).into_owned()
}
