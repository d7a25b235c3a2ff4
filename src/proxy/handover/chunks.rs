//! Whether a chunked body is framed as RFC 9112 §7.1 says: each line ends with CR LF, each chunk
//! has a size, and extensions and trailers have only characters that are allowed there.
//!
//! Pingora's reader is lenient: a line may end with LF inside an extension, and a size may be
//! empty. Another server that reads the same bytes could see the end of the body elsewhere.

use crate::authn::is_token_byte;

/// Longest line of a chunk's size with its extensions, and most bytes of all trailers.
const MAX_LINE: usize = 4096;
const MAX_TRAILERS: usize = 16 * 1024;
/// Digits of a chunk's size. Pingora reads no more, and what it does not read is malformed here.
const MAX_DIGITS: u8 = 15;

/// The framing of a body is not what RFC 9112 §7.1 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedChunk;

/// Reads a body as it arrives, in pieces of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkedBody {
    place: ChunkPlace,
    /// Bytes of the line, or of the trailers, so far.
    line: usize,
    /// Whether bytes came after the end.
    has_excess: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkPlace {
    /// The size: its value and digits so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// A part of the extensions.
    Extension {
        size: u64,
        part: Extension,
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

/// What the next byte of an extension, `;name=value`, belongs to; RFC 9112 §7.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Blanks before `;`.
    Before,
    /// Blanks before the name.
    NameStart,
    Name,
    /// Blanks after the name, before `=` or `;`.
    NameEnd,
    /// Blanks before the value.
    ValueStart,
    Value,
    /// A value in quotes, and a character after `\\` there.
    Quoted,
    Escaped,
    /// After the value's last quote.
    QuoteEnd,
}

impl Extension {
    /// What follows a byte that does not end the line; `None` if the byte is not allowed there.
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Before | Self::Name | Self::NameEnd | Self::Value | Self::QuoteEnd, b';') => {
                Self::NameStart
            }
            (Self::Before | Self::Value | Self::QuoteEnd, b' ' | b'\t') => Self::Before,
            (Self::NameStart, b' ' | b'\t') => Self::NameStart,
            (Self::Name | Self::NameEnd, b' ' | b'\t') => Self::NameEnd,
            (Self::Name | Self::NameEnd, b'=') | (Self::ValueStart, b' ' | b'\t') => Self::ValueStart,
            (Self::ValueStart, b'"') | (Self::Escaped, _) if may_stand_in_a_value(byte) => Self::Quoted,
            (Self::Quoted, b'"') => Self::QuoteEnd,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted, _) if may_stand_in_a_value(byte) => Self::Quoted,
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::ValueStart | Self::Value, _) if is_token_byte(byte) => Self::Value,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    const fn is_whole(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuoteEnd)
    }
}

impl ChunkedBody {
    pub(super) const fn new() -> Self {
        Self { place: ChunkPlace::Size { size: 0, digits: 0 }, line: 0, has_excess: false }
    }

    /// Whether bytes came after the end of the body.
    pub(super) const fn has_excess(&self) -> bool {
        self.has_excess
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`MalformedChunk`]. Nothing more is to be read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), MalformedChunk> {
        while let [byte, rest @ ..] = bytes {
            match self.place {
                ChunkPlace::End => {
                    self.has_excess = true;
                    return Ok(());
                }
                ChunkPlace::Data { left } => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    let left = left - skipped as u64;
                    self.place = if left == 0 { ChunkPlace::DataReturn } else { ChunkPlace::Data { left } };
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
    fn count(&mut self, place: ChunkPlace) -> Result<(), MalformedChunk> {
        let most = match place {
            ChunkPlace::TrailerStart
            | ChunkPlace::TrailerName
            | ChunkPlace::TrailerValue
            | ChunkPlace::TrailerFeed => MAX_TRAILERS,
            _ => MAX_LINE,
        };
        self.line += 1;
        if matches!(place, ChunkPlace::DataFeed | ChunkPlace::LineFeed { .. }) {
            self.line = 0;
        }
        if self.line > most { Err(MalformedChunk) } else { Ok(()) }
    }
}

/// The place after a byte; `None` if the byte is not allowed there.
const fn next(place: ChunkPlace, byte: u8) -> Option<ChunkPlace> {
    Some(match (place, byte) {
        (ChunkPlace::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
            if digits == MAX_DIGITS {
                return None;
            }
            ChunkPlace::Size { size: size << 4 | digit(byte), digits: digits + 1 }
        }
        // A chunk without a size.
        (ChunkPlace::Size { digits: 0, .. }, _) => return None,
        (ChunkPlace::Size { size, .. }, b'\r') => ChunkPlace::LineFeed { size },
        (ChunkPlace::Extension { size, part }, b'\r') if part.is_whole() => ChunkPlace::LineFeed { size },
        (ChunkPlace::Size { size, .. }, _) => match Extension::Before.next(byte) {
            Some(part) => ChunkPlace::Extension { size, part },
            None => return None,
        },
        (ChunkPlace::Extension { size, part }, _) => match part.next(byte) {
            Some(part) => ChunkPlace::Extension { size, part },
            None => return None,
        },
        (ChunkPlace::LineFeed { size: 0 }, b'\n') => ChunkPlace::TrailerStart,
        (ChunkPlace::LineFeed { size }, b'\n') => ChunkPlace::Data { left: size },
        (ChunkPlace::DataReturn, b'\r') => ChunkPlace::DataFeed,
        (ChunkPlace::DataFeed, b'\n') => ChunkPlace::Size { size: 0, digits: 0 },
        (ChunkPlace::TrailerStart, b'\r') => ChunkPlace::EndFeed,
        (ChunkPlace::TrailerStart | ChunkPlace::TrailerName, _) if is_token_byte(byte) => {
            ChunkPlace::TrailerName
        }
        (ChunkPlace::TrailerName, b':') => ChunkPlace::TrailerValue,
        (ChunkPlace::TrailerValue, b'\r') => ChunkPlace::TrailerFeed,
        (ChunkPlace::TrailerValue, _) if may_stand_in_a_value(byte) => ChunkPlace::TrailerValue,
        (ChunkPlace::TrailerFeed, b'\n') => ChunkPlace::TrailerStart,
        (ChunkPlace::EndFeed, b'\n') => ChunkPlace::End,
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pingora::protocols::http::ServerSession;
    use proptest::prelude::*;

    use super::*;

    fn read(body: &[u8]) -> Result<ChunkPlace, MalformedChunk> {
        let mut chunks = ChunkedBody::new();
        chunks.read(body).map(|()| chunks.place)
    }

    #[test]
    fn a_body_as_the_standard_has_it_is_read_to_its_end() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "000000000000005\r\nhello\r\n000\r\n\r\n",
            "5;a=b;c=\"d\u{e9}\"\r\nhello\r\n0;x\r\n\r\n",
            "5 ;\ta = \"b;\\\"\" ; c\r\nhello\r\n0;x=y\r\n\r\n",
            "A\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n\r\n",
            "0\r\nX-A: b\r\nX-B:\r\n\r\n",
            "0\r\n\r\nGET / HTTP/1.1\r\n\n\0",
        ] {
            assert_eq!(read(body.as_bytes()), Ok(ChunkPlace::End), "{body:?}");
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
            "5 \r\n",
            "5\t\r\n",
            "5;\r\n",
            "5; \r\n",
            "5;;a\r\n",
            "5;a \r\n",
            "5;a=\r\n",
            "5;a=b c\r\n",
            "5;a b\r\n",
            "5;=b\r\n",
            "5;a=\"b\r\n",
            "5;a=\"b\\\"\r\n",
            "5;a=\"b\"c\r\n",
            "5;(\r\n",
            "5;\u{e9}\r\n",
            "5\r\nhellox",
            "5\r\nhello\n",
            "5\r\nhello\rx",
            "5\r\nhello\r\n\r\n",
            "5\r\nhello\r\n;\r\n",
            "0000000000000001",
            "ffffffffffffffff\r\n",
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
    fn bytes_after_the_end_are_noticed() {
        for (body, expected) in [("0\r\n\r\n", false), ("0\r\n\r\nG", true), ("1\r\na\r\n", false)] {
            let mut chunks = ChunkedBody::new();
            chunks.read(body.as_bytes()).unwrap();
            assert_eq!(chunks.has_excess(), expected, "{body:?}");
        }
    }

    #[test]
    fn a_line_and_the_trailers_have_a_longest_length() {
        assert!(read(format!("5;{}", "a".repeat(MAX_LINE)).as_bytes()).is_err());
        assert!(read(b"0\r\nX-A: b\r\n").is_ok());
        let trailers = "X-A: b\r\n".repeat(MAX_TRAILERS / 8 + 1);
        assert!(read(format!("0\r\n{trailers}").as_bytes()).is_err());
        let many = "1\r\na\r\n".repeat(10_000);
        assert_eq!(read(format!("{many}0\r\n\r\n").as_bytes()), Ok(ChunkPlace::End));
    }

    /// The data that Pingora reads of a body; `None` if it reads no end.
    fn data_for_pingora(body: &[u8]) -> Option<Vec<u8>> {
        let threads = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        threads.block_on(async {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (client, stream) = tokio::io::duplex(64);
            drop(client);
            let mut session = ServerSession::new_http1(Box::new(stream));
            session.set_pipelined_prefix(BytesMut::from(&[head, body].concat()[..]));
            session.read_request().await.ok()?;
            let mut data = Vec::new();
            while let Some(part) = session.read_request_body().await.ok()? {
                data.extend_from_slice(&part);
            }
            Some(data)
        })
    }

    /// The line of a chunk: a size, and extensions that are often well-formed.
    fn line_of_a_chunk() -> impl Strategy<Value = String> {
        let size = prop_oneof![
            4 => "[0-9a-fA-F]{1,3}".boxed(),
            1 => "0{0,16}[0-9a-f]{0,2}".boxed(),
            1 => "f{14,17}".boxed(),
        ];
        let extensions = prop_oneof![
            3 => Just(String::new()).boxed(),
            2 => "[ \t]{0,2};[ \t]{0,2}[a-z]{0,3}".boxed(),
            2 => "[ \t]{0,2};[a-z]{1,3}[ \t]?=[ \t]?([a-z(]{0,3}|\"[a-z\\\\;\"]{0,4}\")".boxed(),
            1 => "[;a\\x00\\n\\x7f\"= ]{0,5}".boxed(),
        ];
        (size, extensions).prop_map(|(size, extensions)| format!("{size}{extensions}\r\n"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// Otherwise Pingora could give up in the middle of a body, or see its end elsewhere.
        #[test]
        fn what_is_well_formed_here_is_read_by_pingora_to_the_same_end(
            first in line_of_a_chunk(),
            last in prop_oneof![3 => Just("0\r\n\r\n"), 1 => Just("0\r\nX-A: b\r\n\r\n"), 1 => Just("0;x=\"y\"\r\n\r\n")],
        ) {
            let digits: String = first.chars().take_while(char::is_ascii_hexdigit).collect();
            let size = usize::from_str_radix(&digits, 16).unwrap_or(0).min(5000);
            let body = if size == 0 {
                format!("{first}\r\n")
            } else {
                format!("{first}{}\r\n{last}", "d".repeat(size))
            };

            if read(body.as_bytes()) == Ok(ChunkPlace::End) {
                prop_assert_eq!(data_for_pingora(body.as_bytes()).map(|data| data.len()), Some(size), "{:?}", body);
            }
        }

        #[test]
        fn pieces_make_no_difference(
            body in "([0-9a-f;=\"\\r\\n \\x00:A]|5\\r\\nhello\\r\\n|0\\r\\n\\r\\n){0,12}",
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
