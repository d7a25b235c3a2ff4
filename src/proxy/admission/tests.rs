use http::Request;
use proptest::prelude::*;

use super::*;

fn admission(header_names: HeaderNames) -> Admission {
    Admission::new(&config::Limits { header_names, ..config::Limits::default() })
}

/// A request with these header lines, as HTTP/1 sends it.
fn parse(method: &str, target: &str, lines: &[(&str, &str)]) -> (Parts, Vec<u8>) {
    let mut raw = format!("{method} {target} HTTP/1.1\r\n");
    let mut builder = Request::builder().method(method).uri(target.split('#').next().unwrap());
    for (name, value) in lines {
        raw += &format!("{name}: {value}\r\n");
        builder = builder.header(*name, *value);
    }
    raw += "\r\n";
    (builder.body(()).unwrap().into_parts().0, raw.into_bytes())
}

/// What becomes of a request: its host and the target it goes on with, or the refusal.
fn judge(method: &str, target: &str, lines: &[(&str, &str)]) -> Result<(String, String), AdmissionError> {
    let (parts, raw) = parse(method, target, lines);
    let sent = target.split('#').next().unwrap();
    let received = Received { parts: &parts, target: sent.as_bytes(), raw_header: Some(&raw) };
    let admitted = admission(HeaderNames::Refuse).admit(&received)?;
    let target = admitted.rewritten_target.map_or_else(|| sent.to_owned(), |target| target.to_string());
    Ok((admitted.host.into_owned(), target))
}

fn get(target: &str) -> Result<(String, String), AdmissionError> {
    judge("GET", target, &[("host", "a.test")])
}

fn with(lines: &[(&str, &str)]) -> Result<(String, String), AdmissionError> {
    judge("POST", "/", &[&[("host", "a.test")], lines].concat())
}

#[test]
fn only_the_methods_of_the_list_are_admitted() {
    for method in METHODS {
        assert!(judge(method.as_str(), "/", &[("host", "a")]).is_ok(), "{method}");
    }
    for method in ["TRACE", "CONNECT", "get", "Get", "PROPFIND", "FOO"] {
        assert_eq!(judge(method, "/", &[("host", "a")]), Err(AdmissionError::Method), "{method}");
    }
}

#[test]
fn the_target_goes_on_in_origin_form_with_a_canonical_path() {
    for (target, expected) in [
        ("/", "/"),
        ("/a/b?x=%61", "/a/b?x=%61"),
        ("/%61pi", "/api"),
        ("/caf%c3%a9?x", "/caf%C3%A9?x"),
        ("http://a.test", "/"),
        ("http://a.test/", "/"),
        ("https://a.test/x?y=1", "/x?y=1"),
        ("http://A.TEST/%61", "/a"),
    ] {
        assert_eq!(get(target), Ok(("a.test".into(), expected.into())), "{target}");
    }
    for (target, refusal) in [
        ("/x#y", AdmissionError::Target),
        ("/#", AdmissionError::Target),
        ("http://a.test/#", AdmissionError::Target),
        ("http://b.test/", AdmissionError::Host),
        ("http://a.test:80/", AdmissionError::Host),
        ("http://a.test?x", AdmissionError::Target),
        ("ftp://a.test/", AdmissionError::Target),
        ("*", AdmissionError::Target),
        ("/a/../b", AdmissionError::Path(PathError::DotSegment)),
        ("/a%5cb", AdmissionError::Path(PathError::ForbiddenEscape)),
        ("/a;b{}", AdmissionError::Path(PathError::ForbiddenCharacter)),
        ("/a%252fb//c", AdmissionError::Path(PathError::ForbiddenEscape)),
        ("http://a.test/a/../b", AdmissionError::Path(PathError::DotSegment)),
    ] {
        assert_eq!(get(target), Err(refusal), "{target}");
    }
}

#[test]
fn a_path_that_a_route_may_accept_stays_as_it_came() {
    for (target, rewritten) in [
        ("/%61//b;c%2Fd%23", None),
        ("/caf\u{e9}", None),
        ("/%ff?x=%ff", None),
        ("http://a.test/%61;b?q", Some("/%61;b?q")),
        ("/%61;b?\u{e9}", Some("/%61;b?%C3%A9")),
    ] {
        let (parts, raw) = parse("GET", "/x", &[("host", "a.test")]);
        let received = Received { parts: &parts, target: target.as_bytes(), raw_header: Some(&raw) };

        let admitted = admission(HeaderNames::Refuse).admit(&received).unwrap();

        let found = admitted.rewritten_target.as_ref().map(PathAndQuery::as_str);
        assert_eq!(found, rewritten, "{target}");
        let path = rewritten.unwrap_or(target).split('?').next().unwrap();
        assert_eq!(admitted.ambiguous_path, AmbiguousPath::parse(path).ok().map(Box::new), "{target}");
    }
}

#[test]
fn a_target_is_for_the_host_it_names_whatever_was_parsed_of_it() {
    let (parts, raw) = parse("GET", "/x", &[("host", "a.test")]);
    let judge = |target: &str| {
        let received = Received { parts: &parts, target: target.as_bytes(), raw_header: Some(&raw) };
        let admitted = admission(HeaderNames::Refuse).admit(&received)?;
        Ok(admitted.rewritten_target.map(|target| target.to_string()))
    };

    assert_eq!(judge("http://A.test/x"), Ok(Some("/x".into())));
    assert_eq!(judge("http://b.test/x"), Err(AdmissionError::Host));
}

#[test]
fn a_question_about_the_server_is_no_request_for_a_path() {
    let (parts, raw) = parse("OPTIONS", "*", &[("host", "a")]);
    let received = Received { parts: &parts, target: b"*", raw_header: Some(&raw) };

    let admitted = admission(HeaderNames::Refuse).admit(&received).unwrap();

    assert!(admitted.is_about_server);
    assert_eq!(admitted.rewritten_target, None);
}

#[test]
fn the_host_is_one_name_in_lower_case() {
    for (host, expected) in [
        ("a.test", "a.test"),
        ("A.Test", "a.test"),
        ("a.test.", "a.test"),
        ("a.test:8443", "a.test"),
        ("A.TEST.:1", "a.test"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(judge("GET", "/", &[("host", host)]).map(|(host, _)| host), Ok(expected.into()), "{host}");
    }
    for host in [
        "", ".", "a..b", "a/b", "a?b", "a#b", "a b", "a,b", "u@a", "a:", "a:x", "a:+1", "a:65536", "a:1:2",
        "[::1", "[::1]x", "[]", "a%2e", "a\"", "a;b", "a\\b", "a.test..",
    ] {
        // An empty port says nothing, but two readers may part there: it is refused with the rest.
        assert_eq!(judge("GET", "/", &[("host", host)]), Err(AdmissionError::Host), "{host:?}");
    }
    assert_eq!(judge("GET", "/", &[]), Err(AdmissionError::Host));
    assert_eq!(judge("GET", "/", &[("host", "a"), ("host", "a")]), Err(AdmissionError::Host));
    assert_eq!(judge("GET", "http://a/", &[("host", "b")]), Err(AdmissionError::Host));
}

#[test]
fn the_authority_goes_on_as_it_was_matched() {
    for (host, rewritten) in [
        ("a.test:80", None),
        ("a.test", None),
        ("A.test:80", Some("a.test:80")),
        ("a.test.", Some("a.test")),
        ("[::A]:1", Some("[::a]:1")),
    ] {
        let (parts, raw) = parse("GET", "/", &[("host", host)]);
        let received = Received { parts: &parts, target: b"/", raw_header: Some(&raw) };

        let admitted = admission(HeaderNames::Refuse).admit(&received).unwrap();

        assert_eq!(admitted.rewritten_authority.as_deref(), rewritten, "{host}");
    }
}

#[test]
fn a_body_has_one_length_or_is_chunked() {
    for lines in [
        &[][..],
        &[("content-length", "0")],
        &[("content-length", "0000000005")],
        &[("content-length", "9223372036854775807")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "Chunked")],
    ] {
        assert!(with(lines).is_ok(), "{lines:?}");
    }
    for lines in [
        &[("content-length", "")][..],
        &[("content-length", "+5")],
        &[("content-length", "-5")],
        &[("content-length", "5, 5")],
        &[("content-length", "5 5")],
        &[("content-length", "0x5")],
        &[("content-length", "99999999999999999999")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "identity")],
    ] {
        assert_eq!(with(lines), Err(AdmissionError::Framing), "{lines:?}");
    }
}

#[test]
fn a_length_that_was_dropped_beside_a_coding_is_found_in_what_was_sent() {
    let (parts, _) = parse("POST", "/", &[("host", "a"), ("transfer-encoding", "chunked")]);
    for name in ["Content-Length", "content-length", "CONTENT-LENGTH"] {
        let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{name}:5\r\nTransfer-Encoding: chunked\r\n\r\n");
        let received = Received { parts: &parts, target: b"/", raw_header: Some(raw.as_bytes()) };

        assert_eq!(admission(HeaderNames::Refuse).admit(&received), Err(AdmissionError::Framing), "{name}");
    }
}

#[test]
fn only_the_length_itself_is_taken_for_one_in_what_was_sent() {
    for line in [
        "Content-Lengthy: 5",
        "X-Content-Length: 5",
        "X-Fourteen-Abc: 5",
        "Content-Length",
        "X: Content-Length:5",
    ] {
        let (parts, _) = parse("POST", "/", &[("host", "a"), ("transfer-encoding", "chunked")]);
        let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let received = Received { parts: &parts, target: b"/", raw_header: Some(raw.as_bytes()) };

        assert!(admission(HeaderNames::Refuse).admit(&received).is_ok(), "{line}");
    }
}

#[test]
fn a_coding_is_for_http_1_1_alone() {
    for version in [Version::HTTP_10, Version::HTTP_2] {
        let (mut parts, _) = parse("POST", "/", &[("host", "a"), ("transfer-encoding", "chunked")]);
        parts.version = version;
        let received = Received { parts: &parts, target: b"/", raw_header: None };

        assert_eq!(
            admission(HeaderNames::Refuse).admit(&received),
            Err(AdmissionError::Framing),
            "{version:?}"
        );
    }
}

#[test]
fn every_line_ends_with_both_characters() {
    let (parts, _) = parse("GET", "/", &[("host", "a")]);
    for (raw, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(AdmissionError::LineEnding)),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(AdmissionError::LineEnding)),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(AdmissionError::LineEnding)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(AdmissionError::LineEnding)),
    ] {
        let received = Received { parts: &parts, target: b"/", raw_header: Some(raw.as_bytes()) };

        assert_eq!(admission(HeaderNames::Refuse).admit(&received).err(), expected, "{raw:?}");
    }
}

#[test]
fn an_unusual_name_is_refused_where_configured() {
    let (parts, raw) = parse("GET", "/", &[("host", "a"), ("x_a", "1")]);
    let received = Received { parts: &parts, target: b"/", raw_header: Some(&raw) };

    assert_eq!(admission(HeaderNames::Refuse).admit(&received), Err(AdmissionError::HeaderName));
    assert!(admission(HeaderNames::Strip).admit(&received).is_ok());
    assert!(admission(HeaderNames::Pass).admit(&received).is_ok());
}

#[test]
fn only_one_expectation_can_be_met() {
    assert!(with(&[("expect", "100-Continue")]).is_ok());
    for lines in [
        &[("expect", "")][..],
        &[("expect", "y 100-continue")],
        &[("expect", "100-continue, x")],
        &[("expect", "100-continue"), ("expect", "x")],
    ] {
        assert_eq!(with(lines), Err(AdmissionError::Expectation), "{lines:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_with_its_own_status() {
    let limits = config::Limits::default();
    let long = format!("/{}", "x".repeat(limits.max_uri.as_usize()));
    let fits = format!("/{}", "x".repeat(limits.max_uri.as_usize() - 1));
    let value = "x".repeat(limits.max_header.as_usize());
    let names: Vec<String> = (0..limits.max_header_fields).map(|index| format!("x-{index}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();

    assert_eq!(get(&long), Err(AdmissionError::TargetTooLong));
    assert!(get(&fits).is_ok());
    assert_eq!(with(&[("x-a", &value)]), Err(AdmissionError::HeaderTooLarge));
    assert_eq!(with(&many), Err(AdmissionError::HeaderTooLarge));
    assert!(with(&many[1..]).is_ok());
}

#[test]
fn each_refusal_has_a_status_and_a_word() {
    for (refusal, status, reason) in [
        (AdmissionError::Method, 405, "method_not_admitted"),
        (AdmissionError::TargetTooLong, 414, "target_too_long"),
        (AdmissionError::HeaderTooLarge, 431, "header_too_large"),
        (AdmissionError::Target, 400, "target_malformed"),
        (AdmissionError::Path(PathError::DotSegment), 400, "path_refused"),
        (AdmissionError::Host, 400, "host_malformed"),
        (AdmissionError::HeaderName, 400, "header_name_refused"),
        (AdmissionError::Framing, 400, "framing_ambiguous"),
        (AdmissionError::LineEnding, 400, "line_ending_malformed"),
        (AdmissionError::Expectation, 417, "expectation_failed"),
    ] {
        assert_eq!((refusal.status().as_u16(), refusal.reason()), (status, reason));
    }
}

#[test]
fn where_nothing_raw_is_kept_a_field_counts_as_it_would_be_written() {
    let limit = config::Limits::default().max_header.as_usize();
    let judge = |bytes: usize| {
        // `host: a` and `x-pad: …`, each with the end of its line.
        let value = "x".repeat(bytes - "host: a\r\n".len() - "x-pad: \r\n".len());
        let (parts, _) = parse("GET", "/", &[("host", "a"), ("x-pad", &value)]);
        let received = Received { parts: &parts, target: b"/", raw_header: None };
        admission(HeaderNames::Refuse).admit(&received).map(|_| ())
    };

    assert_eq!(judge(limit), Ok(()));
    assert_eq!(judge(limit + 1), Err(AdmissionError::HeaderTooLarge));
}

#[test]
fn http_2_has_its_authority_beside_the_path() {
    let judge = |authority: &str, host: Option<&str>| {
        let mut builder = Request::builder().uri(format!("http://{authority}/x")).version(Version::HTTP_2);
        if let Some(host) = host {
            builder = builder.header("host", host);
        }
        let parts = builder.body(()).unwrap().into_parts().0;
        let received = Received { parts: &parts, target: b"/x", raw_header: None };
        let admitted = admission(HeaderNames::Refuse).admit(&received)?;
        Ok((admitted.host.into_owned(), admitted.rewritten_authority))
    };

    assert_eq!(judge("a.test", None), Ok(("a.test".into(), None)));
    assert_eq!(judge("A.test:1", Some("a.test:1")), Ok(("a.test".into(), Some("a.test:1".into()))));
    assert_eq!(judge("a.test", Some("b.test")), Err(AdmissionError::Host));
    assert_eq!(judge("u@a.test", None), Err(AdmissionError::Host));
}

proptest! {
    #[test]
    fn what_is_admitted_once_is_admitted_again_unchanged(target in "/[a-z%2eEfF5cC/.;?#@:]{0,24}") {
        let Ok(_) = target.split('#').next().unwrap_or_default().parse::<Uri>() else { return Ok(()) };
        if let Ok((_, canonical)) = get(&target) {
            prop_assert!(canonical.starts_with('/') && !canonical.contains('#'));
            let again = get(&canonical).map(|(_, target)| target);
            prop_assert_eq!(again, Ok(canonical));
        }
    }

    #[test]
    fn an_admitted_host_is_a_host_name_however_it_was_written(host in "[a-zA-Z0-9.:@/\\[\\]#?%, _-]{0,20}") {
        if let Ok((canonical, _)) = judge("GET", "/", &[("host", &host)]) {
            prop_assert!(is_host_name(&canonical), "{canonical}");
            prop_assert_eq!(judge("GET", "/", &[("host", &canonical)]).map(|(host, _)| host), Ok(canonical));
        }
    }
}
