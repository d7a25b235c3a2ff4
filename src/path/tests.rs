use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Paths with a value of their own; each value is its path.
const PLACES: &[&str] =
    &["", "/api", "/api/health", "/files", "/files/admin", "/v1.0", "/caf\u{e9}", "/deep/in/it"];

fn tree(places: &[&'static str]) -> PathTree<&'static str> {
    let mut tree = PathTree::default();
    for place in places {
        *tree.entry(place) = Some(*place);
    }
    tree
}

/// What all readings of a path find; `None` if they differ.
fn found(tree: &PathTree<&'static str>, raw: &str) -> Option<&'static str> {
    let path = AmbiguousPath::parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
    tree.find_in_every_reading(&path).ok().flatten().copied()
}

#[test]
fn a_path_needs_the_spellings_that_it_has() {
    for (raw, expected) in [
        ("/a", ""),
        ("/a[b]", ""),
        ("/a;b", "semicolon"),
        ("/a;", "semicolon"),
        ("/;", "semicolon"),
        ("//a", "empty_segment"),
        ("/a//", "empty_segment"),
        ("///", "empty_segment"),
        ("/a%2Fb", "encoded_slash"),
        ("/a%2fb", "encoded_slash"),
        ("/a/%2F/b", "encoded_slash"),
        ("/a%23b", "encoded_reserved"),
        ("/a%3Fb", "encoded_reserved"),
        ("/a%3bb", "encoded_reserved"),
        ("/caf\u{e9}", "raw_utf8"),
        ("/%ff", "legacy_escapes"),
        ("/%C4%E3", "legacy_escapes"),
        (
            "/a;b//c%2F%23\u{e9}%ff",
            "semicolon empty_segment encoded_slash encoded_reserved raw_utf8 legacy_escapes",
        ),
    ] {
        let path = AmbiguousPath::parse(raw).unwrap();
        let names: Vec<&str> = path.spellings().iter().map(Spelling::name).collect();
        assert_eq!(names.join(" "), expected, "{raw}");
    }
}

#[test]
fn what_no_backend_needs_is_refused_whatever_a_route_accepts() {
    use PathError::*;
    for (raw, error) in [
        ("", NotAbsolute),
        ("a;b", NotAbsolute),
        ("/a;b c", ForbiddenCharacter),
        ("/a;b\\", ForbiddenCharacter),
        ("/a;b\"", ForbiddenCharacter),
        ("/a;b|", ForbiddenCharacter),
        ("/a;b?", ForbiddenCharacter),
        ("/a;b#", ForbiddenCharacter),
        ("/a;b\u{7f}", ForbiddenCharacter),
        ("/a;%", InvalidEscape),
        ("/a;%2", InvalidEscape),
        ("/a;%zz", InvalidEscape),
        ("/a;%00", ForbiddenEscape),
        ("/a;%0a", ForbiddenEscape),
        ("/a;%5C", ForbiddenEscape),
        ("/a;%7F", ForbiddenEscape),
        ("/a;%252F", ForbiddenEscape),
        ("/a;%25%32F", ForbiddenEscape),
        ("/%25%ff2F", ForbiddenEscape),
        ("/a;/../b", DotSegment),
        ("/..;/b", DotSegment),
        ("/..;x=1/b", DotSegment),
        ("/%2e%2e;/b", DotSegment),
        ("/.;/b", DotSegment),
        ("/a;../b", DotSegment),
        ("/a/..%2Fb", DotSegment),
        ("/a%2F..", DotSegment),
        ("/a%2F.%2Fb", DotSegment),
        ("/a%2F%20%2Fb", DotSegment),
        ("//..", DotSegment),
        ("/a/..%3Fb", DotSegment),
        ("/a/..%23b", DotSegment),
        ("/a;/\u{ff0e}\u{ff0e}/b", DotSegment),
        ("/a;/%EF%BC%8E%EF%BC%8E/b", DotSegment),
        ("/a/..%ff/b", DotSegment),
        ("/a/.%ff./b", DotSegment),
        ("/a/%ff../b", DotSegment),
        ("/a/%c0%ae%c0%ae/b", DotSegment),
        ("/a/%c0%ae./b", DotSegment),
        ("/a/%e0%80%ae./b", DotSegment),
        ("/a/..%c0%afb", DotSegment),
        ("/a/%a3%ae%a3%ae/b", DotSegment),
        ("/a/..%a3%afb", DotSegment),
        ("/a/%a1%ad/b", DotSegment),
        ("/a;/..%EF%BC%9Bx/b", DotSegment),
        ("/a;/%E2%80%A6/b", DotSegment),
        ("/a/%ff..%EF%BC%9Bx/b", DotSegment),
        ("/a/%ff%E2%80%A5/b", DotSegment),
        ("/a/x%EF%B9%A8..%ff/b", DotSegment),
        ("/a;%EF%BC%852e%EF%BC%852e/b", ForbiddenEscape),
        ("/a/%ff%EF%BC%852e%EF%BC%852e/b", ForbiddenEscape),
    ] {
        assert_eq!(AmbiguousPath::parse(raw), Err(error), "{raw}");
    }
}

#[test]
fn a_path_is_at_one_place_in_every_reading_or_at_none() {
    let tree = tree(PLACES);
    for (raw, expected) in [
        // What follows the place's own path is read in many ways, all of them below it.
        ("/api/x;y=1", Some("/api")),
        ("/api/;x/y", Some("/api")),
        ("/api/x//y", Some("/api")),
        ("/api//", Some("/api")),
        ("/api/a%2Fb", Some("/api")),
        ("/api/%2F", Some("/api")),
        ("/api/a%23b%3Fc%3Bd", Some("/api")),
        ("/api/caf\u{e9}", Some("/api")),
        ("/api/%C4%E3%BA%C3.txt", Some("/api")),
        ("/api/%BA%C3.%C4%E3", Some("/api")),
        ("/x;y/z", Some("")),
        ("//x", Some("")),
        ("/x%2Fy", Some("")),
        // Read as a deeper place, or not.
        ("/api/health;x", None),
        ("/api/health%2Fx", None),
        ("/api/health%3Fx", None),
        ("/api//health", None),
        ("/api/%2Fhealth", None),
        ("/api/;x/health", None),
        ("/api/%3Bx/health", None),
        ("/api/hea%fflth", None),
        ("/api/%c1%a8ealth", None),
        ("/api/%a3%e8ealth", None),
        ("/api/x;y/health", Some("/api")),
        ("/api/x%2Fhealth", Some("/api")),
        ("/api/a%2Fhealth//b;c", Some("/api")),
        // The place's own path is not whole in every reading.
        ("/api;x", None),
        ("/api%2Fx", None),
        ("/api%3Bx/y", None),
        ("/api%23", None),
        ("//api/x", None),
        ("/;x/api", None),
        ("/%2Fapi", None),
        ("/%2F%2Fapi", None),
        // A parameter with a slash in it.
        ("/x;y%2Fapi", Some("")),
        ("/x;/api", Some("")),
        ("/;%2Fapi", None),
        // Two slashes at the start: a host follows.
        ("//x/api", None),
        ("//x/y", Some("")),
        ("/;a/x/api", None),
        ("/%2Fx/api", None),
        ("//", Some("")),
        ("///x", Some("")),
        ("//x;y/api", None),
        ("//x//y/api", None),
        // In some encoding, these bytes are the name of a place.
        ("/caf%e9", None),
        ("/caf%e9/x", None),
        ("/%e9", None),
        ("/caf\u{e9}/x", None),
        // An escape that some backends do not decode before they match.
        ("/%61pi/x;y", None),
        ("/api/%61;y", Some("/api")),
        ("/api/h%65alth;y", None),
        ("/xcaf%e9", Some("")),
        ("/deep//in//it", None),
        ("/deep//in//x", Some("")),
        ("/deep;/in;/it", None),
        ("/deep;x%2Fy/in/it", None),
    ] {
        assert_eq!(found(&tree, raw), expected, "{raw}");
    }
}

#[test]
fn where_no_place_serves_everything_a_reading_may_lead_nowhere() {
    let tree = tree(&["/api", "/api/x/y"]);
    for (raw, expected) in [
        ("/api/a;b", Some("/api")),
        ("/api/x/a;b", Some("/api")),
        ("/api/x/y/a;b", Some("/api/x/y")),
        ("/api/x/y;b", None),
        ("/api;x", None),
        ("//api", None),
        ("//x", None),
    ] {
        assert_eq!(found(&tree, raw), expected, "{raw}");
    }
}

#[test]
fn a_plain_path_is_at_the_nearest_place() {
    let tree = tree(PLACES);
    for (path, expected) in [
        ("/", ""),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/apix", ""),
        ("/api/healthy", "/api"),
        ("/api/health/x/y/z", "/api/health"),
        ("/deep", ""),
        ("/deep/in/x", ""),
        ("/deep/in/it/", "/deep/in/it"),
        ("/caf\u{e9}/x", "/caf\u{e9}"),
    ] {
        assert_eq!(tree.find(path), Some(&expected), "{path}");
    }
    assert_eq!(PathTree::<u8>::default().find("/"), None);
}

/// However often a mark comes, each piece is read once for each node.
#[test]
fn the_time_to_read_a_path_grows_with_its_length_alone() {
    let tree = tree(PLACES);
    for piece in ["/;", "/;x%2F", ";%2F", "%2F", "//", "/%ff;", "/api/;", "%3B/", "/\u{e9};%2F%3F", "/%c0%af"]
    {
        let raw = format!("/{}", piece.repeat(8000 / piece.len()));
        if let Ok(path) = AmbiguousPath::parse(&raw) {
            _ = tree.find_in_every_reading(&path);
        }
    }
}

/// Pieces that make hostile paths likely.
fn hostile() -> impl Strategy<Value = String> {
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "/", "/", "/", "//", "%2F", "%2f", ";", ";x=1", "%3B", "%3b", "%23", "%3F", ".", "..", "%2e", "%25", "\u{e9}",
        "caf", "%e9", "%ff", "%c0%af", "%c0%ae", "%c1%a1", "%e0%80%af", "%a3%af", "%a3%ae", "%a3%bb", "%a3%e1",
        "%C4%E3", "%BA%C3", "[", "]", "a", "x", "pi", "%61pi", "2F",
    ];
    const NAMES: &[&str] = &[
        "api",
        "/api",
        "health",
        "/health",
        "files",
        "/files",
        "admin",
        "v1.0",
        "deep",
        "in",
        "it",
        "caf\u{e9}",
    ];
    let piece = prop_oneof![3 => prop::sample::select(PIECES), 2 => prop::sample::select(NAMES)];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_reading_of_an_accepted_path_is_elsewhere(raw in hostile()) {
        let tree = tree(PLACES);
        let Ok(path) = AmbiguousPath::parse(&raw) else { return Ok(()) };
        if path.spellings().is_empty() {
            return Ok(());
        }
        let Ok(Some(place)) = tree.find_in_every_reading(&path) else { return Ok(()) };
        let is_legacy = path.spellings().iter().any(|spelling| spelling == Spelling::LegacyEscapes);
        for reading in readings(&raw, is_legacy) {
            let read = governing(&reading);
            prop_assert!(read == *place, "{raw:?} is at {place:?}, and is read as {reading:?}");
        }
    }

    #[test]
    fn a_path_is_canonical_or_has_spellings_or_is_refused(raw in hostile()) {
        let canonical = canonicalise(&raw);
        if let Ok(path) = AmbiguousPath::parse(&raw) {
            prop_assert_eq!(path.spellings().is_empty(), canonical.is_ok(), "{:?}", canonical);
            if let Ok(canonical) = canonical {
                let tree = tree(PLACES);
                let path = AmbiguousPath::parse(&canonical).unwrap();
                prop_assert_eq!(tree.find_in_every_reading(&path), Ok(tree.find(&decode(&canonical))));
            }
        }
    }
}

/// The place of a reading.
fn governing(reading: &str) -> &'static str {
    let is_below = |place: &&&str| {
        reading.strip_prefix(**place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PLACES.iter().filter(is_below).max_by_key(|place| place.len()).copied().unwrap_or("nowhere")
}

type Step = fn(&str) -> String;

/// What a backend may do to a path before or after it decodes it.
const STEPS: &[Step] = &[
    |path| {
        let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
        Vec::from_iter(segments).join("/")
    },
    |path| path.split(';').next().unwrap_or_default().to_owned(),
    |path| path.replace('\\', "/"),
    |path| path.split(['?', '#', '\0']).next().unwrap_or_default().to_owned(),
    merged,
    without_host,
    resolved,
];
/// How a backend may decode it.
const DECODED: &[Step] = &[
    str::to_owned,
    |path| String::from_utf8_lossy(&unescaped(path)).into_owned(),
    |path| unescaped(path).utf8_chunks().map(|chunk| chunk.valid().to_owned()).collect(),
    |path| String::from_utf8_lossy(&unescaped(path)).replace('\u{fffd}', "?"),
];
const DECODED_FROM_OTHERS: &[Step] = &[
    |path| unescaped(path).into_iter().map(char::from).collect(),
    |path| as_overlong(&unescaped(path)),
    |path| as_gbk(&unescaped(path)),
];

/// What backends make of a path.
fn readings(raw: &str, is_legacy: bool) -> BTreeSet<String> {
    let others = if is_legacy { DECODED_FROM_OTHERS } else { &[] };
    let before = closure(BTreeSet::from([raw.to_owned()]), STEPS, 1);
    let decoded =
        before.iter().flat_map(|path| DECODED.iter().chain(others).map(move |decode| decode(path))).collect();
    let again = [STEPS, &DECODED[1..2]].concat();
    closure(decoded, &again, 3)
}

/// Each of these steps in any order, up to this many of them.
fn closure(mut all: BTreeSet<String>, steps: &[Step], depth: usize) -> BTreeSet<String> {
    let mut last = all.clone();
    for _ in 0..depth {
        let next: BTreeSet<String> =
            last.iter().flat_map(|path| steps.iter().map(move |step| step(path))).collect();
        last = next.difference(&all).cloned().collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn unescaped(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *byte == b'%').and_then(|digits| str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// As a decoder of UTF-8 that does not ask for the shortest form.
fn as_overlong(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return text,
            [lead @ 0xc0..=0xc1, low @ 0x80..=0xbf, tail @ ..] => {
                text.push(char::from((lead & 1) << 6 | low & 0x3f));
                tail
            }
            [0xe0, high @ 0x80..=0x81, low @ 0x80..=0xbf, tail @ ..] => {
                text.push(char::from((high & 1) << 6 | low & 0x3f));
                tail
            }
            [byte, tail @ ..] => {
                text.push(if byte.is_ascii() { char::from(*byte) } else { '\u{4f60}' });
                tail
            }
        };
    }
}

/// As a decoder of GBK that folds full-width forms.
fn as_gbk(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return text,
            [0xa3, wide @ 0xa1..=0xfe, tail @ ..] => {
                text.push(char::from(wide - 0x80));
                tail
            }
            [0x81..=0xfe, 0x40..=0x7e | 0x80..=0xfe, tail @ ..] => {
                text.push('\u{4f60}');
                tail
            }
            [byte, tail @ ..] => {
                text.push(if byte.is_ascii() { char::from(*byte) } else { '\u{4f60}' });
                tail
            }
        };
    }
}

fn merged(path: &str) -> String {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    merged
}

/// As the URL parser of browsers and Node.
fn without_host(path: &str) -> String {
    if !path.starts_with("//") {
        return path.to_owned();
    }
    let rest = path.trim_start_matches('/');
    rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/").to_owned()
}

fn resolved(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => _ = kept.pop(),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}
