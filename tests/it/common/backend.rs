//! A backend that keeps the raw bytes of every request, and answers as a test asks.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A server on a free port, one thread for each connection.
pub struct Backend {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Request line and header block with every byte as sent, without the blank line.
    pub head: String,
    /// The body, decoded where it came chunked.
    pub body: Vec<u8>,
}

/// What to do with a request.
pub enum Reply {
    /// Write these bytes and keep the connection.
    Bytes(Vec<u8>),
    /// Write these bytes and close.
    Last(Vec<u8>),
    /// Hand the connection over, for upgrades, streams and faults; it closes when this returns.
    Take(Box<dyn FnOnce(TcpStream) + Send>),
}

type Handler = dyn Fn(&Recorded) -> Reply + Send + Sync;

impl Backend {
    /// Answers every request with 200 and what it received.
    pub fn echo() -> Self {
        Self::with(|request| Reply::ok(request.head.as_bytes()))
    }

    /// Answers as `handler` says.
    pub fn with(handler: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), handler)
    }

    /// As [`Backend::with`], at this address.
    pub fn at(address: SocketAddr, handler: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let handler: Arc<Handler> = Arc::new(handler);
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let (state, handler) = (Arc::clone(&accepting), Arc::clone(&handler));
                std::thread::spawn(move || serve(stream, &state, &*handler));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// The last request; fails the test when there was none.
    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("the backend was asked nothing")
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }
}

impl Recorded {
    /// Every header line whose name a CGI-style backend would read as `name`, values only.
    pub fn folded(&self, name: &str) -> Vec<String> {
        self.lines()
            .filter(|(known, _)| fold(known) == fold(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    }

    /// Every header line of exactly this name, whatever its case, values only.
    pub fn header(&self, name: &str) -> Vec<String> {
        let lines = self.lines().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.to_owned()).collect()
    }

    /// `METHOD TARGET VERSION`.
    pub fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub fn target(&self) -> &str {
        self.request_line().split(' ').nth(1).unwrap()
    }

    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
    }
}

/// What a CGI-style backend makes of a header name.
pub fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn serve(mut stream: TcpStream, state: &State, handler: &Handler) {
    let mut unread = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut unread) {
        state.requests.lock().unwrap().push(request.clone());
        match handler(&request) {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
            Reply::Last(bytes) => {
                _ = stream.write_all(&bytes);
                _ = stream.shutdown(Shutdown::Write);
                return;
            }
            Reply::Take(take) => return take(stream),
        }
    }
}

fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Recorded> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        fill(stream, unread)?;
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    unread.drain(..end + 4);
    let mut request = Recorded { head, body: Vec::new() };
    if !request.header("transfer-encoding").is_empty() {
        request.body = read_chunked(stream, unread)?;
    } else if let Some(length) = request.header("content-length").first() {
        request.body = take(stream, unread, length.parse().ok()?)?;
    }
    Some(request)
}

fn read_chunked(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(at) = unread.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            fill(stream, unread)?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&unread[..line_end]).ok()?.trim(), 16).ok()?;
        unread.drain(..line_end + 2);
        let chunk = take(stream, unread, size + 2)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn take(stream: &mut TcpStream, unread: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while unread.len() < count {
        fill(stream, unread)?;
    }
    Some(unread.drain(..count).collect())
}

fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<usize> {
    let mut buffer = [0; 64 * 1024];
    let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
    unread.extend_from_slice(&buffer[..count]);
    Some(count)
}
