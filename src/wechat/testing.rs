//! A server that answers each request with the next of its replies, byte for byte, and repeats the
//! last one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// What the server does after it has read a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Writes these bytes; keeps the connection open if they are a whole response.
    Bytes { bytes: Vec<u8>, keep: bool },
    /// Closes the connection.
    Drop,
    /// Answers as the other reply when [`Fake::release`] is called.
    Held(Box<Reply>),
    /// Answers as the other reply after a while.
    Late(Duration, Box<Reply>),
    /// Never answers.
    Hang,
    /// Answers one byte at a time, without end.
    Drip,
}

impl Reply {
    pub(crate) fn json(body: &str) -> Self {
        Self::with_headers("Content-Type: text/plain\r\n", body)
    }

    pub(crate) fn with_headers(headers: &str, body: &str) -> Self {
        Self::bytes(headers, body.as_bytes())
    }

    pub(crate) fn status(status: &str, headers: &str, body: &str) -> Self {
        Self::whole(status, headers, body.as_bytes())
    }

    pub(crate) fn bytes(headers: &str, body: &[u8]) -> Self {
        Self::whole("200 OK", headers, body)
    }

    pub(crate) fn chunked(body: &str) -> Self {
        let (first, second) = body.split_at(10);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = format!("{head}a\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", second.len());
        Self::Bytes { bytes: text.into_bytes(), keep: true }
    }

    pub(crate) fn raw(text: &str) -> Self {
        Self::Bytes { bytes: text.as_bytes().to_vec(), keep: false }
    }

    fn whole(status: &str, headers: &str, body: &[u8]) -> Self {
        let mut bytes =
            format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Self::Bytes { bytes, keep: true }
    }
}

/// The server, for as long as the test's runtime lives.
pub(crate) struct Fake {
    address: SocketAddr,
    seen: Arc<Seen>,
}

struct Seen {
    replies: Mutex<Vec<Reply>>,
    requests: watch::Sender<Vec<String>>,
    connections: Mutex<usize>,
    held: Semaphore,
}

impl Fake {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(None, replies).await
    }

    pub(crate) async fn start_tls(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config))), replies).await
    }

    async fn start_with(tls: Option<TlsAcceptor>, replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut replies: Vec<_> = replies.into_iter().collect();
        replies.reverse();
        let seen = Arc::new(Seen {
            replies: Mutex::new(replies),
            requests: watch::Sender::new(Vec::new()),
            connections: Mutex::new(0),
            held: Semaphore::new(0),
        });

        let accepted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *accepted.connections.lock() += 1;
                let (tls, seen) = (tls.clone(), accepted.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The request lines received so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.borrow().clone()
    }

    /// Releases one held reply, now or as soon as there is one.
    pub(crate) fn release(&self) {
        self.seen.held.add_permits(1);
    }

    pub(crate) fn connections(&self) -> usize {
        *self.seen.connections.lock()
    }

    pub(crate) async fn requests_reach(&self, count: usize) {
        self.seen.requests.subscribe().wait_for(|requests| requests.len() >= count).await.unwrap();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    while let Some(line) = read_request(&mut stream).await {
        let reply = {
            let mut replies = seen.replies.lock();
            if replies.len() > 1 { replies.pop() } else { replies.last().cloned() }.unwrap()
        };
        seen.requests.send_modify(|requests| requests.push(line));
        let reply = match reply {
            Reply::Held(reply) => {
                seen.held.acquire().await.unwrap().forget();
                *reply
            }
            Reply::Late(wait, reply) => {
                tokio::time::sleep(wait).await;
                *reply
            }
            reply => reply,
        };
        match reply {
            Reply::Bytes { bytes, keep } => {
                if stream.write_all(&bytes).await.is_err() || !keep {
                    return;
                }
            }
            Reply::Drop => return,
            Reply::Held(_) | Reply::Late(..) | Reply::Hang => std::future::pending().await,
            Reply::Drip => loop {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n";
                for byte in head.iter().chain(&[b' '; 60_000]) {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            },
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).unwrap().lines().next().map(str::to_owned)
}
