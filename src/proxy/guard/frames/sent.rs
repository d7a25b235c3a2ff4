//! The frames that a client of HTTP/2 is sent: where they end, how many of its requests were
//! answered, and how many were refused because it had too many open. That is no mistake of the
//! client: it may not know the limit yet.

use super::received::{END_HEADERS, FrameHead, HEAD, HEADERS, RST_STREAM};

const CONTINUATION: u8 = 9;
/// `REFUSED_STREAM`, the last byte of the error code; RFC 9113 §7.
const REFUSED_STREAM: u8 = 7;

/// Reads the frames of one connection, in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct SentFrames {
    head: [u8; HEAD],
    /// Bytes of the head that were read.
    head_length: usize,
    /// Bytes of the payload to come.
    left: usize,
    /// Whether a header block goes on in the next frame.
    is_in_block: bool,
    refused: u64,
    answered: u64,
}

impl SentFrames {
    /// How many requests were refused because the client had too many open.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether another frame may come next: the last one has ended, and its header block too.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.head_length == 0 && self.left == 0 && !self.is_in_block
    }

    /// How many bytes are known to belong to the frame that has begun, at least 1.
    pub(super) const fn rest_of_frame(&self) -> usize {
        if self.left > 0 { self.left } else { HEAD - self.head_length }
    }

    /// How many headers of answers, or trailers, were sent.
    pub(super) const fn answered(&self) -> u64 {
        self.answered
    }

    /// Reads on.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if self.left == 0 {
                if let Some(place) = self.head.get_mut(self.head_length) {
                    *place = *byte;
                }
                self.head_length += 1;
                bytes = rest;
                if self.head_length == HEAD {
                    self.head_length = 0;
                    let head = FrameHead::parse(&self.head);
                    self.left = head.map_or(0, |head| head.length);
                    self.is_in_block = head.is_some_and(|head| {
                        matches!(head.kind, HEADERS | CONTINUATION) && !head.has(END_HEADERS)
                    });
                    self.answered += u64::from(self.head[3] == HEADERS);
                }
                continue;
            }
            let count = self.left.min(bytes.len());
            self.left -= count;
            let last = bytes.get(count - 1);
            if self.left == 0 && self.head[3] == RST_STREAM && last == Some(&REFUSED_STREAM) {
                self.refused += 1;
            }
            bytes = bytes.get(count..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_frame_may_come_after_a_whole_header_block() {
        let mut frames = SentFrames::default();
        for (bytes, is_between, rest) in [
            (&b""[..], true, HEAD),
            (b"\0\0\x02\x01", false, HEAD - 4),
            (b"\0\0\0\0\x01", false, 2),
            (b"a", false, 1),
            (b"b", false, HEAD),
            (b"\0\0\x01\x09\x04\0\0\0\x01", false, 1),
            (b"c", true, HEAD),
            (b"\0\0\0\x04\x01\0\0\0\0", true, HEAD),
        ] {
            frames.read(bytes);
            assert_eq!((frames.is_between_frames(), frames.rest_of_frame()), (is_between, rest), "{bytes:?}");
        }
    }

    #[test]
    fn answers_and_refused_streams_are_counted_in_pieces_of_any_length() {
        let frame = |kind: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, 0, 0, 0, 0, 1][..], payload].concat()
        };
        let bytes = [
            frame(4, &[]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
            frame(RST_STREAM, &[0, 0, 0, 1]),
            frame(0, &[7]),
            frame(HEADERS, &[0x88]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let mut frames = SentFrames::default();
            bytes.chunks(piece).for_each(|piece| frames.read(piece));
            assert_eq!((frames.refused(), frames.answered()), (2, 1), "in pieces of {piece}");
        }
    }
}
