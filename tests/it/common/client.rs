//! A client that sends bytes as they are and reads answers as they come.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::PATIENCE;
use super::leaks::Incoming;

/// One connection; anything that reads and writes will do, TLS included.
pub struct Connection<S = TcpStream> {
    pub stream: S,
    unread: Vec<u8>,
    incoming: Incoming,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("nobody listens")
    }

    /// As [`Connection::open`]; `None` if no program listens.
    pub fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self::over(stream))
    }
}

impl<S: Read + Write> Connection<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, unread: Vec::new(), incoming: Incoming::default() }
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&mut self, request: &[u8]) -> Response {
        self.write(request);
        let is_head = request.starts_with(b"HEAD ");
        self.read_response(is_head)
    }

    /// As [`Connection::send`]; `None` when the connection ends before the answer does.
    pub fn send_unless_gone(&mut self, request: &[u8]) -> Option<Response> {
        self.stream.write_all(request).ok()?;
        let response = self.read_header()?;
        if response.status == 204 {
            return Some(response);
        }
        let length = response.header("content-length")?.parse().ok()?;
        while self.unread.len() < length {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.read_body(response, false))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Reads one answer; interim ones (1xx but 101) are passed over.
    pub fn read_response(&mut self, is_head: bool) -> Response {
        self.try_read_response(is_head).expect("the connection ended before an answer")
    }

    /// As [`Connection::read_response`]; `None` when the connection ends before a whole header.
    pub fn try_read_response(&mut self, is_head: bool) -> Option<Response> {
        loop {
            let response = self.read_header()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            return Some(self.read_body(response, is_head));
        }
    }

    /// Reads a header block, leaving the body unread.
    pub fn read_header(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Response { status, headers, body: Vec::new() })
    }

    /// Reads exactly so many bytes of whatever comes.
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.fill() > 0, "the connection ended");
        }
        self.unread.drain(..count).collect()
    }

    /// Reads one chunk of a chunked body; empty at its end.
    pub fn read_chunk(&mut self) -> Vec<u8> {
        let line = self.read_line();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let chunk = self.read_exact(size);
        self.read_exact(2);
        chunk
    }

    /// Whether the other side has closed the connection, waiting for it.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.fill() == 0
    }

    fn read_body(&mut self, mut response: Response, is_head: bool) -> Response {
        let length: Option<usize> = response.header("content-length").map(|length| length.parse().unwrap());
        let has_none = is_head || matches!(response.status, 101 | 204 | 304);
        if has_none {
        } else if response.header("transfer-encoding").is_some() {
            loop {
                let chunk = self.read_chunk();
                if chunk.is_empty() {
                    break;
                }
                response.body.extend(chunk);
            }
        } else if let Some(length) = length {
            response.body = self.read_exact(length);
        } else {
            while self.fill() > 0 {}
            response.body = std::mem::take(&mut self.unread);
        }
        response
    }

    fn read_line(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            assert!(self.fill() > 0, "the connection ended");
        };
        let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 2);
        line
    }

    /// Reads once; 0 at the end of the connection or when it was reset.
    fn fill(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!("nothing came in {PATIENCE:?}")
            }
            Err(_) => 0,
        };
        self.incoming.assert_absent(&buffer[..count]);
        self.unread.extend_from_slice(&buffer[..count]);
        count
    }
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Asks a gateway as an operator does: a method and a path, and a body of JSON.
pub fn ask_control(socket: &Path, request_line: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{request_line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    send_to_control(socket, &request)
}

/// Sends a request to the socket of the operators.
pub fn send_to_control(socket: &Path, request: &str) -> Response {
    let stream = UnixStream::connect(socket).expect("nobody listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Connection::over(stream).send(request.as_bytes())
}
