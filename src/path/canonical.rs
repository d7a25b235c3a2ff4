//! The one canonical form of a request path: what is matched is what is forwarded.
//!
//! A spelling that any common backend could read as another path is refused, not quietly
//! normalised: a normaliser that disagrees with the backend by one rule opens every protected path.
//! The only change made is decoding of escaped unreserved characters, which RFC 3986 §2.3 makes
//! equivalent everywhere.

use std::borrow::Cow;

use super::character::{is_path_character, is_structural, is_unreserved, unescape};
use super::dot_segment::has_dot_segment;
use super::error::PathError;
use super::folding::{folded, has_escape};

/// Brings a raw path (without query) into its canonical form, borrowed when it already is.
///
/// # Errors
/// [`PathError`] for every spelling that a backend might read as another path.
pub fn canonicalise(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let canonical = decode_unreserved(raw)?;
    refuse_ambiguous_segments(&canonical)?;
    if canonical.contains('%') {
        refuse_ambiguous_escapes(&canonical)?;
    }
    Ok(canonical)
}

/// What a backend reads: a canonical path with every escape decoded, borrowed when it has none.
///
/// `/@me` and `/%40me` are two canonical paths, since RFC 3986 §2.2 lets a server tell them apart,
/// and one to nearly every backend. Routes are matched by this reading; the canonical path is what
/// is forwarded.
pub fn decode(canonical: &str) -> Cow<'_, str> {
    if !canonical.contains('%') {
        return Cow::Borrowed(canonical);
    }
    let mut bytes = Vec::with_capacity(canonical.len());
    let mut rest = canonical.as_bytes();
    while let [byte, tail @ ..] = rest {
        let escaped = match (*byte, tail) {
            (b'%', [high, low, tail @ ..]) => unescape(*high, *low).map(|value| (value, tail)),
            _ => None,
        };
        let (value, tail) = escaped.unwrap_or((*byte, tail));
        bytes.push(value);
        rest = tail;
    }
    // A canonical path decodes to UTF-8; text that does not is no canonical path, and stays as it
    // is.
    String::from_utf8(bytes).map_or(Cow::Borrowed(canonical), Cow::Owned)
}

/// Decodes escapes of unreserved characters and writes the others with upper-case digits.
fn decode_unreserved(raw: &str) -> Result<Cow<'_, str>, PathError> {
    let mut decoded: Option<String> = None;
    let mut rest = raw.as_bytes();
    let mut done = 0;
    while let [byte, tail @ ..] = rest {
        if *byte != b'%' {
            if !is_path_character(*byte) {
                return Err(PathError::ForbiddenCharacter);
            }
            if let Some(text) = &mut decoded {
                text.push(char::from(*byte));
            }
            rest = tail;
            done += 1;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(PathError::InvalidEscape) };
        let value = unescape(*high, *low).ok_or(PathError::InvalidEscape)?;
        let is_canonical = !is_unreserved(value) && !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
        if !is_canonical && decoded.is_none() {
            let mut text = String::with_capacity(raw.len());
            text.push_str(raw.get(..done).unwrap_or_default());
            decoded = Some(text);
        }
        if let Some(text) = &mut decoded {
            if is_unreserved(value) {
                text.push(char::from(value));
            } else {
                text.push('%');
                text.push(char::from(high.to_ascii_uppercase()));
                text.push(char::from(low.to_ascii_uppercase()));
            }
        }
        rest = tail;
        done += 3;
    }
    Ok(decoded.map_or(Cow::Borrowed(raw), Cow::Owned))
}

fn refuse_ambiguous_segments(canonical: &str) -> Result<(), PathError> {
    let mut previous = b'/';
    // The leading slash is there; a slash in the last place ends the path, and is no empty segment.
    for byte in canonical.bytes().skip(1) {
        if byte == b'/' && previous == b'/' {
            return Err(PathError::EmptySegment);
        }
        previous = byte;
    }
    // Blanks and letters of other scripts are escaped, and are looked at with the escapes.
    let has_dot_segment = canonical.contains("/.") && has_dot_segment(canonical);
    if has_dot_segment { Err(PathError::DotSegment) } else { Ok(()) }
}

/// Refuses what a backend that decodes once, or once more, would read as structure.
fn refuse_ambiguous_escapes(canonical: &str) -> Result<(), PathError> {
    let mut bytes = Vec::with_capacity(canonical.len());
    let mut rest = canonical.as_bytes();
    while let [byte, tail @ ..] = rest {
        let (value, tail) = match (*byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let value = unescape(*high, *low).ok_or(PathError::InvalidEscape)?;
                let begins_another_escape =
                    value == b'%' && matches!(tail, [high, low, ..] if unescape(*high, *low).is_some());
                if begins_another_escape || is_structural(value) {
                    return Err(PathError::ForbiddenEscape);
                }
                (value, tail)
            }
            _ => (*byte, tail),
        };
        bytes.push(value);
        rest = tail;
    }
    let decoded = std::str::from_utf8(&bytes).map_err(|_| PathError::NotUtf8)?;
    let folded = folded(decoded);
    if !decoded.is_ascii() && has_escape(&folded) {
        return Err(PathError::ForbiddenEscape);
    }
    if has_dot_segment(&folded) { Err(PathError::DotSegment) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_path_is_canonical_as_it_stands() {
        for path in [
            "/",
            "/api",
            "/api/",
            "/a/b.c/d-e_f~g",
            "/a:b@c,d=e+f*g(h)'i!$&",
            "/.well-known/x",
            "/a..b",
            "/..a",
            "/a.",
            "/a[b]/[...slug]",
        ] {
            assert!(matches!(canonicalise(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn escaped_unreserved_characters_are_decoded() {
        for (raw, canonical) in [
            ("/%61pi/admin", "/api/admin"),
            ("/ap%69", "/api"),
            ("/%7Ejoe", "/~joe"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a%20", "/a%20"),
            ("/%EF%BC%8Ea", "/%EF%BC%8Ea"),
            ("/1%EF%BC%8F2", "/1%EF%BC%8F2"),
            // 折扣％, 什么？, and a name with a zero-width joiner.
            ("/%E6%8A%98%E6%89%A3%EF%BC%85", "/%E6%8A%98%E6%89%A3%EF%BC%85"),
            ("/%E4%BB%80%E4%B9%88%EF%BC%9F", "/%E4%BB%80%E4%B9%88%EF%BC%9F"),
            ("/a%E2%80%8Db/", "/a%E2%80%8Db/"),
            ("/%E2%80%8B", "/%E2%80%8B"),
            ("/100%25", "/100%25"),
            ("/api/%2a", "/api/%2A"),
        ] {
            assert_eq!(canonicalise(raw).unwrap(), canonical, "{raw}");
        }
    }

    #[test]
    fn every_escape_is_decoded_as_a_backend_decodes_it() {
        for (canonical, decoded) in [
            ("/api", "/api"),
            ("/%40me", "/@me"),
            ("/a%3Ab%21c", "/a:b!c"),
            ("/caf%C3%A9", "/café"),
            ("/a%20b", "/a b"),
            ("/100%25", "/100%"),
            ("/100%25x", "/100%x"),
        ] {
            assert_eq!(decode(canonical), decoded);
        }
        assert!(matches!(decode("/api"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_backend_could_read_differently_is_refused() {
        use PathError::*;
        for (raw, error) in [
            ("", NotAbsolute),
            ("api", NotAbsolute),
            ("/a b", ForbiddenCharacter),
            ("/a\\b", ForbiddenCharacter),
            ("/a;x=1", ForbiddenCharacter),
            ("/a{b}", ForbiddenCharacter),
            ("/a\"b", ForbiddenCharacter),
            ("/a#b", ForbiddenCharacter),
            ("/a?b", ForbiddenCharacter),
            ("/a\u{7f}", ForbiddenCharacter),
            ("/é", ForbiddenCharacter),
            ("/a%", InvalidEscape),
            ("/a%2", InvalidEscape),
            ("/a%zz", InvalidEscape),
            ("/a%u0041", InvalidEscape),
            ("/a%2fb", ForbiddenEscape),
            ("/a%2Fb", ForbiddenEscape),
            ("/a%5cb", ForbiddenEscape),
            ("/a%00", ForbiddenEscape),
            ("/a%0d%0a", ForbiddenEscape),
            ("/a%7f", ForbiddenEscape),
            ("/a%3fb", ForbiddenEscape),
            ("/a%23b", ForbiddenEscape),
            ("/a%3bb", ForbiddenEscape),
            ("/a%252fb", ForbiddenEscape),
            ("/a%252e%252e", ForbiddenEscape),
            ("/a%25%32%66", ForbiddenEscape),
            ("/a%2561", ForbiddenEscape),
            ("/a%25252f", ForbiddenEscape),
            ("/pub/../api", DotSegment),
            ("/pub/%2e%2e/api", DotSegment),
            ("/pub/.%2E/api", DotSegment),
            ("/./api", DotSegment),
            ("/api/..", DotSegment),
            ("/api/.", DotSegment),
            ("/...", DotSegment),
            ("/pub/..../x", DotSegment),
            ("/pub/%20/x", DotSegment),
            ("/pub/%20%20", DotSegment),
            ("/pub/.%20/x", DotSegment),
            ("/pub/..%20/x", DotSegment),
            ("/pub/%20../x", DotSegment),
            ("/pub/.%20./x", DotSegment),
            ("/pub/%C2%A0.", DotSegment),
            ("/pub/%E3%80%80", DotSegment),
            ("/pub/%EF%BC%8E%EF%BC%8E/api", DotSegment),
            ("/pub/.%ef%bc%8e/api", DotSegment),
            ("/pub/%EF%BC%8E%EF%BC%8E%EF%BC%8Fapi", DotSegment),
            ("/pub/a%EF%BC%BC..%EF%BC%BCapi", DotSegment),
            ("/pub/%E2%80%A5/api", DotSegment),
            ("/pub/%E2%80%A6/api", DotSegment),
            ("/pub/%E2%80%A4%E2%80%A4/api", DotSegment),
            ("/pub/%E3%80%82%E3%80%82/api", DotSegment),
            ("/pub/%EF%BD%A1%EF%BD%A1/api", DotSegment),
            ("/pub/%EF%B8%B0/api", DotSegment),
            ("/pub/%EF%B8%99/api", DotSegment),
            ("/pub/%EF%B8%92%EF%B8%92/api", DotSegment),
            ("/pub/%2e%EF%B9%92/api", DotSegment),
            ("/pub/a%EF%B9%A8..%EF%B9%A8api", DotSegment),
            ("/pub/a%E2%88%95..%E2%81%84api", DotSegment),
            ("/pub/..%EF%BC%9Bx=1/api", DotSegment),
            ("/pub/%EF%BC%8E%EF%BC%8E%EF%B9%94/api", DotSegment),
            ("/pub/..%EF%BC%9F", DotSegment),
            ("/pub/%EF%BC%9Bx/api", DotSegment),
            ("/pub/.%E2%80%8B./api", DotSegment),
            ("/pub/%EF%BB%BF../api", DotSegment),
            ("/pub/%C2%AD..", DotSegment),
            ("/pub/%EF%BC%85%32%65%EF%BC%852e/api", ForbiddenEscape),
            ("/pub/%EF%BC%85%EF%BC%92%EF%BD%85/api", ForbiddenEscape),
            ("/pub/%EF%B9%AA2f", ForbiddenEscape),
            ("/pub/%25%EF%BC%92e", ForbiddenEscape),
            ("//api", EmptySegment),
            ("/pub//x", EmptySegment),
            ("///", EmptySegment),
            ("/a%c0%af", NotUtf8),
            ("/a%e0%80%af", NotUtf8),
            ("/a%ff", NotUtf8),
        ] {
            assert_eq!(canonicalise(raw), Err(error), "{raw}");
        }
    }

    /// Pieces that make hostile paths likely.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/"),
            Just("."),
            Just(".."),
            Just("%2e"),
            Just("%2F"),
            Just("%25"),
            Just("%5c"),
            Just(";"),
            Just("%3B"),
            Just("a"),
            Just("pub"),
            Just("%61"),
            Just("%"),
            Just("2f"),
            Just("%c3%a9"),
            Just("%C0%AF"),
            Just("\\"),
            Just("#"),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn canonicalising_twice_changes_nothing(raw in hostile()) {
            if let Ok(once) = canonicalise(&raw) {
                let twice = canonicalise(&once);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }

        #[test]
        fn no_accepted_path_changes_its_segments_however_often_it_is_decoded(raw in hostile()) {
            if let Ok(canonical) = canonicalise(&raw) {
                let mut text = canonical.clone().into_owned();
                for _ in 0..4 {
                    text = decode_once(&text);
                    prop_assert_eq!(text.split(['/', '\\', ';', '?', '#']).count(), canonical.split('/').count());
                    prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."), "{text}");
                }
            }
        }
    }

    /// A lenient backend's decoder: what does not parse stays as it is.
    fn decode_once(text: &str) -> String {
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        while let [byte, tail @ ..] = rest {
            if let (b'%', [high, low, after @ ..]) = (*byte, tail)
                && let Some(value) = unescape(*high, *low)
            {
                out.push(value);
                rest = after;
            } else {
                out.push(*byte);
                rest = tail;
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}
