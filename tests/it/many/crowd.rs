//! Clients by the thousand, in a process of their own: what they hold counts against no limit of
//! the gateway, and what they do takes no time from the test that measures.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::common::http2::{self, Http2};
use crate::common::{PATIENCE, install_crypto};

/// Where the process that is a crowd learns it.
const ORDER: &str = "MENSHEN_TEST_CROWD";
/// Connections that share an address: half of what the gateway allows by default.
const OF_ADDRESS: usize = 500;
/// `limits.max_header`, by default.
const MAX_HEADER: usize = 32 * 1024;
/// How often a slow client sends a byte.
const TRICKLE: Duration = Duration::from_millis(500);
/// The gateway answers it by itself.
const REQUEST: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

/// What the clients of a crowd do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Make a request, and none after that.
    Idle,
    /// Say nothing at all.
    Silent,
    /// Send a header, a byte now and then.
    Slow,
    /// Ask for what a backend does not answer.
    Waiting,
    /// Ask for a body without end, and read none of it.
    Deaf,
    /// Send as much of a header as is kept, and no end of it.
    Long,
    /// As idle, over HTTP/2.
    Http2,
}

/// A process full of clients; they end with it.
pub struct Crowd {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// How many connected, and were served where they asked for anything.
    pub held: usize,
}

impl Crowd {
    /// Connects so many clients, from addresses of 127.`network`.0.0/16 of their own; with TLS
    /// where an authority is named.
    pub fn gather(
        address: SocketAddr,
        count: usize,
        behaviour: Behaviour,
        network: u8,
        authority: Option<&Path>,
    ) -> Self {
        let authority = authority.map_or("-", |path| path.to_str().unwrap());
        let order = format!("{address} {count} {behaviour:?} {network} {authority}");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "many::crowd::crowd", "--ignored", "--nocapture"])
            .env(ORDER, order)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, held: 0 }
    }

    /// Waits until all are connected, or as many as can be.
    pub fn settle(&mut self) {
        self.held = self.answer();
    }

    /// How many are connected still.
    pub fn left(&mut self) -> usize {
        self.input.write_all(b"left\n").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> usize {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the crowd has ended");
            // The test's own runner speaks, too.
            if let Some(number) = line.trim().strip_prefix("crowd: ") {
                return number.parse().unwrap();
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// One client; with TLS, as much of it as must be kept.
enum Client {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => &stream.sock,
        }
    }

    fn stream(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream,
        }
    }

    /// Whether the gateway has not closed the connection.
    fn is_open(&self) -> bool {
        let socket = self.socket();
        socket.set_nonblocking(true).unwrap();
        match socket.peek(&mut [0]) {
            Ok(count) => count > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

/// What the process was told to be.
struct Order {
    address: SocketAddr,
    count: usize,
    behaviour: Behaviour,
    network: u8,
    tls: Option<Arc<ClientConfig>>,
}

#[test]
#[ignore = "is a process of the tests beside it"]
fn crowd() {
    let Ok(order) = std::env::var(ORDER) else { return };
    // As many files as the system gives.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let order = Order::parse(&order);
    let mut clients = order.connect();
    println!("crowd: {}", clients.len());
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || io::stdin().lines().try_for_each(|line| sender.send(line.unwrap())));
    loop {
        match asked.recv_timeout(TRICKLE) {
            Ok(_) => println!("crowd: {}", clients.iter().filter(|client| client.is_open()).count()),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
        if order.behaviour == Behaviour::Slow {
            for client in &mut clients {
                client.socket().set_nonblocking(true).unwrap();
                _ = client.stream().write(b"x");
            }
        }
    }
}

impl Order {
    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        let behaviour = match words[2] {
            "Idle" => Behaviour::Idle,
            "Silent" => Behaviour::Silent,
            "Slow" => Behaviour::Slow,
            "Waiting" => Behaviour::Waiting,
            "Deaf" => Behaviour::Deaf,
            "Long" => Behaviour::Long,
            "Http2" => Behaviour::Http2,
            other => panic!("{other}"),
        };
        Self {
            address: words[0].parse().unwrap(),
            count: words[1].parse().unwrap(),
            behaviour,
            network: words[3].parse().unwrap(),
            tls: Some(words[4]).filter(|path| *path != "-").map(|path| trusting(&PathBuf::from(path))),
        }
    }

    /// All of them, or as many as get through.
    fn connect(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for number in 0..self.count {
            match self.connect_one(number) {
                Ok(client) => clients.push(client),
                Err(error) => {
                    eprintln!("client {number}: {error}");
                    break;
                }
            }
        }
        clients
    }

    fn connect_one(&self, number: usize) -> io::Result<Client> {
        let [high, low] = u16::try_from(1 + number / OF_ADDRESS).unwrap().to_be_bytes();
        let source = IpAddr::from(Ipv4Addr::new(127, self.network, high, low));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&self.address.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = match &self.tls {
            None => Client::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from("gateway.test").unwrap();
                let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                stream.conn.complete_io(&mut stream.sock)?;
                Client::Secure(Box::new(stream))
            }
        };
        match self.behaviour {
            Behaviour::Silent => {}
            Behaviour::Deaf => {
                client.stream().write_all(b"GET /pub/flood HTTP/1.1\r\nHost: gateway.test\r\n\r\n")?;
            }
            Behaviour::Long => {
                let start = b"GET /pub HTTP/1.1\r\nHost: gateway.test\r\nX-Long: ";
                client
                    .stream()
                    .write_all(&[&start[..], &vec![b'x'; 2 * MAX_HEADER - start.len() - 1]].concat())?;
            }
            Behaviour::Slow => {
                client.stream().write_all(b"GET /pub HTTP/1.1\r\nHost: gateway.test\r\nX-Slow: ")?
            }
            Behaviour::Waiting => {
                client.stream().write_all(b"GET /pub/wait HTTP/1.1\r\nHost: gateway.test\r\n\r\n")?;
            }
            Behaviour::Http2 => {
                let Client::Plain(stream) = &client else { panic!("without TLS alone") };
                assert_eq!(Http2::over(stream).send(&http2::fields("OPTIONS", b"*", &[])).status(), 204);
            }
            Behaviour::Idle => {
                client.stream().write_all(REQUEST)?;
                let mut answer = [0; 1024];
                let count = client.stream().read(&mut answer)?;
                assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer[..count]));
            }
        }
        Ok(client)
    }
}

fn trusting(authority: &Path) -> Arc<ClientConfig> {
    install_crypto();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
