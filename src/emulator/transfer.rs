//! How a body travels: whole, byte by byte, in chunks, cut off, compressed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Sleep, sleep};

/// Size of a chunk if chunks were requested: small, so that one ends inside a JSON text.
const CHUNK: usize = 7;

/// How a body travels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transfer {
    /// In chunks, without a length.
    pub(super) chunked: bool,
    /// Wait before each byte.
    pub(super) pace: Option<Duration>,
    /// Close the connection half-way.
    pub(super) cut: bool,
}

/// How a call ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// As usual.
    Close,
    /// With RST.
    Reset,
}

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    left: Bytes,
    piece: usize,
    /// Absent if the length is not announced.
    announced: Option<u64>,
    pace: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
    cut: Option<UnboundedSender<Cut>>,
}

impl Outgoing {
    pub(super) fn new(body: Bytes, transfer: Transfer, cut: &UnboundedSender<Cut>) -> Self {
        let sent = if transfer.cut { body.len() / 2 } else { body.len() };
        let piece = match transfer {
            Transfer { pace: Some(_), .. } => 1,
            Transfer { chunked: true, .. } => CHUNK,
            Transfer { .. } => body.len(),
        };
        Self {
            piece,
            announced: if transfer.chunked { None } else { u64::try_from(body.len()).ok() },
            left: body.slice(..sent),
            pace: transfer.pace,
            waiting: transfer.pace.map(|pace| Box::pin(sleep(pace))),
            cut: transfer.cut.then(|| cut.clone()),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            // The server closes the connection after the bytes sent so far are flushed.
            return match self.cut.take() {
                Some(cut) => {
                    let _ = cut.send(Cut::Close);
                    Poll::Pending
                }
                None => Poll::Ready(None),
            };
        }
        if let Some(waiting) = &mut self.waiting {
            std::task::ready!(waiting.as_mut().poll(context));
        }
        self.waiting = self.pace.map(|pace| Box::pin(sleep(pace)));
        let length = self.piece.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// The bytes as a gzip stream of stored blocks (RFC 1952, RFC 1951 §3.2.4): a client must still
/// inflate it.
pub(super) fn gzip(bytes: &[u8]) -> Bytes {
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for block in bytes.chunks(0xffff) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(0);
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend([1, 0, 0, 0xff, 0xff]); // the last block, an empty one
    stream.extend(crc32(bytes).to_le_bytes());
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    stream.extend(length.to_le_bytes());
    stream.into()
}

/// The checksum of RFC 1952 §8, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
