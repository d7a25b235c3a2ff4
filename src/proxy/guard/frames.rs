//! What the HTTP/2 library does not do or tell: it drops pseudo-header fields of trailers, says
//! nothing of requests that it refuses or that the client takes back, and closes a connection while
//! the client may still be sending; and Pingora sends no interim answers through it. So the frames
//! of a connection are read on their way to and from it, as far as these things need.

mod header_block;
mod received;
mod sent;

use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::header_block::HeaderBlocks;
use self::received::{ReceivedFrames, TableSize};
use self::sent::SentFrames;
use super::super::interim::InterimQueue;

/// Bytes read at once while a frame is held back, or while a connection ends.
const PIECE: usize = 2048;
/// How long the end of the client's side is waited for once the connection has ended, and how many
/// bytes are discarded until then. If it closed at once, the client's system would drop what it has
/// not read yet: the last answer, or the word that the connection ends.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// How many requests one connection opened, and what became of them.
#[derive(Debug, Default)]
pub(super) struct RequestCounts {
    opened: AtomicU64,
    refused: AtomicU64,
    last_stream: AtomicU32,
    /// Taken back by the client.
    taken_back: AtomicU64,
    answered: AtomicU64,
    /// Whether the library has read all that has arrived.
    is_read: AtomicBool,
}

impl RequestCounts {
    /// Waits until the library has found more requests malformed than are known, if it accepted so
    /// many. To be polled together with the connection, which alone changes the counts.
    pub(super) async fn more_malformed(&self, accepted: u64, known: u64) {
        poll_fn(|_| match self.malformed(accepted) {
            Some(malformed) if malformed > known => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
    }

    /// The stream of the request that was accepted after so many others, if it is known: no other
    /// one was opened and not accepted.
    pub(super) fn accepted_stream(&self, accepted: u64, malformed: u64) -> Option<u32> {
        let (opened, refused) = (self.opened.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        let is_alone = opened == accepted + malformed + refused + 1;
        is_alone.then(|| self.last_stream.load(Ordering::Relaxed))
    }

    /// Waits until the client has taken more requests back than it may. To be polled together with
    /// the connection.
    pub(super) async fn too_many_taken_back(&self, allowance: &mut ResetAllowance) {
        poll_fn(|_| {
            let taken_back = self.taken_back.load(Ordering::Relaxed);
            let is_within = taken_back == allowance.seen
                || allowance.admits(taken_back, self.answered.load(Ordering::Relaxed), now());
            if is_within { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// How many requests were found malformed; `None` while there are bytes that the library has
    /// not read.
    fn malformed(&self, accepted: u64) -> Option<u64> {
        if !self.is_read.load(Ordering::Relaxed) {
            return None;
        }
        let (opened, refused) = (self.opened.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        Some(opened.saturating_sub(accepted).saturating_sub(refused))
    }
}

/// How many requests a client may take back, RFC 9113 §10.5: a browser takes back all pictures of a
/// page at once, and a client that opens requests only to take them back must be stopped
/// (CVE-2023-44487).
///
/// Each answer allows one more, and so does a hundredth of a second, up to the most at once.
#[derive(Debug)]
pub(super) struct ResetAllowance {
    most: u64,
    left: u64,
    /// When it was last filled.
    filled_at: Instant,
    /// Requests that were taken back, and answers, as far as they are counted here.
    seen: u64,
    answered: u64,
}

impl ResetAllowance {
    /// How long it takes until one more is allowed.
    const REFILL: Duration = Duration::from_millis(10);

    /// Allows so many at once.
    pub(super) fn new(most: u64) -> Self {
        Self { most, left: most, filled_at: now(), seen: 0, answered: 0 }
    }

    /// Counts; whether the client keeps within its allowance.
    fn admits(&mut self, taken_back: u64, answered: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let refilled = u64::try_from(elapsed.as_millis() / Self::REFILL.as_millis()).unwrap_or(u64::MAX);
        if refilled > 0 {
            self.filled_at = now;
        }
        let earned = refilled.saturating_add(answered.saturating_sub(self.answered));
        self.left = self.left.saturating_add(earned).min(self.most);
        let spent = taken_back.saturating_sub(self.seen);
        (self.seen, self.answered) = (taken_back, answered);
        let is_within = spent <= self.left;
        self.left = self.left.saturating_sub(spent);
        is_within
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast frames arrive is measured, nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

/// How the end of a connection goes on, once our side has ended.
#[derive(Debug)]
struct Lingering {
    until: Pin<Box<Sleep>>,
    discarded: usize,
}

/// A client's connection that speaks HTTP/2, and whose frames are read.
#[derive(Debug)]
pub(super) struct InspectedStream {
    stream: Stream,
    received: ReceivedFrames,
    sent: SentFrames,
    /// Bytes that were not handed on yet: first those that may be, then the beginning of a frame.
    held: BytesMut,
    /// How many of them may be handed on.
    released: usize,
    lingering: Option<Lingering>,
    counts: Arc<RequestCounts>,
    interim: Arc<InterimQueue>,
    /// Interim answers that are being written.
    writing: BytesMut,
}

impl InspectedStream {
    pub(super) fn new(stream: Stream, counts: Arc<RequestCounts>, interim: Arc<InterimQueue>) -> Self {
        Self {
            stream,
            received: ReceivedFrames::new(HeaderBlocks::default()),
            sent: SentFrames::default(),
            held: BytesMut::new(),
            released: 0,
            lingering: None,
            counts,
            interim,
            writing: BytesMut::new(),
        }
    }

    /// Reads into the library's buffer, and holds back what may not be handed on yet.
    fn poll_read_through(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let arrived = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        let count = arrived.len();
        let released = self.received.read(arrived);
        self.held.extend_from_slice(arrived.get(released..).unwrap_or_default());
        buffer.set_filled(before + released);
        Poll::Ready(Ok(count))
    }

    /// Reads what follows the beginning of a frame that is held back.
    fn poll_read_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
        self.held.extend_from_slice(piece.filled());
        // At the end of the connection the library sees that the frame is not whole.
        let is_end = piece.filled().is_empty();
        self.released = if is_end { self.held.len() } else { self.received.read(&mut self.held) };
        Poll::Ready(Ok(()))
    }

    fn poll_read_frames(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            if self.released > 0 {
                let count = self.released.min(buffer.remaining());
                buffer.put_slice(self.held.get(..count).unwrap_or_default());
                self.held.advance(count);
                self.released -= count;
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() {
                self.released = self.received.read(&mut self.held);
                if self.released > 0 {
                    continue;
                }
                if self.received.holds_request() {
                    // The library hands out the request that it has, and reads on afterwards.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                ready!(self.poll_read_held(context))?;
            } else {
                let count = ready!(self.poll_read_through(context, buffer))?;
                if count == 0 || buffer.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Writes the interim answers that wait, if no frame of the library has begun.
    fn poll_write_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing.is_empty() && self.interim.is_waiting() && self.sent.is_between_frames() {
            self.writing = self.interim.take();
        }
        while !self.writing.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.writing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes of the library may be written at once: interim answers wait only for the end
    /// of a frame.
    fn most_written(&self) -> usize {
        if self.interim.is_waiting() { self.sent.rest_of_frame() } else { usize::MAX }
    }

    fn note_sent(&mut self, slices: &[IoSlice<'_>], mut count: usize) {
        for slice in slices {
            let sent = slice.get(..count.min(slice.len())).unwrap_or_default();
            self.sent.read(sent);
            count -= sent.len();
        }
        self.counts.refused.store(self.sent.refused(), Ordering::Relaxed);
        self.counts.answered.store(self.sent.answered(), Ordering::Relaxed);
    }

    /// Reads and discards until the client ends its side, or for a moment.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { stream, lingering, .. } = self;
        let lingering = lingering.get_or_insert_with(|| Lingering {
            until: Box::pin(tokio::time::sleep(LINGER_TIME)),
            discarded: 0,
        });
        let mut piece = [0; PIECE];
        while lingering.discarded < LINGER_BYTES {
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut *stream).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    lingering.discarded += piece.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return lingering.until.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for InspectedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_read_frames(context, buffer);
        self.counts.opened.store(self.received.opened(), Ordering::Relaxed);
        self.counts.last_stream.store(self.received.last_stream(), Ordering::Relaxed);
        if let Some(TableSize { size, is_first }) = self.received.take_table_size() {
            self.interim.set_table_size(size, is_first);
        }
        if read.is_pending() {
            self.received.accept();
            self.interim.wake(context.waker());
        }
        self.counts.taken_back.store(self.received.taken_back(), Ordering::Relaxed);
        // The library reads more only after every frame that it has.
        self.counts.is_read.store(read.is_pending(), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for InspectedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_interim(context))?;
        let bytes = bytes.get(..self.most_written().min(bytes.len())).unwrap_or_default();
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.note_sent(&[IoSlice::new(bytes)], count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_interim(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            // Over TLS it says so to the client.
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        self.poll_linger(context).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.interim.is_waiting() || !self.writing.is_empty() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.note_sent(slices, count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

// What follows is asked of a connection before HTTP/2 begins on it, and not afterwards.

#[async_trait]
impl Shutdown for InspectedStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.stream).await;
    }
}

impl UniqueID for InspectedStream {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for InspectedStream {}

impl Peek for InspectedStream {}

impl GetTimingDigest for InspectedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for InspectedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for InspectedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_may_be_taken_back_at_once_and_again_after_a_while_but_not_without_end() {
        let mut allowance = ResetAllowance::new(100);
        let mut taken_back = 0;
        let mut take_back = |count, answered, after| {
            taken_back += count;
            allowance.admits(taken_back, answered, now() + Duration::from_millis(after))
        };

        assert!(take_back(100, 0, 0), "all that may be open");
        assert!(!take_back(1, 0, 0));
        assert!(take_back(30, 0, 300), "after a pause");
        assert!(take_back(70, 70, 300), "for as many answers");
        assert!(!take_back(1, 70, 300));
        assert!(take_back(100, 10_000, 60_000));
        assert!(!take_back(1, 10_000, 60_000), "no more are saved up");
    }
}
