//! Drives the gateway's own cookies.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::session_cookie;
use crate::cookie;

/// Asserts what is true for any `Cookie` lines; returns the session cookie, `Err` if there are two.
pub(crate) fn cookies(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    for line in headers.values().map(HeaderValue::as_bytes) {
        let rest = cookie::without_own(line).unwrap_or_default();
        assert!(!names_ours(&rest), "{} passes", rest.escape_ascii());
        assert!(cookie::mentions_own(line) == names_ours(line), "{} is not seen", line.escape_ascii());
        assert!(
            cookie::without_own(&rest).unwrap_or_default() == rest,
            "{} is stripped again",
            rest.escape_ascii()
        );
        let kept = pairs(&rest);
        let expected: Vec<&[u8]> = pairs(line).into_iter().filter(|pair| !names_ours(pair)).collect();
        assert!(kept == expected, "{} becomes {}", line.escape_ascii(), rest.escape_ascii());
    }
    let lines: Vec<&[u8]> = headers.values().map(HeaderValue::as_bytes).collect();
    let of_session = |pair: &&[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii() == b"__Host-menshen"
    };
    let shown = lines.iter().flat_map(|line| pairs(line)).filter(of_session).count();
    let found = session_cookie(headers).map_err(drop);
    assert!(
        match shown {
            0 => found == Ok(None),
            1 => matches!(found, Ok(Some(_))),
            _ => found.is_err(),
        },
        "{shown} session cookies are read as {found:?}"
    );
    found
}

/// `Cookie` lines out of an input.
pub(crate) fn cookie_lines(data: &[u8]) -> HeaderMap {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    lines.map(|line| (HeaderName::from_static("cookie"), line)).collect()
}

fn names_ours(bytes: &[u8]) -> bool {
    let ours = b"__host-menshen";
    bytes.to_ascii_lowercase().windows(ours.len()).any(|window| window == ours)
}

fn pairs(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect()
}
