//! An HTTP client that shows what was on the wire.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// A response, its body as it came: chunks joined, nothing decompressed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    /// The status line and headers, byte for byte.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) chunks: usize,
    /// Whether the connection ended before the body did.
    pub(super) cut: bool,
}

impl Seen {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(super) fn errcode(&self) -> Option<i64> {
        self.json().get("errcode").and_then(Value::as_i64)
    }
}

/// A connection kept alive from request to request.
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    pub(super) async fn send(&mut self, method: &str, target: &str, body: &str) -> io::Result<Seen> {
        self.send_as("", method, target, body).await
    }

    /// Sends a request with more header lines, each with its end.
    pub(super) async fn send_as(
        &mut self,
        headers: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> io::Result<Seen> {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        tokio::time::timeout(PATIENCE, self.receive()).await.expect("the emulator answers in time")
    }

    pub(super) async fn receive(&mut self) -> io::Result<Seen> {
        let end = loop {
            match self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if self.read().await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let headers: BTreeMap<String, String> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut seen = Seen { status, headers, head, body: Vec::new(), chunks: 0, cut: false };
        match seen.headers.get("content-length").map(|length| length.parse().unwrap()) {
            Some(length) => (seen.body, seen.cut) = self.read_exactly(length).await?,
            None => self.read_chunks(&mut seen).await?,
        }
        Ok(seen)
    }

    async fn read_exactly(&mut self, length: usize) -> io::Result<(Vec<u8>, bool)> {
        while self.received.len() < length {
            if self.read().await? == 0 {
                return Ok((std::mem::take(&mut self.received), true));
            }
        }
        Ok((self.received.drain(..length).collect(), false))
    }

    async fn read_chunks(&mut self, seen: &mut Seen) -> io::Result<()> {
        loop {
            let line = loop {
                match self.received.windows(2).position(|bytes| bytes == b"\r\n") {
                    Some(end) => break self.received.drain(..end + 2).collect::<Vec<u8>>(),
                    None => assert_ne!(self.read().await?, 0, "the connection ended inside a chunked body"),
                }
            };
            let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let (chunk, cut) = self.read_exactly(length + 2).await?;
            assert!(!cut);
            if length == 0 {
                return Ok(());
            }
            seen.chunks += 1;
            seen.body.extend(&chunk[..length]);
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.received).await
    }
}
