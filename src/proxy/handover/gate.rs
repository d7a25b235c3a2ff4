//! The gate between Pingora and a client: it holds back what Pingora writes before it has accepted
//! a header as a request, and it checks the framing of a chunked body.
//!
//! Pingora answers a header that it does not accept with a bare 400 of its own, which is not in the
//! access log. That answer is dropped here, and the guard gets the connection back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::{ChunkedBody, MalformedChunk};

/// The gate of one connection, for the guard and for Pingora's phases.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    is_open: AtomicBool,
    /// Whether the guard gets the connection back when Pingora has done with it.
    is_kept: AtomicBool,
    checks_chunks: AtomicBool,
    has_malformed_chunk: AtomicBool,
    /// Bytes of the request that are to come, if its body is not chunked.
    left: AtomicU64,
    has_excess: AtomicBool,
    held: Mutex<Held>,
}

/// How long the rest of a request is, after its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestOfRequest {
    /// So many bytes.
    Length(u64),
    /// A chunked body.
    Chunked,
    /// Whatever comes: another protocol may follow.
    Endless,
}

#[derive(Default)]
struct Held {
    /// The bytes that Pingora was given, and where their header ends.
    received: Box<[u8]>,
    header_end: usize,
    chunks: Option<ChunkedBody>,
    /// The connection, once Pingora has dropped it.
    stream: Option<Stream>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes are a client's, with its tokens.
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Gate {
    /// Closes the gate for a request that Pingora is about to read from these bytes.
    pub(in crate::proxy) fn close(&self, received: &[u8], header_end: usize) {
        self.0.is_open.store(false, Ordering::Relaxed);
        self.0.is_kept.store(false, Ordering::Relaxed);
        self.0.checks_chunks.store(false, Ordering::Relaxed);
        self.0.has_excess.store(false, Ordering::Relaxed);
        self.0.left.store(u64::MAX, Ordering::Relaxed);
        let mut held = self.0.held.lock();
        held.received = received.into();
        held.header_end = header_end;
    }

    /// Opens the gate: what Pingora writes from here on is an answer of ours.
    ///
    /// # Errors
    /// [`MalformedChunk`] if the body is chunked and the bytes that came with the header are
    /// malformed.
    pub(super) fn open(&self, rest: RestOfRequest) -> Result<(), MalformedChunk> {
        self.0.is_open.store(true, Ordering::Relaxed);
        let mut held = self.0.held.lock();
        let received = std::mem::take(&mut held.received);
        let after_header = received.get(held.header_end..).unwrap_or_default();
        match rest {
            RestOfRequest::Chunked => {}
            RestOfRequest::Length(length) => {
                self.0.left.store(length, Ordering::Relaxed);
                self.count(after_header.len());
                return Ok(());
            }
            RestOfRequest::Endless => return Ok(()),
        }
        let mut chunks = ChunkedBody::new();
        let checked = chunks.read(after_header);
        self.0.has_excess.store(chunks.has_excess(), Ordering::Relaxed);
        held.chunks = Some(chunks);
        self.0.checks_chunks.store(true, Ordering::Relaxed);
        checked.inspect_err(|_| self.0.has_malformed_chunk.store(true, Ordering::Relaxed))
    }

    /// Lets the guard have the connection back in any case.
    pub(in crate::proxy) fn keep_stream(&self) {
        self.0.is_kept.store(true, Ordering::Relaxed);
    }

    pub(in crate::proxy) fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Relaxed)
    }

    /// Whether the client sent bytes beyond the end of its request.
    pub(in crate::proxy) fn has_excess(&self) -> bool {
        self.0.has_excess.load(Ordering::Relaxed)
    }

    /// Whether the body was read and is malformed.
    pub(in crate::proxy) fn has_malformed_chunk(&self) -> bool {
        self.0.has_malformed_chunk.load(Ordering::Relaxed)
    }

    /// The connection that Pingora dropped, and the header that it did not take.
    pub(in crate::proxy) fn take_back(&self) -> (Option<Stream>, Box<[u8]>) {
        let mut held = self.0.held.lock();
        (held.stream.take(), std::mem::take(&mut held.received))
    }

    fn check(&self, bytes: &[u8]) -> io::Result<()> {
        let mut held = self.0.held.lock();
        let Some(chunks) = &mut held.chunks else { return Ok(()) };
        chunks.read(bytes).map_err(|MalformedChunk| {
            self.0.has_malformed_chunk.store(true, Ordering::Relaxed);
            io::Error::new(io::ErrorKind::InvalidData, "malformed chunk")
        })?;
        if chunks.has_excess() {
            self.0.has_excess.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts bytes of a request whose length is known. Pingora alone reads them, one after the
    /// other.
    fn count(&self, bytes: usize) {
        let left = self.0.left.load(Ordering::Relaxed);
        let rest = left.checked_sub(bytes as u64);
        self.0.left.store(rest.unwrap_or(0), Ordering::Relaxed);
        if rest.is_none() {
            self.0.has_excess.store(true, Ordering::Relaxed);
        }
    }
}

/// A client's connection behind its gate.
#[derive(Debug)]
pub(in crate::proxy) struct GatedStream {
    /// `None` only once it is dropped.
    stream: Option<Stream>,
    gate: Gate,
}

impl GatedStream {
    pub(in crate::proxy) fn new(stream: Stream, gate: Gate) -> Self {
        Self { stream: Some(stream), gate }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for GatedStream {
    fn drop(&mut self) {
        if !self.gate.is_open() || self.gate.0.is_kept.load(Ordering::Relaxed) {
            self.gate.0.held.lock().stream = self.stream.take();
        }
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream()?.poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if self.gate.0.checks_chunks.load(Ordering::Relaxed) {
            self.gate.check(read)?;
        } else {
            self.gate.count(read.len());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.gate.is_open() {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gate.is_open() {
            return Poll::Ready(Ok(()));
        }
        self.stream()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.gate.is_open() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[async_trait]
impl Shutdown for GatedStream {
    async fn shutdown(&mut self) {
        if self.gate.is_open()
            && let Some(stream) = &mut self.stream
        {
            Shutdown::shutdown(&mut **stream).await;
        }
    }
}

#[async_trait]
impl Peek for GatedStream {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match &mut self.stream {
            Some(stream) => stream.try_peek(buffer).await,
            None => Ok(false),
        }
    }
}

impl UniqueID for GatedStream {
    fn id(&self) -> UniqueIDType {
        self.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for GatedStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.as_ref()?.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.as_ref()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for GatedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.as_ref().map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }

    fn get_read_pending_time(&self) -> std::time::Duration {
        self.stream.as_ref().map(|stream| stream.get_read_pending_time()).unwrap_or_default()
    }

    fn get_write_pending_time(&self) -> std::time::Duration {
        self.stream.as_ref().map(|stream| stream.get_write_pending_time()).unwrap_or_default()
    }
}

impl GetProxyDigest for GatedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.as_ref()?.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        if let Some(stream) = &mut self.stream {
            stream.set_proxy_digest(digest);
        }
    }
}

impl GetSocketDigest for GatedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_ref()?.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        if let Some(stream) = &mut self.stream {
            stream.set_socket_digest(digest);
        }
    }
}
