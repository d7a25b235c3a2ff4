//! Whether a chunked body is framed as RFC 9112 §7.1 says: each line ends with CR LF, each chunk
//! has a size, and extensions and trailers have only characters that are allowed there.
//!
//! Pingora's reader is lenient: a line may end with LF inside an extension, and a size may be
//! empty. Another server that reads the same bytes could see the end of the body elsewhere.

/// Longest line of a chunk's size with its extensions, and most bytes of all trailers.
const MAX_LINE: usize = 4096;
const MAX_TRAILERS: usize = 16 * 1024;
/// Digits of a chunk's size; more would exceed 64 bits.
const MAX_DIGITS: u8 = 16;

/// The framing of a body is not what RFC 9112 §7.1 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedChunk;

/// Reads a body as it arrives, in pieces of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkedBody {
    place: Place,
    /// Bytes of the line, or of the trailers, so far.
    line: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The size: its value and digits so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// Blanks after the size, before `;` or the end of the line.
    Blanks {
        size: u64,
    },
    /// An extension.
    Extension {
        size: u64,
    },
    /// The LF after the CR of a chunk's line.
    LineFeed {
        size: u64,
    },
    /// Data, of which so many bytes are to come.
    Data {
        left: u64,
    },
    /// The CR and the LF after data.
    DataReturn,
    DataFeed,
    /// The first byte of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    /// The name of a trailer, and its value.
    TrailerName,
    TrailerValue,
    /// The LF after the CR of a trailer line.
    TrailerFeed,
    /// The LF of the empty line.
    EndFeed,
    /// The body is over. What follows belongs to the next request.
    End,
}

impl ChunkedBody {
    pub(super) const fn new() -> Self {
        Self { place: Place::Size { size: 0, digits: 0 }, line: 0 }
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`MalformedChunk`]. Nothing more is to be read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), MalformedChunk> {
        while let [byte, rest @ ..] = bytes {
            match self.place {
                Place::End => return Ok(()),
                Place::Data { left } => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    let left = left - skipped as u64;
                    self.place = if left == 0 { Place::DataReturn } else { Place::Data { left } };
                }
                place => {
                    self.place = next(place, *byte).ok_or(MalformedChunk)?;
                    self.count(place)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// Bounds the lines, which nothing else does.
    fn count(&mut self, place: Place) -> Result<(), MalformedChunk> {
        let most = match place {
            Place::TrailerStart | Place::TrailerName | Place::TrailerValue | Place::TrailerFeed => {
                MAX_TRAILERS
            }
            _ => MAX_LINE,
        };
        self.line += 1;
        if matches!(place, Place::DataFeed | Place::LineFeed { .. }) {
            self.line = 0;
        }
        if self.line > most { Err(MalformedChunk) } else { Ok(()) }
    }
}

/// The place after a byte; `None` if the byte is not allowed there.
const fn next(place: Place, byte: u8) -> Option<Place> {
    Some(match (place, byte) {
        (Place::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
            if digits == MAX_DIGITS {
                return None;
            }
            Place::Size { size: size << 4 | digit(byte), digits: digits + 1 }
        }
        // A chunk without a size.
        (Place::Size { digits: 0, .. }, _) => return None,
        (Place::Size { size, .. } | Place::Blanks { size }, b' ' | b'\t') => Place::Blanks { size },
        (Place::Size { size, .. } | Place::Blanks { size }, b';') => Place::Extension { size },
        (Place::Size { size, .. } | Place::Blanks { size } | Place::Extension { size }, b'\r') => {
            Place::LineFeed { size }
        }
        (Place::Extension { size }, _) if may_stand_in_a_value(byte) => Place::Extension { size },
        (Place::LineFeed { size: 0 }, b'\n') => Place::TrailerStart,
        (Place::LineFeed { size }, b'\n') => Place::Data { left: size },
        (Place::DataReturn, b'\r') => Place::DataFeed,
        (Place::DataFeed, b'\n') => Place::Size { size: 0, digits: 0 },
        (Place::TrailerStart, b'\r') => Place::EndFeed,
        (Place::TrailerStart | Place::TrailerName, _) if is_token(byte) => Place::TrailerName,
        (Place::TrailerName, b':') => Place::TrailerValue,
        (Place::TrailerValue, b'\r') => Place::TrailerFeed,
        (Place::TrailerValue, _) if may_stand_in_a_value(byte) => Place::TrailerValue,
        (Place::TrailerFeed, b'\n') => Place::TrailerStart,
        (Place::EndFeed, b'\n') => Place::End,
        _ => return None,
    })
}

const fn digit(byte: u8) -> u64 {
    (match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    }) as u64
}

/// What may stand in a field's value or an extension; RFC 9110 §5.5.
pub(super) const fn may_stand_in_a_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// What may stand in a field's name; RFC 9110 §5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &[u8]) -> Result<Place, MalformedChunk> {
        let mut chunks = ChunkedBody::new();
        chunks.read(body).map(|()| chunks.place)
    }

    #[test]
    fn a_body_as_the_standard_has_it_is_read_to_its_end() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5 \t\r\nhello\r\n000\r\n\r\n",
            "5;a=b;c=\"d\u{e9}\"\r\nhello\r\n0;x\r\n\r\n",
            "A\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n\r\n",
            "0\r\nX-A: b\r\nX-B:\r\n\r\n",
            "0\r\n\r\nGET / HTTP/1.1\r\n\n\0",
        ] {
            assert_eq!(read(body.as_bytes()), Ok(Place::End), "{body:?}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_malformed() {
        for body in [
            "\r\n\r\n",
            "\n",
            ";\r\n",
            ";a\r\n",
            " 5\r\n",
            "x",
            "0x5\r\n",
            "+5\r\n",
            "5\n",
            "5\rh",
            "5 5\r\n",
            "5\0\r\n",
            "5;a\nXX\r\n",
            "5;a\0\r\n",
            "5;a\u{7f}\r\n",
            "5;a\rb\r\n",
            "5\r\nhellox",
            "5\r\nhello\n",
            "5\r\nhello\rx",
            "5\r\nhello\r\n\r\n",
            "5\r\nhello\r\n;\r\n",
            "00000000000000001",
            "0\r\nX-A b\r\n",
            "0\r\nX-A : b\r\n",
            "0\r\n folded: b\r\n",
            "0\r\n:\r\n",
            "0\r\nX-A: b\n",
            "0\r\nX-A: \0",
            "0\r\n\n",
            "0\r\n\r\r",
        ] {
            assert_eq!(read(body.as_bytes()), Err(MalformedChunk), "{body:?}");
        }
    }

    #[test]
    fn a_line_and_the_trailers_have_a_longest_length() {
        assert!(read(format!("5;{}", "a".repeat(MAX_LINE)).as_bytes()).is_err());
        assert!(read("0\r\nX-A: b\r\n".to_owned().as_bytes()).is_ok());
        let trailers = "X-A: b\r\n".repeat(MAX_TRAILERS / 8 + 1);
        assert!(read(format!("0\r\n{trailers}").as_bytes()).is_err());
        let many = "1\r\na\r\n".repeat(10_000);
        assert_eq!(read(format!("{many}0\r\n\r\n").as_bytes()), Ok(Place::End));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            body in "([0-9a-f;\\r\\n \\x00:A]|5\\r\\nhello\\r\\n|0\\r\\n\\r\\n){0,12}",
            cut in 0_usize..64,
        ) {
            let whole = read(body.as_bytes());
            let (first, second) = body.as_bytes().split_at(cut.min(body.len()));
            let mut chunks = ChunkedBody::new();
            let pieces = chunks.read(first).and_then(|()| chunks.read(second)).map(|()| chunks.place);

            prop_assert_eq!(whole, pieces);
        }
    }
}
