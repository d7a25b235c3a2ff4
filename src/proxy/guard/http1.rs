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
use super::super::breakable_stream::BreakableStream;
use super::super::handover::{Gate, GatedStream, Handover, RefusedHeader};
use super::head::{self, Head};
use super::listener::{GuardedListener, tcp};

/// Bytes read at first; most requests are no longer.
const FIRST_READ: usize = 4096;
/// The preface of HTTP/2, up to its first empty line; RFC 9113 §3.4.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Longest silence of a client whose request was answered before its body had arrived.
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// One connection.
pub(super) struct Http1<'l> {
    listener: &'l GuardedListener,
    /// `None` while Pingora has it.
    stream: Option<Stream>,
    shutdown: ShutdownWatch,
    break_off: BreakOff,
    gate: Gate,
}

/// How the reading of a header ended.
enum HeaderRead {
    /// With a whole header, which ends there, or with bytes that never become one.
    Header(BytesMut, Head),
    /// With more than is kept.
    TooLarge(BytesMut),
    /// With the end of the connection.
    Closed,
}

impl<'l> Http1<'l> {
    pub(super) fn new(listener: &'l GuardedListener, stream: Stream, shutdown: &ShutdownWatch) -> Self {
        let break_off = BreakOff::default();
        let (stream, shutdown) = (Some(stream), shutdown.clone());
        Self { listener, stream, shutdown, break_off, gate: Gate::default() }
    }

    /// Serves requests until the connection ends; returns it if it begins with the preface of
    /// HTTP/2.
    pub(super) async fn serve(mut self, deadline: Instant) -> Option<Stream> {
        let mut read = self.first_header(deadline).await?;
        if let HeaderRead::Header(header, _) = &read
            && self.listener.speaks_h2c
            && header.starts_with(H2_PREFACE)
        {
            let mut stream = tcp(self.stream?)?;
            stream.rewind(header);
            return Some(stream);
        }
        let stream = self.stream.take()?;
        self.stream = Some(self.behind_gate(stream));
        loop {
            let (bytes, end) = match read {
                HeaderRead::Header(bytes, Head::Whole { end }) if head::has_plain_request_line(&bytes) => {
                    head::escape_query(bytes, end)
                }
                HeaderRead::Header(bytes, _) => {
                    Box::pin(self.refuse(RefusedHeader::explain(&bytes), &bytes)).await;
                    return None;
                }
                HeaderRead::TooLarge(bytes) => {
                    Box::pin(self.refuse(RefusedHeader::too_large(&bytes), &bytes)).await;
                    return None;
                }
                HeaderRead::Closed => return None,
            };
            self.gate.close(&bytes, end);
            let stream = self.stream.take()?;
            let reused = self.break_off.run(self.request(stream, bytes, None)).await;
            self.break_off.reset();
            let Some(reused) = reused else {
                if self.gate.is_open() {
                    self.linger().await;
                } else {
                    Box::pin(self.refuse_in_place_of_pingora()).await;
                }
                return None;
            };
            if self.gate.has_excess() {
                // What a client sent ahead of an answer is dropped. No proxy sends requests ahead:
                // behind one, such bytes would be the end of a body that it saw elsewhere.
                self.gate.keep_stream();
                drop(reused);
                self.linger().await;
                return None;
            }
            self.stream = Some(reused.consume().0);
            read = self.next_header().await?;
        }
    }

    /// Reads the header of a connection's first request; `None` if it does not arrive in time.
    async fn first_header(&mut self, deadline: Instant) -> Option<HeaderRead> {
        let read = timeout_at(deadline, async {
            match self.beginning().await {
                Some(bytes) => self.rest(bytes).await,
                None => HeaderRead::Closed,
            }
        });
        let read = read.await.ok();
        self.count(read)
    }

    /// Reads the header of a later request. The connection is idle until it begins.
    async fn next_header(&mut self) -> Option<HeaderRead> {
        let bytes = timeout(self.listener.keepalive_timeout, self.beginning()).await.ok()??;
        let head = head::inspect(&bytes, 0);
        if head != Head::Unfinished {
            return Some(HeaderRead::Header(bytes, head));
        }
        let read = timeout(self.listener.header_timeout, self.rest(bytes)).await.ok();
        self.count(read)
    }

    /// Reads the first bytes of a request; `None` if the connection or the gateway ends.
    async fn beginning(&mut self) -> Option<BytesMut> {
        let stream = self.stream.as_mut()?;
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
        let Some(stream) = &mut self.stream else { return HeaderRead::Closed };
        let mut seen = 0;
        loop {
            let head = head::inspect(&bytes, seen);
            if head != Head::Unfinished {
                return HeaderRead::Header(bytes, head);
            }
            if bytes.len() >= self.listener.max_head {
                return HeaderRead::TooLarge(bytes);
            }
            seen = bytes.len();
            let count = tokio::select! {
                biased;
                count = stream.read_buf(&mut bytes) => count.unwrap_or(0),
                () = ended(&mut self.shutdown) => 0,
            };
            if count == 0 {
                return HeaderRead::Closed;
            }
        }
    }

    fn behind_gate(&self, stream: Stream) -> Stream {
        let stream = Box::new(BreakableStream::new(stream, self.break_off.clone()));
        Box::new(GatedStream::new(stream, self.gate.clone()))
    }

    /// Counts a header that was not read in time, or is too large.
    fn count(&self, read: Option<HeaderRead>) -> Option<HeaderRead> {
        let rejected = self.listener.connections.rejected();
        match &read {
            Some(HeaderRead::Header(..) | HeaderRead::Closed) => {}
            Some(HeaderRead::TooLarge(_)) => rejected.large_header.inc(),
            None => rejected.slow_header.inc(),
        }
        read
    }

    /// Lets Pingora serve a request whose header has arrived.
    fn request(
        &self,
        stream: Stream,
        header: BytesMut,
        refused: Option<Box<RefusedHeader>>,
    ) -> ServedRequest<'_> {
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(header);
        let handover = Handover { gate: self.gate.clone(), refused };
        session.set_connection_user_context(Some(Box::new(handover)));
        self.listener.proxy.process_new_http(session, &self.shutdown)
    }

    /// Refuses a request whose header Pingora did not take.
    async fn refuse_in_place_of_pingora(&mut self) {
        let (stream, header) = self.gate.take_back();
        // Pingora drops a connection without a word if the gateway ends.
        let Some(stream) = stream.filter(|_| !*self.shutdown.borrow()) else { return };
        self.stream = Some(self.behind_gate(stream));
        self.refuse(RefusedHeader::explain(&header), &header).await;
    }

    /// Answers and logs a header that is refused.
    async fn refuse(&mut self, refused: RefusedHeader, bytes: &[u8]) {
        let Some(stream) = self.stream.take() else { return };
        let substitute = BytesMut::from(&*refused.substitute(bytes));
        self.gate.close(&[], 0);
        self.gate.keep_stream();
        _ = self.break_off.run(self.request(stream, substitute, Some(Box::new(refused)))).await;
        self.linger().await;
    }

    /// Ends an answered connection whose client may still be sending: ends our side, then reads and
    /// discards. If it closed at once, the client's system would drop the answer unread (RFC 9112
    /// §9.6).
    async fn linger(&mut self) {
        let (Some(mut stream), _) = self.gate.take_back() else { return };
        let (most, longest) = {
            let current = self.listener.current.load();
            let limits = &current.runtime().limits;
            (limits.linger_bytes.as_usize(), limits.linger_time.0)
        };
        tokio::select! {
            biased;
            _ = timeout(longest, async {
                _ = stream.shutdown().await;
                discard(&mut stream, most).await;
            }) => {}
            () = ended(&mut self.shutdown) => {}
        }
    }
}

/// A request that Pingora serves.
type ServedRequest<'r> = Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'r>>;

/// Reads until the client closes, is silent, or has sent so many bytes.
async fn discard(stream: &mut Stream, most: usize) {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    let mut discarded = 0;
    while discarded < most {
        let Ok(Ok(count @ 1..)) = timeout(LINGER_SILENCE, stream.read_buf(&mut bytes)).await else { return };
        discarded += count;
        bytes.clear();
    }
}

/// Waits until the gateway ends.
async fn ended(shutdown: &mut ShutdownWatch) {
    // If the sender is gone, the gateway ends as well.
    _ = shutdown.wait_for(|is_ending| *is_ending).await;
}
