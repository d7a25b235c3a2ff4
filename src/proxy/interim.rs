//! Interim answers over HTTP/2, such as `103 Early Hints`. Pingora drops them, so the guard writes
//! them to the client between the frames of the HTTP/2 library.
//!
//! The library's table of header fields stays as it is: the fields are literals that are not
//! indexed, RFC 7541 §6.2.2.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Waker;

use bytes::{BufMut as _, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;

/// Longest header block of an interim answer: every client accepts a frame of this length. RFC 9113
/// §4.2.
const LONGEST_BLOCK: usize = 16 * 1024;
/// Most bytes that wait for a client that does not read. What is more is dropped: an interim answer
/// only helps.
const MOST_WAITING: usize = 64 * 1024;
/// The size of the table that a client begins with; RFC 9113 §6.5.2.
const INITIAL_TABLE: u32 = 4096;
/// Stands for a table that changed while it was in use.
const UNKNOWN_TABLE: u32 = u32::MAX;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;

tokio::task_local! {
    static STREAM: InterimStream;
}

/// Where the interim answers of one request go.
#[derive(Clone, Debug)]
pub(super) struct InterimStream {
    /// The connection's.
    pub(super) queue: Arc<InterimQueue>,
    /// The stream; `None` if it is not known for certain.
    pub(super) id: Option<u32>,
}

/// Interim answers of one connection that wait to be written, as whole frames.
#[derive(Debug)]
pub(super) struct InterimQueue {
    is_waiting: AtomicBool,
    table_size: AtomicU32,
    frames: Mutex<BytesMut>,
    writer: AtomicWaker,
}

impl Default for InterimQueue {
    fn default() -> Self {
        Self {
            is_waiting: AtomicBool::new(false),
            table_size: AtomicU32::new(INITIAL_TABLE),
            frames: Mutex::default(),
            writer: AtomicWaker::new(),
        }
    }
}

/// Runs a request whose interim answers go to this stream.
pub(super) fn with_stream<F: Future>(
    stream: InterimStream,
    request: F,
) -> impl Future<Output = F::Output> + use<F> {
    STREAM.scope(stream, request)
}

/// Sends an interim answer of the request that runs here. Only requests of HTTP/2 have a stream.
pub(super) fn send(response: &ResponseHeader) {
    _ = STREAM.try_with(|stream| stream.id.map(|id| stream.queue.push(id, response)));
}

impl InterimQueue {
    /// Whether frames wait to be written.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }

    /// The frames that wait.
    pub(super) fn take(&self) -> BytesMut {
        let mut frames = self.frames.lock();
        self.is_waiting.store(false, Ordering::Release);
        std::mem::take(&mut *frames)
    }

    /// Wakes the writer when a frame waits.
    pub(super) fn wake(&self, writer: &Waker) {
        self.writer.register(writer);
    }

    /// The client has set the size of its table before its first request, or afterwards. Afterwards
    /// nothing is sent any more: header blocks that were not written yet may rely on the old table.
    pub(super) fn set_table_size(&self, size: u32, is_first: bool) {
        let size = if is_first { size.min(INITIAL_TABLE) } else { UNKNOWN_TABLE };
        self.table_size.store(size, Ordering::Relaxed);
    }

    fn push(&self, id: u32, response: &ResponseHeader) {
        let table_size = self.table_size.load(Ordering::Relaxed);
        if table_size == UNKNOWN_TABLE {
            return;
        }
        let block = encode(response, table_size);
        let mut frames = self.frames.lock();
        if block.len() > LONGEST_BLOCK || frames.len() + block.len() > MOST_WAITING {
            return;
        }
        frames.put_uint(block.len() as u64, 3);
        frames.put_slice(&[HEADERS, END_HEADERS]);
        frames.put_u32(id);
        frames.put_slice(&block);
        self.is_waiting.store(true, Ordering::Release);
        drop(frames);
        self.writer.wake();
    }
}

/// The header block of an answer.
fn encode(response: &ResponseHeader, table_size: u32) -> BytesMut {
    let mut block = BytesMut::new();
    if table_size < INITIAL_TABLE {
        // RFC 7541 §4.2: the first block after the change says so.
        put_integer(&mut block, 0b0010_0000, 5, table_size as usize);
    }
    // Entry 8 of the static table has the name `:status`.
    block.put_u8(8);
    put_text(&mut block, response.status.as_str().as_bytes());
    for (name, value) in &response.headers {
        block.put_u8(0);
        put_text(&mut block, name.as_str().as_bytes());
        put_text(&mut block, value.as_bytes());
    }
    block
}

fn put_text(block: &mut BytesMut, text: &[u8]) {
    put_integer(block, 0, 7, text.len());
    block.put_slice(text);
}

/// An integer with so many bits in its first byte; RFC 7541 §5.1.
fn put_integer(block: &mut BytesMut, first: u8, bits: u8, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        block.put_u8(first | low_byte(value));
        return;
    }
    block.put_u8(first | low_byte(most));
    let mut rest = value - most;
    while rest >= 128 {
        block.put_u8(low_byte(rest % 128) | 128);
        rest /= 128;
    }
    block.put_u8(low_byte(rest));
}

const fn low_byte(value: usize) -> u8 {
    (value & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(value: &str) -> ResponseHeader {
        let mut response = ResponseHeader::build(103, None).unwrap();
        response.insert_header("Link", value).unwrap();
        response
    }

    #[test]
    fn a_frame_has_literals_alone() {
        let queue = InterimQueue::default();

        queue.push(5, &hint("</a>"));

        assert!(queue.is_waiting());
        assert_eq!(&queue.take()[..], b"\0\0\x10\x01\x04\0\0\0\x05\x08\x03103\0\x04link\x04</a>");
        assert!(!queue.is_waiting());
    }

    #[test]
    fn an_integer_takes_as_many_bytes_as_it_needs() {
        // RFC 7541, appendix C.1.
        for (bits, value, expected) in
            [(5, 10, &[10][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42]), (7, 127, &[127, 0]), (5, 0, &[0])]
        {
            let mut block = BytesMut::new();
            put_integer(&mut block, 0, bits, value);
            assert_eq!(&block[..], expected, "{value}");
        }
    }

    #[test]
    fn a_smaller_table_is_stated_and_one_that_changed_in_use_ends_it() {
        let queue = InterimQueue::default();
        queue.set_table_size(0, true);
        queue.push(1, &hint("a"));
        assert_eq!(queue.take()[9], 0b0010_0000);

        queue.set_table_size(65_536, true);
        queue.push(1, &hint("a"));
        assert_eq!(queue.take()[9], 8);

        queue.set_table_size(100, false);
        queue.push(1, &hint("a"));
        assert!(!queue.is_waiting());
    }

    #[test]
    fn what_waits_is_bounded() {
        let queue = InterimQueue::default();
        queue.push(1, &hint(&"x".repeat(LONGEST_BLOCK)));
        assert!(!queue.is_waiting());
        for _ in 0..100 {
            queue.push(1, &hint(&"x".repeat(10_000)));
        }
        assert!(queue.take().len() <= MOST_WAITING + 9);
    }

    #[tokio::test]
    async fn a_request_without_a_stream_sends_nothing() {
        send(&hint("a"));
        let queue = Arc::new(InterimQueue::default());
        for (id, expected) in [(None, false), (Some(3), true)] {
            let stream = InterimStream { queue: Arc::clone(&queue), id };
            with_stream(stream, async { send(&hint("a")) }).await;
            assert_eq!(queue.is_waiting(), expected);
        }
    }
}
