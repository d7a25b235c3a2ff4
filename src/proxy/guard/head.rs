//! Whether the header of a request of HTTP/1 is whole, and Pingora need not wait for more of it.
//!
//! This decides where to stop reading, and whether a request line is one that Pingora would repair.
//! Pingora parses the header, and `admission` judges it.

use bytes::{BufMut as _, BytesMut};
use memchr::{memchr, memchr_iter, memchr3};

/// How much of a header has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// All of it. It ends there.
    Whole { end: usize },
    /// Bytes that never become a header.
    Never,
    /// Not yet all of it.
    Unfinished,
}

/// Inspects the bytes that have arrived, of which the first `seen` were inspected before.
///
/// A header ends with an empty line, and lines may end with `\n` alone here: `admission` refuses
/// that later.
pub(super) fn inspect(bytes: &[u8], seen: usize) -> Head {
    // Empty lines before a request do not count; RFC 9112 §2.2.
    let Some(start) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return Head::Unfinished;
    };
    // No method begins so. A client that speaks TLS to a listener without TLS gets an answer at
    // once.
    if !bytes.get(start).is_some_and(u8::is_ascii_graphic) {
        return Head::Never;
    }
    // The end may have begun in the bytes inspected before.
    let from = start.max(seen.saturating_sub(2));
    let unseen = bytes.get(from..).unwrap_or_default();
    let end_after = |at: usize| match unseen.get(at + 1..) {
        Some([b'\n', ..]) => Some(from + at + 2),
        Some([b'\r', b'\n', ..]) => Some(from + at + 3),
        _ => None,
    };
    let end = memchr_iter(b'\n', unseen).find_map(end_after);
    end.map_or(Head::Unfinished, |end| Head::Whole { end })
}

/// Whether the request line of a whole header has two spaces and no other blank or control
/// character.
///
/// Pingora repairs every other line that it can: it escapes a space in the target. Another server
/// would read another target, so such a line is refused; RFC 9112 §3.2.
pub(super) fn has_plain_request_line(header: &[u8]) -> bool {
    let start = header.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let line = header.get(start..).unwrap_or_default();
    let line = line.get(..memchr(b'\n', line).unwrap_or(line.len())).unwrap_or_default();
    // Counted without a branch, so that the compiler compares many bytes at once.
    let blanks: usize = line.iter().map(|byte| usize::from(*byte <= b' ' || *byte == 0x7f)).sum();
    blanks == 3 && line.ends_with(b"\r")
}

/// Escapes `"`, `<` and `>` in the query of a request line: clients send them, but they may not
/// stand in a target, RFC 3986 §2, and Pingora reads none with them. Returns the bytes, and where
/// their header ends.
pub(super) fn escape_query(bytes: BytesMut, end: usize) -> (BytesMut, usize) {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let line_end = memchr(b'\n', bytes.get(start..).unwrap_or_default()).map_or(end, |at| start + at);
    let line = bytes.get(..line_end).unwrap_or_default();
    if memchr3(b'"', b'<', b'>', line).is_none() {
        return (bytes, end);
    }
    let Some((path, query)) = memchr(b'?', line).and_then(|at| line.split_at_checked(at)) else {
        return (bytes, end);
    };
    let mut escaped = BytesMut::with_capacity(bytes.len() + 2 * query.len());
    escaped.put_slice(path);
    for byte in query {
        match byte {
            b'"' => escaped.put_slice(b"%22"),
            b'<' => escaped.put_slice(b"%3C"),
            b'>' => escaped.put_slice(b"%3E"),
            byte => escaped.put_u8(*byte),
        }
    }
    let added = escaped.len() - line.len();
    escaped.put_slice(bytes.get(line_end..).unwrap_or_default());
    (escaped, end + added)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use pingora::protocols::http::ServerSession;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Pieces of requests, in random order.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just("\r\n".as_bytes().to_vec()),
            1 => Just(b"\r\n\r\n".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            3 => Just(b"GET / HTTP/1.1".to_vec()),
            1 => Just(b"GET /a b HTTP/1.0".to_vec()),
            1 => Just(b"PRI * HTTP/2.0".to_vec()),
            2 => Just(b"Host: a".to_vec()),
            1 => Just(b"X-A:".to_vec()),
            1 => Just(b" folded".to_vec()),
            1 => Just(b"\x16\x03\x01\x02".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// What Pingora makes of these bytes if no more arrive: a request or not, or nothing yet.
    fn parsed(bytes: &[u8]) -> Option<bool> {
        let threads = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        threads.block_on(async {
            let (_client, stream) = tokio::io::duplex(64);
            let mut session = ServerSession::new_http1(Box::new(stream));
            session.set_pipelined_prefix(BytesMut::from(bytes));
            session.read_request().now_or_never().map(|read| read.unwrap_or(false))
        })
    }

    fn is_whole(bytes: &[u8]) -> bool {
        inspect(bytes, 0) != Head::Unfinished
    }

    #[test]
    fn a_header_ends_with_its_empty_line_and_what_follows_is_no_part_of_it() {
        for header in
            ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\n\n"]
        {
            for body in ["", "5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n"] {
                let bytes = format!("{header}{body}");
                assert_eq!(inspect(bytes.as_bytes(), 0), Head::Whole { end: header.len() }, "{bytes:?}");
            }
        }
    }

    #[test]
    fn a_request_line_that_pingora_would_repair_is_not_plain() {
        for (line, is_plain) in [
            ("GET / HTTP/1.1", true),
            ("\r\nGET /\u{e9} HTTP/1.0", true),
            ("GET /a b HTTP/1.1", false),
            ("GET  / HTTP/1.1", false),
            ("GET / HTTP/1.1 ", false),
            ("GET /\t HTTP/1.1", false),
            ("GET\t/\tHTTP/1.1", true), // Pingora refuses it.
            ("GET /\u{7f} HTTP/1.1", false),
            ("GET /", false),
        ] {
            let header = format!("{line}\r\nHost: a\r\n\r\n");
            assert_eq!(has_plain_request_line(header.as_bytes()), is_plain, "{line:?}");
        }
        assert!(!has_plain_request_line(b"GET / HTTP/1.1\nHost: a\r\n\r\n"));
    }

    #[test]
    fn what_may_not_stand_in_a_query_is_escaped_there_and_nowhere_else() {
        for (line, expected) in [
            ("GET /a?b=c HTTP/1.1", None),
            ("GET /a?b=\"c\"&<d>? HTTP/1.1", Some("GET /a?b=%22c%22&%3Cd%3E? HTTP/1.1")),
            ("\r\nGET /a?< HTTP/1.1", Some("\r\nGET /a?%3C HTTP/1.1")),
            ("GET /\"a\" HTTP/1.1", None),
            ("GET /<a>?<b> HTTP/1.1", Some("GET /<a>?%3Cb%3E HTTP/1.1")),
            ("GET http://a/?\" HTTP/1.1", Some("GET http://a/?%22 HTTP/1.1")),
        ] {
            let rest = "\r\nHost: a?\"<>\r\n\r\n";
            let sent = format!("{line}{rest}");
            let expected = format!("{}{rest}", expected.unwrap_or(line));

            let (bytes, end) = escape_query(BytesMut::from(format!("{sent}body<").as_bytes()), sent.len());

            assert_eq!(bytes, format!("{expected}body<"), "{line}");
            assert_eq!(end, expected.len(), "{line}");
        }
    }

    #[test]
    fn a_header_is_whole_with_its_empty_line_and_not_before() {
        for header in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
        ] {
            for end in 0..header.len() {
                assert!(!is_whole(&header.as_bytes()[..end]), "{header:?} up to {end}");
            }
            assert!(is_whole(header.as_bytes()), "{header:?}");
            let with_more = format!("{header}body\r\n and more");
            assert!(is_whole(with_more.as_bytes()), "{with_more:?}");
        }
    }

    #[test]
    fn what_begins_as_no_method_does_is_not_waited_for() {
        for start in ["\x16\x03\x01", " GET", "\r\n\tGET", "\0", "\u{e9}"] {
            assert!(is_whole(start.as_bytes()), "{start:?}");
        }
    }

    #[tokio::test]
    async fn what_is_left_over_reaches_the_next_reader() {
        // The guard relies on this: Pingora parses the bytes it is given before it reads more.
        let (mut client, stream) = tokio::io::duplex(64);
        let mut session = ServerSession::new_http1(Box::new(stream));
        session.set_pipelined_prefix(BytesMut::from(&b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo"[..]));

        assert!(session.read_request().await.unwrap());
        client.write_all(b"dy").await.unwrap();

        let mut body = Vec::new();
        while let Some(part) =
            tokio::time::timeout(Duration::from_secs(5), session.read_request_body()).await.unwrap().unwrap()
        {
            body.extend_from_slice(&part);
        }
        assert_eq!(body, b"body");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Otherwise a client could hold the memory of a request for as long as it likes.
        #[test]
        fn pingora_waits_for_no_more_of_what_is_whole(bytes in pieces()) {
            if is_whole(&bytes) {
                prop_assert!(parsed(&bytes).is_some(), "{}", bytes.escape_ascii());
            }
        }

        /// Otherwise a request would wait for its deadline.
        #[test]
        fn whatever_pingora_takes_for_a_request_is_whole(bytes in pieces()) {
            if parsed(&bytes) == Some(true) {
                prop_assert!(is_whole(&bytes), "{}", bytes.escape_ascii());
            }
        }

        #[test]
        fn what_was_seen_before_makes_no_difference(bytes in pieces()) {
            let first = (0..=bytes.len()).find(|end| is_whole(&bytes[..*end]));
            let mut seen = 0;
            let stepwise = (0..=bytes.len()).find(|end| {
                let is_whole = inspect(&bytes[..*end], seen) != Head::Unfinished;
                seen = *end;
                is_whole
            });
            prop_assert_eq!(first, stepwise);
        }
    }
}
