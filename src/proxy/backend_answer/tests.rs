use super::*;

fn answer(status: u16, version: Version, lines: &[(&str, &str)]) -> ResponseHeader {
    let mut answer = ResponseHeader::build(status, None).unwrap();
    answer.set_version(version);
    for (name, value) in lines {
        answer.append_header((*name).to_owned(), *value).unwrap();
    }
    answer
}

/// What is left of an answer; `None` if it is refused.
fn cleaned(method: &Method, passes_trailers: bool, mut answer: ResponseHeader) -> Option<Vec<String>> {
    clean(&mut answer, method, passes_trailers).ok()?;
    assert!(answer.version >= Version::HTTP_11);
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<String> = answer.headers.iter().map(line).collect();
    lines.sort();
    Some(lines)
}

#[test]
fn a_body_is_framed_once_as_it_was_understood() {
    const LENGTH: &str = "content-length";
    const CODING: &str = "transfer-encoding";
    for (lines, expected) in [
        (&[(LENGTH, "5")][..], Some(&["content-length: 5"][..])),
        (&[(LENGTH, "0")], Some(&["content-length: 0"])),
        (&[(LENGTH, "5"), (LENGTH, "5")], Some(&["content-length: 5"])),
        (&[(LENGTH, "5, 5")], Some(&["content-length: 5"])),
        (&[(LENGTH, "05")], Some(&["content-length: 5"])),
        (&[(LENGTH, "x")], None),
        (&[(CODING, "chunked")], Some(&["transfer-encoding: chunked"])),
        (&[(CODING, "Chunked")], Some(&["transfer-encoding: Chunked"])),
        (&[(CODING, "chunked"), (CODING, "chunked")], Some(&["transfer-encoding: chunked"])),
        (&[(CODING, "chunked, chunked")], Some(&["transfer-encoding: chunked"])),
        (&[(CODING, "identity")], None),
        (&[(CODING, "gzip, chunked")], None),
        (&[(CODING, "gzip"), (CODING, "chunked")], None),
        (&[(CODING, "chunked, identity")], None),
        (&[(CODING, "xchunked")], None),
        (&[(CODING, "chunked;q=1")], None),
        (&[(CODING, "")], None),
        (&[(CODING, "chunked"), ("connection", "transfer-encoding")], Some(&["transfer-encoding: chunked"])),
        (&[(LENGTH, "5"), ("connection", "content-length")], Some(&["content-length: 5"])),
    ] {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            let left = cleaned(&Method::GET, false, answer(200, version, lines));
            let expected = expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
            assert_eq!(left, expected, "{lines:?} {version:?}");
        }
    }
}

#[test]
fn an_answer_without_a_body_frames_none() {
    let length = "content-length: 5".to_owned();
    for (status, method, keeps_length) in [
        (100, Method::POST, false),
        (103, Method::GET, false),
        (204, Method::GET, false),
        (304, Method::GET, true),
        (200, Method::HEAD, true),
        (204, Method::HEAD, false),
    ] {
        let with_length =
            cleaned(&method, true, answer(status, Version::HTTP_11, &[("content-length", "5")]));
        assert_eq!(with_length, Some(keeps_length.then(|| length.clone()).into_iter().collect()), "{status}");
        let chunked = answer(status, Version::HTTP_11, &[("transfer-encoding", "chunked")]);
        assert_eq!(cleaned(&method, true, chunked), Some(Vec::new()), "{status} {method}");
    }
}

#[test]
fn fields_of_the_connection_stay_behind() {
    let lines = [
        ("connection", "keep-alive, X-Hop"),
        ("connection", "\"odd\", x-other, close"),
        ("x-hop", "1"),
        ("x-other", "2"),
        ("x-end", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "Basic eA=="),
        ("http2-settings", "AAMAAABk"),
        ("te", "trailers"),
        ("trailer", "X-Sum"),
        ("upgrade", "h2c"),
        ("content-length", "5"),
    ];
    for status in [103, 200, 404, 426] {
        let left = cleaned(&Method::GET, false, answer(status, Version::HTTP_11, &lines)).unwrap();
        let expected: &[&str] =
            if status == 103 { &["x-end: 3"] } else { &["content-length: 5", "x-end: 3"] };
        assert_eq!(left, expected, "{status}");
    }
    let trailer = answer(200, Version::HTTP_2, &[("trailer", "X-Sum")]);
    assert_eq!(cleaned(&Method::GET, true, trailer), Some(vec!["trailer: X-Sum".to_owned()]));
}

#[test]
fn every_field_of_the_connection_is_noticed() {
    for name in &CONNECTION_FIELDS {
        assert!(is_connection_field(name), "{name}");
    }
    assert!(!is_connection_field(&header::CONTENT_TYPE));
}

#[test]
fn a_switch_of_protocols_is_one_to_websocket() {
    const SWITCHED: &[&str] = &["connection: Upgrade", "upgrade: websocket"];
    for (lines, version, expected) in [
        (&[("upgrade", "websocket"), ("connection", "upgrade")][..], Version::HTTP_11, Some(SWITCHED)),
        (
            &[("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")],
            Version::HTTP_11,
            Some(SWITCHED),
        ),
        (&[], Version::HTTP_11, Some(SWITCHED)),
        (&[("upgrade", "websocket"), ("content-length", "0")], Version::HTTP_11, Some(SWITCHED)),
        (&[("upgrade", "h2c"), ("connection", "upgrade")], Version::HTTP_11, None),
        (&[("upgrade", "websocket"), ("connection", "upgrade")], Version::HTTP_10, None),
    ] {
        let left = cleaned(&Method::GET, false, answer(101, version, lines));
        assert_eq!(
            left.as_deref(),
            expected.map(|lines| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()).as_deref(),
            "{lines:?}"
        );
    }
}
