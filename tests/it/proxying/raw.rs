//! A backend that is handed each connection as it comes, and bodies too long to keep.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};

use crate::common::{Backend, NO_THROTTLE, ROUTES, World};

/// Runs `handler` for each connection, in a thread of its own.
pub fn serve(handler: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = Arc::clone(&handler);
            std::thread::spawn(move || handler(stream));
        }
    });
    address
}

/// A world whose backend is `handler`; `options` are added to the upstream, `sections` to the
/// configuration.
pub fn world(handler: impl Fn(TcpStream) + Send + Sync + 'static, options: &str, sections: &str) -> World {
    let address = serve(handler);
    World::with_backend(
        Backend::echo(),
        &format!(
            "{ROUTES}{NO_THROTTLE}{sections}\nupstreams:\n  backend: {{ servers: ['{address}']{options} }}\n"
        ),
    )
}

/// Reads a header block and not one byte more; empty where the connection ends before it.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return String::new();
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

const PERIOD: usize = 251;
const LONGEST_PIECE: usize = 256 * 1024;

/// The bytes at some place of an endless body in which a lost, doubled or swapped piece shows.
pub fn pattern(at: usize, count: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..PERIOD + LONGEST_PIECE).map(|at| u8::try_from(at % PERIOD).unwrap()).collect());
    &BYTES[at % PERIOD..at % PERIOD + count]
}

/// Writes the first `length` bytes of the pattern, plain or in chunks; whether the other side took
/// them all.
pub fn write_body(stream: &mut impl Write, length: usize, chunked: bool) -> bool {
    let mut at = 0;
    while at < length {
        let count = (64 * 1024).min(length - at);
        let piece = pattern(at, count);
        let written = if chunked {
            write!(stream, "{count:x}\r\n")
                .and_then(|()| stream.write_all(piece))
                .and_then(|()| stream.write_all(b"\r\n"))
        } else {
            stream.write_all(piece)
        };
        if written.is_err() {
            return false;
        }
        at += count;
    }
    !chunked || stream.write_all(b"0\r\n\r\n").is_ok()
}

/// Reads a body that must be the pattern; its length.
pub fn read_body(stream: &mut impl Read, length: Option<usize>) -> usize {
    let mut stream = BufReader::with_capacity(128 * 1024, stream);
    let Some(length) = length else {
        let mut at = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            at = read_pattern(&mut stream, at, size);
            stream.read_line(&mut String::new()).unwrap();
            if size == 0 {
                return at;
            }
        }
    };
    read_pattern(&mut stream, 0, length)
}

fn read_pattern(stream: &mut BufReader<impl Read>, mut at: usize, count: usize) -> usize {
    let end = at + count;
    while at < end {
        let piece = stream.fill_buf().unwrap();
        let taken = piece.len().min(end - at);
        assert!(taken > 0, "the body ended after {at} bytes");
        assert!(piece[..taken] == *pattern(at, taken), "the body is damaged within {taken} bytes from {at}");
        stream.consume(taken);
        at += taken;
    }
    at
}
