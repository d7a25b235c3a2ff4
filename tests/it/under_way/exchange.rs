//! Exchanges that go on until they are ended, and a backend that goes on with them.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::Response;

use crate::common::Connection;
use crate::common::http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, encode, fields, frame};
use crate::proxying::http2::Server;
use crate::proxying::raw::read_head;
use crate::websocket;

/// Time between two pieces.
const PAUSE: Duration = Duration::from_millis(20);
/// Not a status: the exchange goes on.
const GOES_ON: u16 = u16::MAX;

/// What passes while the exchange lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An event now and then, from the backend.
    Events,
    /// Nothing.
    Poll,
    /// Much, from the backend.
    Download,
    /// A piece now and then, from the client.
    Upload,
    /// A piece from the client, and then nothing.
    SilentUpload,
    /// A piece now and then from both sides, as a stream of gRPC has them.
    BothWays,
    /// A WebSocket that is open, and through which nothing passes.
    WebSocket,
}

impl Kind {
    /// Those that a backend of every version of HTTP can have.
    pub const PLAIN: [Self; 6] =
        [Self::Events, Self::Poll, Self::Download, Self::Upload, Self::SilentUpload, Self::BothWays];

    /// Every kind, over HTTP/1.1 and, if it says so, over HTTP/2. A WebSocket is one of HTTP/1.1.
    pub fn all() -> Vec<(Self, bool)> {
        Self::plain().chain([(Self::WebSocket, false)]).collect()
    }

    /// As [`Kind::all`], without WebSockets.
    pub fn plain() -> impl Iterator<Item = (Self, bool)> {
        Self::PLAIN.into_iter().flat_map(|kind| [(kind, false), (kind, true)])
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Poll => "poll",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::SilentUpload => "silent-upload",
            Self::BothWays => "both-ways",
            Self::WebSocket => "websocket",
        }
    }

    fn sends_body(self) -> bool {
        matches!(self, Self::Upload | Self::SilentUpload | Self::BothWays)
    }
}

/// An exchange that goes on in threads of its own.
pub struct OpenExchange {
    reader: JoinHandle<()>,
    /// The status of the answer once it has ended; 0 if it has none.
    status: Arc<AtomicU16>,
    /// Closed at the end of the test.
    stream: TcpStream,
}

impl OpenExchange {
    pub fn has_ended(&self) -> bool {
        self.status.load(Ordering::SeqCst) != GOES_ON
    }

    /// Waits until it has ended; the status, or 0 if there was no answer.
    pub fn ended(mut self) -> u16 {
        let reader = std::mem::replace(&mut self.reader, thread::spawn(|| {}));
        reader.join().unwrap();
        self.status.load(Ordering::SeqCst)
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Begins an exchange. Header lines each end with CR LF.
pub fn start(address: SocketAddr, kind: Kind, is_http2: bool, path: &str, headers: &str) -> OpenExchange {
    if is_http2 {
        start_http2(address, kind, path, headers)
    } else {
        start_http1(address, kind, path, headers)
    }
}

fn start_http1(address: SocketAddr, kind: Kind, path: &str, headers: &str) -> OpenExchange {
    let mut client = Connection::open(address);
    client.stream.set_read_timeout(None).unwrap();
    let request = if kind == Kind::WebSocket {
        websocket::opening(path, headers)
    } else {
        let (method, framing) =
            if kind.sends_body() { ("POST", "Transfer-Encoding: chunked\r\n") } else { ("GET", "") };
        format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}{framing}\r\n")
    };
    client.write(request.as_bytes());
    let stream = client.stream.try_clone().unwrap();
    send_body(kind, &stream, b"5\r\npiece\r\n".to_vec());
    read(stream, move || {
        let status = client.read_header().map_or(0, |answer| answer.status);
        // Of an answer that was begun, until it breaks off.
        let mut buffer = [0; 64 * 1024];
        while matches!(status, 101 | 200) && matches!(client.stream.read(&mut buffer), Ok(1..)) {}
        status
    })
}

fn start_http2(address: SocketAddr, kind: Kind, path: &str, headers: &str) -> OpenExchange {
    let mut client = Http2::open(address);
    client.stream.set_read_timeout(None).unwrap();
    let id = client.begin();
    let lines = headers.lines().filter_map(|line| line.split_once(": "));
    let others: Vec<_> = lines.map(|(name, value)| (name.to_lowercase(), value)).collect();
    let others: Vec<_> = others.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let (method, flags) = if kind.sends_body() { ("POST", 0) } else { ("GET", END_STREAM) };
    client.frame(HEADERS, END_HEADERS | flags, id, &encode(&fields(method, path.as_bytes(), &others)));
    let stream = client.stream.try_clone().unwrap();
    send_body(kind, &stream, frame(DATA, 0, id, b"piece"));
    read(stream, move || match client.outcome(id) {
        Outcome::Answered(status, _) => status,
        _ => 0,
    })
}

fn read(stream: TcpStream, end: impl FnOnce() -> u16 + Send + 'static) -> OpenExchange {
    let status = Arc::new(AtomicU16::new(GOES_ON));
    let reached = Arc::clone(&status);
    let reader = thread::spawn(move || reached.store(end(), Ordering::SeqCst));
    OpenExchange { reader, status, stream }
}

fn send_body(kind: Kind, stream: &TcpStream, piece: Vec<u8>) {
    if !kind.sends_body() {
        return;
    }
    let mut stream = stream.try_clone().unwrap();
    stream.write_all(&piece).unwrap();
    if kind != Kind::SilentUpload {
        thread::spawn(move || {
            while stream.write_all(&piece).is_ok() {
                thread::park_timeout(PAUSE);
            }
        });
    }
}

/// Serves exchanges of every kind, each for as long as its connection lasts.
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || go_on(stream));
        }
    });
    address
}

fn go_on(mut stream: TcpStream) {
    let head = read_head(&mut stream);
    let is = |kind: Kind| head.contains(&format!("/{}/", kind.name()));
    let mut buffer = [0; 64 * 1024];
    if is(Kind::WebSocket) {
        websocket::echo(stream);
    } else if is(Kind::Events) || is(Kind::BothWays) {
        let header =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        if stream.write_all(header).is_err() {
            return;
        }
        while stream.write_all(b"9\r\ndata: 1\n\n\r\n").is_ok() {
            thread::park_timeout(PAUSE);
        }
    } else if is(Kind::Download) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").is_err() {
            return;
        }
        while stream.write_all(&[b'x'; 16 * 1024]).is_ok() {
            thread::park_timeout(PAUSE);
        }
    } else if head.contains("/quick") {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nquick");
    } else {
        while matches!(stream.read(&mut buffer), Ok(1..)) {}
    }
}

/// As [`serve`], over HTTP/2.
pub fn serve_http2() -> Server {
    Server::with(|parts, body, respond| async move {
        let is = |kind: Kind| parts.uri.path().contains(&format!("/{}/", kind.name()));
        if is(Kind::Events) || is(Kind::BothWays) {
            tokio::spawn(discard(body));
            _ = send(respond, b"data: 1\n\n").await;
        } else if is(Kind::Download) {
            _ = send(respond, &[b'x'; 16 * 1024]).await;
        } else {
            take(body, respond).await;
        }
    })
}

/// Sends a piece now and then, until the stream is reset.
async fn send(mut respond: SendResponse<Bytes>, piece: &'static [u8]) -> Result<(), h2::Error> {
    let mut answer = respond.send_response(Response::new(()), false)?;
    loop {
        answer.reserve_capacity(piece.len());
        let mut sent = 0;
        while sent < piece.len() {
            let room = room(&mut answer).await?;
            let end = piece.len().min(sent + room);
            answer.send_data(Bytes::from_static(&piece[sent..end]), false)?;
            sent = end;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn room(answer: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    poll_fn(|cx| answer.poll_capacity(cx)).await.unwrap_or_else(|| Err(h2::Reason::CANCEL.into()))
}

/// Takes what comes, and answers nothing.
async fn take(body: RecvStream, mut respond: SendResponse<Bytes>) {
    discard(body).await;
    _ = poll_fn(|cx| respond.poll_reset(cx)).await;
}

async fn discard(mut body: RecvStream) {
    while let Some(Ok(piece)) = body.data().await {
        _ = body.flow_control().release_capacity(piece.len());
    }
}
