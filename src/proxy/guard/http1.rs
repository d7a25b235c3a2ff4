//! HTTP/1: one request after another, each handed to Pingora once its header is whole.
//!
//! A connection that waits for a client, for its first byte or for the rest of a header, holds no buffer but for what has
//! come, and nothing of Pingora's.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::BytesMut;
use pingora::apps::{HttpServerApp as _, ReusedHttpStream};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::head::{self, Head};
use super::{Listener, tcp};

/// Bytes read at first: most requests are whole in them.
const FIRST_READ: usize = 4096;
/// What a client of HTTP/2 begins with, up to its first empty line; RFC 9113 §3.4.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// The whole answer to a header that is far too large to be looked at.
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// How long a client may go on sending before it reads that answer.
const LINGER: Duration = Duration::from_secs(1);

/// Breaks a connection off in the middle of whatever it does: for one that is stuck, and would not hear of anything.
#[derive(Clone)]
pub(in crate::proxy) struct BreakOff(Arc<Notify>);

impl BreakOff {
    /// Ends the connection without another word: whoever does so logs it.
    pub(in crate::proxy) fn now(&self) {
        self.0.notify_one();
    }
}

/// One connection.
pub(super) struct Http1<'l> {
    listener: &'l Listener,
    stream: Stream,
    shutdown: ShutdownWatch,
    break_off: BreakOff,
}

/// What a client sent before anything is known of it.
enum Sent {
    /// A whole header, or what never becomes one.
    Header(BytesMut),
    /// More than is kept.
    TooMuch(BytesMut),
    /// Nothing more: the client is gone.
    Nothing,
}

impl<'l> Http1<'l> {
    pub(super) fn new(listener: &'l Listener, stream: Stream, shutdown: &ShutdownWatch) -> Self {
        let break_off = BreakOff(Arc::default());
        Self { listener, stream, shutdown: shutdown.clone(), break_off }
    }

    /// Serves requests until the connection ends; gives it back where it begins as one of HTTP/2 does.
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
                () = self.break_off.0.notified() => return None,
            };
            drop(request);
            // Of what a request leaves for the next one nothing is wanted: Pingora ends connections on which more than a
            // request was sent ahead.
            (self.stream, _) = reused.consume();
            header = self.next_header().await?;
        }
    }

    /// The header of a connection's first request.
    async fn first_header(&mut self, deadline: Instant) -> Option<BytesMut> {
        let sent = timeout_at(deadline, async {
            match self.beginning().await {
                Some(bytes) => self.rest(bytes).await,
                None => Sent::Nothing,
            }
        });
        let sent = sent.await.ok();
        self.take(sent).await
    }

    /// The header of the request after another. Until it begins, the connection is idle.
    async fn next_header(&mut self) -> Option<BytesMut> {
        let bytes = timeout(self.listener.keepalive_timeout, self.beginning()).await.ok()??;
        if head::look(&bytes, 0) == Head::Whole {
            return Some(bytes);
        }
        let sent = timeout(self.listener.header_timeout, self.rest(bytes)).await.ok();
        self.take(sent).await
    }

    /// Whatever comes next, as soon as anything does; nothing when it is time to end.
    async fn beginning(&mut self) -> Option<BytesMut> {
        let stream = &mut self.stream;
        let read = poll_fn(|context| {
            // Made anew at each look, so that none is held while there is nothing to read.
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
    async fn rest(&mut self, mut bytes: BytesMut) -> Sent {
        let mut seen = 0;
        while head::look(&bytes, seen) == Head::Unfinished {
            if bytes.len() >= self.listener.max_head {
                return Sent::TooMuch(bytes);
            }
            seen = bytes.len();
            let count = tokio::select! {
                biased;
                count = self.stream.read_buf(&mut bytes) => count.unwrap_or(0),
                () = ended(&mut self.shutdown) => 0,
            };
            if count == 0 {
                return Sent::Nothing;
            }
        }
        Sent::Header(bytes)
    }

    /// Takes what was sent in time, if it was.
    async fn take(&mut self, sent: Option<Sent>) -> Option<BytesMut> {
        match sent {
            Some(Sent::Header(bytes)) => Some(bytes),
            Some(Sent::Nothing) => None,
            Some(Sent::TooMuch(bytes)) => {
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

    /// Answers a header that is too large. What else comes is thrown away: closed before, the answer could be lost.
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

impl Listener {
    /// Has Pingora serve a request whose header is here.
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
    // Where nobody is left to tell, it ends as well.
    _ = shutdown.wait_for(|is_ending| *is_ending).await;
}
