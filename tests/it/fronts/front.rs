//! A server in front of a gateway, on a free loopback port. It ends with the test that started it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tempfile::TempDir;

use crate::backends::server::{Place, Process};
use crate::common::redis::free_address;
use crate::common::{Connection, PATIENCE, Response, now};

/// A server in front of a gateway.
pub struct Front {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// Which server.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// It keeps answers that say how long they are fresh.
    Nginx,
    /// It keeps every answer that does not forbid it, `proxy_cache_valid any 1m`.
    EagerNginx,
    /// With its built-in rules, by which an answer without a word about caching is kept, too.
    Varnish,
}

pub const KINDS: [Kind; 3] = [Kind::Nginx, Kind::EagerNginx, Kind::Varnish];

impl Front {
    /// Starts a server in front of this gateway.
    pub fn start(kind: Kind, gateway: SocketAddr) -> Self {
        // Another program may have taken the free port in the meantime.
        for _ in 0..3 {
            if let Some(front) = Self::try_start(kind, gateway) {
                return front;
            }
        }
        panic!("{kind:?} does not start (`scripts/test` installs what it needs)");
    }

    fn try_start(kind: Kind, gateway: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { address: free_address(), folder: folder.path().to_owned() };
        let process = Process::start(&command(kind, &place, gateway), &place);
        let deadline = now() + PATIENCE;
        while TcpStream::connect(place.address).is_err() {
            if now() > deadline || !process.is_running() {
                println!("{}", fs::read_to_string(folder.path().join("output.log")).unwrap_or_default());
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Some(Self { address: place.address, _process: process, _folder: folder })
    }

    /// `GET` with these header lines, over a connection of its own.
    pub fn get(&self, path: &str, headers: &str) -> Response {
        self.send("GET", path, headers)
    }

    /// As [`Front::get`], with another method.
    pub fn send(&self, method: &str, path: &str, headers: &str) -> Response {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}\r\n");
        Connection::open(self.address).send(request.as_bytes())
    }
}

fn command(kind: Kind, place: &Place, gateway: SocketAddr) -> Vec<String> {
    let folder = place.folder.display().to_string();
    let (address, gateway) = (place.address.to_string(), gateway.to_string());
    let words: Vec<&str> = match kind {
        Kind::Nginx | Kind::EagerNginx => {
            let cache = if matches!(kind, Kind::EagerNginx) { "proxy_cache_valid any 1m;" } else { "" };
            let text = include_str!("../../fixtures/fronts/nginx.conf")
                .replace("{address}", &address)
                .replace("{folder}", &folder)
                .replace("{gateway}", &gateway)
                .replace("{cache}", cache);
            fs::write(place.folder.join("nginx.conf"), text).unwrap();
            vec!["nginx", "-p", &folder, "-e", "stderr", "-c", "nginx.conf"]
        }
        // Its own user could not read the test's folder.
        Kind::Varnish => {
            vec![
                "varnishd",
                "-F",
                "-j",
                "none",
                "-a",
                &address,
                "-b",
                &gateway,
                "-n",
                &folder,
                "-s",
                "malloc,16m",
            ]
        }
    };
    words.into_iter().map(str::to_owned).collect()
}
