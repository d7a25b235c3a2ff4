//! Drives the choice of a language.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Language;

pub(crate) fn accept_language(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = lines.map(|line| (HeaderName::from_static("accept-language"), line)).collect();
    let text = data.to_ascii_lowercase();
    // By its name, by `*`, or since Chinese is refused.
    let says_any = text.windows(2).any(|window| window == b"en" || window == b"zh") || text.contains(&b'*');
    assert!(Language::of(&headers) == Language::Chinese || says_any, "English, which nobody asked for");
}
