//! HTTP/1: one request after another, each handed to Pingora once its header is whole.
//!
//! A connection that waits for the client's first byte, or for the rest of a header, holds no
//! buffer but for the bytes that have arrived, and nothing of Pingora's.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use bytes::BytesMut;
use pingora::apps::{HttpServerApp as _, ReusedHttpStream};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::super::break_off::BreakOff;
use super::head::{self, Head};
use super::listener::{GuardedListener, tcp};

/// Bytes read at first; most requests are no longer.
const FIRST_READ: usize = 4096;
/// The preface of HTTP/2, up to its first empty line; RFC 9113 §3.4.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// The whole answer to a header that is too large to be parsed.
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// How long a client may go on sending before it reads that answer.
const LINGER: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Http1<'l> {
    listener: &'l GuardedListener,
    stream: Stream,
    shutdown: ShutdownWatch,
    break_off: BreakOff,
}

/// How the reading of a header ended.
enum HeaderRead {
    /// With a whole header, or with bytes that never become one.
    Header(BytesMut),
    /// With more than is kept.
    TooLarge(BytesMut),
    /// With the end of the connection.
    Closed,
}

impl<'l> Http1<'l> {
    pub(super) fn new(listener: &'l GuardedListener, stream: Stream, shutdown: &ShutdownWatch) -> Self {
        let break_off = BreakOff::default();
        Self { listener, stream, shutdown: shutdown.clone(), break_off }
    }

    /// Serves requests until the connection ends; returns it if it begins with the preface of
    /// HTTP/2.
    pub(super) async fn serve(mut self, deadline: Instant) -> Option<Stream> {
        let mut header = self.first_header(deadline).await?;
        if self.listener.speaks_h2c && header.starts_with(H2_PREFACE) {
            let mut stream = tcp(self.stream)?;
            stream.rewind(&header);
            return Some(stream);
        }
        loop {
            let mut request = self.listener.request(self.stream, header, &self.break_off, &self.shutdown);
            let reused = tokio::select! {
                biased;
                reused = &mut request => reused?,
                () = self.break_off.requested() => return None,
            };
            drop(request);
            // What a request leaves for the next one is dropped: Pingora ends connections on which
            // a client sent more than one request ahead.
            (self.stream, _) = reused.consume();
            header = self.next_header().await?;
        }
    }

    /// Reads the header of a connection's first request.
    async fn first_header(&mut self, deadline: Instant) -> Option<BytesMut> {
        let read = timeout_at(deadline, async {
            match self.beginning().await {
                Some(bytes) => self.rest(bytes).await,
                None => HeaderRead::Closed,
            }
        });
        let read = read.await.ok();
        self.accept_header(read).await
    }

    /// Reads the header of a later request. The connection is idle until it begins.
    async fn next_header(&mut self) -> Option<BytesMut> {
        let bytes = timeout(self.listener.keepalive_timeout, self.beginning()).await.ok()??;
        if head::inspect(&bytes, 0) == Head::Whole {
            return Some(bytes);
        }
        let read = timeout(self.listener.header_timeout, self.rest(bytes)).await.ok();
        self.accept_header(read).await
    }

    /// Reads the first bytes of a request; `None` if the connection or the gateway ends.
    async fn beginning(&mut self) -> Option<BytesMut> {
        let stream = &mut self.stream;
        let read = poll_fn(|context| {
            // A new buffer for each poll, so that none is held while there is nothing to read.
            let mut bytes = BytesMut::with_capacity(FIRST_READ);
            pin!(stream.read_buf(&mut bytes)).poll(context).map_ok(|_| bytes)
        });
        tokio::select! {
            biased;
            bytes = read => bytes.ok().filter(|bytes| !bytes.is_empty()),
            () = ended(&mut self.shutdown) => None,
        }
    }

    /// Reads on until a header is whole.
    async fn rest(&mut self, mut bytes: BytesMut) -> HeaderRead {
        let mut seen = 0;
        while head::inspect(&bytes, seen) == Head::Unfinished {
            if bytes.len() >= self.listener.max_head {
                return HeaderRead::TooLarge(bytes);
            }
            seen = bytes.len();
            let count = tokio::select! {
                biased;
                count = self.stream.read_buf(&mut bytes) => count.unwrap_or(0),
                () = ended(&mut self.shutdown) => 0,
            };
            if count == 0 {
                return HeaderRead::Closed;
            }
        }
        HeaderRead::Header(bytes)
    }

    /// Returns the header if it was read in time; otherwise counts why not.
    async fn accept_header(&mut self, read: Option<HeaderRead>) -> Option<BytesMut> {
        match read {
            Some(HeaderRead::Header(bytes)) => Some(bytes),
            Some(HeaderRead::Closed) => None,
            Some(HeaderRead::TooLarge(bytes)) => {
                self.listener.connections.rejected().large_header.inc();
                Box::pin(timeout(LINGER, self.refuse(bytes))).await.ok()?;
                None
            }
            None => {
                self.listener.connections.rejected().slow_header.inc();
                None
            }
        }
    }

    /// Answers a header that is too large, and discards what else arrives: the answer could be lost
    /// if the connection closed at once.
    async fn refuse(&mut self, mut bytes: BytesMut) {
        if self.stream.write_all(TOO_LARGE).await.is_err() || self.stream.flush().await.is_err() {
            return;
        }
        _ = self.stream.shutdown().await;
        loop {
            bytes.clear();
            if !matches!(self.stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
    }
}

impl GuardedListener {
    /// Lets Pingora serve a request whose header has arrived.
    fn request<'r>(
        &'r self,
        stream: Stream,
        header: BytesMut,
        break_off: &BreakOff,
        shutdown: &'r ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'r>> {
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(header);
        session.set_connection_user_context(Some(Box::new(break_off.clone())));
        self.proxy.process_new_http(session, shutdown)
    }
}

/// Waits until the gateway ends.
async fn ended(shutdown: &mut ShutdownWatch) {
    // If the sender is gone, the gateway ends as well.
    _ = shutdown.wait_for(|is_ending| *is_ending).await;
}
