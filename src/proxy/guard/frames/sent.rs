//! The frames that a client of HTTP/2 is sent: how many of its requests were refused because it had
//! too many open. That is no mistake of the client: it may not know the limit yet.

use super::received::{FrameHead, HEAD};

const RST_STREAM: u8 = 3;
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
    refused: u64,
}

impl SentFrames {
    /// How many requests were refused because the client had too many open.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
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
                    self.left = FrameHead::parse(&self.head).map_or(0, |head| head.length);
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
    fn refused_streams_are_counted_in_pieces_of_any_length() {
        let frame = |kind: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, 0, 0, 0, 0, 1][..], payload].concat()
        };
        let bytes = [
            frame(4, &[]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
            frame(RST_STREAM, &[0, 0, 0, 1]),
            frame(0, &[7]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let mut frames = SentFrames::default();
            bytes.chunks(piece).for_each(|piece| frames.read(piece));
            assert_eq!(frames.refused(), 2, "in pieces of {piece}");
        }
    }
}
