//! An HTTP/2 client that sends the frames that a test asks for, however wrong.
//!
//! It asks for no header compression table, so that an answer's status can be read without one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::leaks::Incoming;
use super::{PATIENCE, Recorded};

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer: status and body.
    Answered(u16, String),
    /// The stream was reset with this error code.
    Reset(u32),
    /// The connection was given up with this error code.
    GoneAway(u32),
    /// The connection ended without a word.
    Closed,
}

impl Outcome {
    /// The status; 0 where there was no answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answered(status, _) => *status,
            _ => 0,
        }
    }

    /// What an echoing backend received.
    pub fn echoed(&self) -> Option<Recorded> {
        match self {
            Self::Answered(200, head) => Some(Recorded { head: head.clone(), body: Vec::new() }),
            _ => None,
        }
    }
}

/// Frame types and flags of RFC 9113 §6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const ACK: u8 = 1;

pub type Fields<'f> = Vec<(&'f [u8], &'f [u8])>;

/// One connection.
pub struct Http2<S = TcpStream> {
    pub stream: S,
    unread: Vec<u8>,
    incoming: Incoming,
    next_stream: u32,
}

impl Http2 {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl Http2 {
    /// Writes bytes; a connection that is gone is noticed when reading.
    pub fn write(&mut self, bytes: &[u8]) {
        _ = self.stream.write_all(bytes);
    }

    /// The error code that the other side gave the connection up with, if what has arrived says so.
    pub fn given_up_with(&mut self) -> Option<u32> {
        self.stream.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        if let Ok(count) = self.stream.read(&mut buffer) {
            self.unread.extend_from_slice(&buffer[..count]);
        }
        self.stream.set_nonblocking(false).unwrap();
        while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = &self.unread[..] {
            let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            let payload = rest.get(..length)?;
            if *kind == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            self.unread.drain(..9 + length);
        }
        None
    }
}

impl<S: Read + Write> Http2<S> {
    pub fn over(stream: S) -> Self {
        let mut connection =
            Self { stream, unread: Vec::new(), incoming: Incoming::default(), next_stream: 1 };
        connection.stream.write_all(PREFACE).unwrap();
        let settings: Vec<u8> = [(1_u16, 0_u32), (2, 0), (4, 1 << 24)]
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        connection.frame(SETTINGS, 0, 0, &settings);
        connection.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        connection
    }

    /// Sends a request without a body.
    pub fn send(&mut self, fields: &Fields<'_>) -> Outcome {
        let id = self.begin();
        self.frame(HEADERS, END_HEADERS | END_STREAM, id, &encode(fields));
        self.outcome(id)
    }

    /// As [`Http2::send`], with a header of any length.
    pub fn send_large(&mut self, fields: &Fields<'_>) -> Outcome {
        let id = self.begin();
        let block = encode(fields);
        let mut pieces = block.chunks(16 * 1024).peekable();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            self.frame(kind, flags | end, id, piece);
            (kind, flags) = (CONTINUATION, 0);
        }
        self.outcome(id)
    }

    /// Sends a request with a body and trailers.
    pub fn send_with(&mut self, fields: &Fields<'_>, body: &[u8], trailers: &Fields<'_>) -> Outcome {
        let id = self.begin();
        self.frame(HEADERS, END_HEADERS, id, &encode(fields));
        if trailers.is_empty() {
            self.frame(DATA, END_STREAM, id, body);
        } else {
            self.frame(DATA, 0, id, body);
            self.frame(HEADERS, END_HEADERS | END_STREAM, id, &encode(trailers));
        }
        self.outcome(id)
    }

    /// The id of a new stream.
    pub fn begin(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Writes one frame; a connection that is gone is noticed when reading.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        _ = self.stream.write_all(&frame(kind, flags, stream, payload));
        _ = self.stream.flush();
    }

    /// Reads until the stream has ended.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let mut status = 0;
        let mut body = Vec::new();
        loop {
            let Some((kind, flags, id, payload)) = self.read_frame() else { return Outcome::Closed };
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
                GOAWAY => {
                    let last = u32::from_be_bytes(payload[..4].try_into().unwrap());
                    let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                    if code != 0 || last < stream {
                        return Outcome::GoneAway(code);
                    }
                }
                RST_STREAM if id == stream && status == 0 => {
                    return Outcome::Reset(u32::from_be_bytes(payload[..4].try_into().unwrap()));
                }
                // An early answer may be followed by a reset that says the rest of the body is not
                // wanted.
                RST_STREAM if id == stream => return Outcome::Answered(status, text(&body)),
                HEADERS if id == stream && status < 200 => status = decode_status(&payload),
                DATA if id == stream => body.extend(&payload),
                _ => {}
            }
            if id == stream && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return Outcome::Answered(status, text(&body));
            }
        }
    }

    /// Reads until an answer begins; its stream and status. `None` if the connection ends.
    pub fn next_status(&mut self) -> Option<(u32, u16)> {
        loop {
            match self.read_frame()? {
                (SETTINGS, flags, ..) if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                (HEADERS, _, id, payload) => return Some((id, decode_status(&payload))),
                _ => {}
            }
        }
    }

    /// Reads until a frame of this kind, which is no acknowledgement; its payload. `None` if the
    /// connection ends.
    pub fn next_of(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            match self.read_frame()? {
                (SETTINGS, flags, ..) if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                (read, flags, _, payload) if read == kind && (kind != PING || flags & ACK == 0) => {
                    return Some(payload);
                }
                _ => {}
            }
        }
    }

    /// Whether the other side has closed the connection, waiting for it.
    pub fn is_closed(&mut self) -> bool {
        while self.read_frame().is_some() {}
        true
    }

    fn read_frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        self.fill(9)?;
        let head: Vec<u8> = self.unread.drain(..9).collect();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        self.fill(length)?;
        let payload = self.unread.drain(..length).collect();
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some((head[3], head[4], stream, payload))
    }

    fn fill(&mut self, count: usize) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        while self.unread.len() < count {
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => {
                    self.incoming.assert_absent(&buffer[..read]);
                    self.unread.extend_from_slice(&buffer[..read]);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    panic!("nothing came in {PATIENCE:?}")
                }
                Err(_) => return None,
            }
        }
        Some(())
    }
}

/// The bytes of one frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The pseudo-header fields of a request, then others.
pub fn fields<'f>(method: &'f str, path: &'f [u8], others: &[(&'f [u8], &'f [u8])]) -> Fields<'f> {
    let mut fields: Fields<'f> = vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"gateway.test"),
        (b":path", path),
    ];
    fields.extend(others);
    fields
}

/// Literal fields, never indexed, never compressed; RFC 7541 §6.2.2.
pub fn encode(fields: &Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            encode_length(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of 7 bits; RFC 7541 §5.1.
fn encode_length(length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The first field of an answer is `:status`: indexed, or a literal of three digits.
fn decode_status(block: &[u8]) -> u16 {
    let mut rest = block;
    while let [update, tail @ ..] = rest
        && update & 0xe0 == 0x20
    {
        rest = tail;
    }
    match rest {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [_, length, value @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(&value[..usize::from(*length)]).unwrap().parse().unwrap()
        }
        [_, length, value @ ..] => decode_digits(&value[..usize::from(length & 0x7f)]),
        _ => panic!("an answer without a status"),
    }
}

/// Three digits in the Huffman code of RFC 7541, appendix B: 0 to 2 have five bits, the others six.
fn decode_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number * 2 + bit);
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let (digit, length) =
            if short < 3 { (short, 5) } else { (number(&bits[at..at + 6]) - 0b01_1001 + 3, 6) };
        status = status * 10 + digit;
        at += length;
    }
    status
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
