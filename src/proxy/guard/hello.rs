//! Whether a client that speaks TLS has sent its whole first message. A TLS handshake begins only
//! then: a client that says nothing takes none of the places for handshakes.

use std::future::poll_fn;
use std::io;
use std::pin::pin;

use bytes::BytesMut;
use pingora::protocols::l4::stream::Stream as TcpStream;
use tokio::io::AsyncReadExt as _;

/// Bytes read at first. A client that offers post-quantum keys sends almost 2 KiB.
const FIRST_READ: usize = 2048;
/// Most bytes that are kept before a handshake begins: one full record. `rustls` judges what is
/// longer.
const MAX_HELLO: usize = 5 + 16 * 1024;

/// How much of a client's first message has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    /// All of it, or something that is none.
    Whole,
    /// Not yet all of it.
    Unfinished,
}

/// Reads a client's first message; `None` if the connection ends before it.
///
/// A connection holds no buffer until its first bytes have arrived.
pub(super) async fn read(stream: &mut TcpStream) -> Option<BytesMut> {
    let mut bytes = poll_fn(|context| {
        let mut bytes = BytesMut::with_capacity(FIRST_READ);
        pin!(stream.read_buf(&mut bytes)).poll(context).map_ok(|_| bytes)
    })
    .await
    .ok()?;
    while !bytes.is_empty() {
        if inspect(&bytes) == Hello::Whole {
            return Some(bytes);
        }
        let count: io::Result<usize> = stream.read_buf(&mut bytes).await;
        if !matches!(count, Ok(1..)) {
            return None;
        }
    }
    None
}

/// Inspects what has arrived: records of handshake messages, RFC 8446 §5.1, of which the first is
/// the hello, §4.
fn inspect(bytes: &[u8]) -> Hello {
    if bytes.len() >= MAX_HELLO {
        return Hello::Whole;
    }
    let (mut rest, mut wanted, mut arrived) = (bytes, None, 0);
    let mut start: Vec<u8> = Vec::with_capacity(4);
    loop {
        let (kind, length, payload) = match rest {
            [kind, _, _, high, low, payload @ ..] => {
                (*kind, usize::from(u16::from_be_bytes([*high, *low])), payload)
            }
            [kind, ..] if *kind != HANDSHAKE => return Hello::Whole,
            _ => return Hello::Unfinished,
        };
        if kind != HANDSHAKE || length == 0 {
            return Hello::Whole;
        }
        let (payload, next) = payload.split_at_checked(length).unwrap_or((payload, &[]));
        arrived += payload.len();
        // The message's own length may be cut by the end of a record.
        start.extend(payload.iter().take(4 - start.len()));
        if let [_, first, second, third] = *start {
            wanted = Some(4 + (usize::from(first) << 16 | usize::from(second) << 8 | usize::from(third)));
        }
        match wanted {
            Some(wanted) if arrived >= wanted => return Hello::Whole,
            _ if next.is_empty() => return Hello::Unfinished,
            _ => rest = next,
        }
    }
}

/// The kind of a record of handshake messages.
const HANDSHAKE: u8 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with so many bytes, in records of at most so many.
    fn hello(length: usize, record: usize) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut message = vec![1, length_bytes[1], length_bytes[2], length_bytes[3]];
        message.resize(4 + length, 7);
        let records = message.chunks(record).flat_map(|payload| {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1, length[0], length[1]][..], payload].concat()
        });
        records.collect()
    }

    #[test]
    fn a_hello_is_whole_with_its_last_byte_and_not_before() {
        for (length, record) in [(1, 16_384), (500, 16_384), (1800, 16_384), (500, 100), (50, 1), (50, 3)] {
            let bytes = hello(length, record);
            for end in 1..bytes.len() {
                assert_eq!(inspect(&bytes[..end]), Hello::Unfinished, "{length} in {record}, up to {end}");
            }
            assert_eq!(inspect(&bytes), Hello::Whole, "{length} in {record}");
            assert_eq!(inspect(&[&bytes[..], b"more"].concat()), Hello::Whole, "{length} in {record}");
        }
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        for bytes in
            [&b"G"[..], b"GET / HTTP/1.1\r\n\r\n", &[21, 3, 3, 0, 2, 1, 0], &[128, 46], &[22, 3, 1, 0, 0]]
        {
            assert_eq!(inspect(bytes), Hello::Whole, "{bytes:?}");
        }
        assert_eq!(inspect(&hello(100_000, 16_384)[..MAX_HELLO]), Hello::Whole);
        assert_eq!(inspect(&hello(100_000, 16_384)[..MAX_HELLO - 1]), Hello::Unfinished);
    }
}
