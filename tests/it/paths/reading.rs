//! Every way some backend reads a path.
//!
//! This is written apart from `src/path`, which must agree with it.

use std::collections::BTreeSet;

/// Every path that a backend might take this one for: decoded, cut, resolved and merged in any
/// order, four times over.
pub fn readings(path: &str) -> BTreeSet<String> {
    let steps: [fn(&str) -> String; 6] =
        [decode, cut_parameters, replace_backslashes, resolve_dots, merge_slashes, cut_tail];
    let mut all = BTreeSet::from([path.to_owned()]);
    let mut last = all.clone();
    for _ in 0..4 {
        let next: BTreeSet<String> =
            last.iter().flat_map(|path| steps.iter().map(move |step| step(path))).collect();
        last = next.difference(&all).cloned().collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// As [`readings`], with what backends make only of a path that is not canonical: what follows `;`
/// is cut to the end of the path, what follows `//` is a host, and bytes that are not UTF-8 are
/// dropped, replaced, or read as overlong forms.
pub fn readings_of_an_ambiguous_path(path: &str) -> BTreeSet<String> {
    let cut_all = |path: &str| path.split(';').next().unwrap().to_owned();
    let decoders: [fn(&str) -> String; 4] = [
        decode,
        |path| decode(path).replace('\u{fffd}', ""),
        |path| decode(path).replace('\u{fffd}', "?"),
        decode_overlong,
    ];
    let before = [path.to_owned(), cut_parameters(path), cut_all(path), merge_slashes(path), drop_host(path)];
    let decoded = before.iter().flat_map(|path| decoders.iter().map(move |decode| decode(path)));
    let once: BTreeSet<String> = decoded.chain(before.iter().cloned()).collect();
    let more = once.iter().flat_map(|path| [cut_all(path), drop_host(path), cut_tail(path), path.clone()]);
    let again: BTreeSet<String> = more.collect();
    again.iter().flat_map(|path| readings(path)).collect()
}

/// The longest of these prefixes, on segment boundaries, that a path is under.
pub fn governing<'p>(path: &str, prefixes: &[&'p str]) -> Option<&'p str> {
    let is_under = |prefix: &str| {
        let prefix = prefix.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    prefixes.iter().copied().filter(|prefix| is_under(prefix)).max_by_key(|prefix| prefix.len())
}

/// Percent-decodes what can be decoded and leaves the rest.
pub fn decode(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (*byte, digit(0), digit(1)) {
            out.push(u8::try_from(high * 16 + low).unwrap());
            rest = &tail[2..];
        } else {
            out.push(*byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// As Tomcat and Spring read matrix parameters.
fn cut_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|part| part.split(';').next().unwrap()).collect();
    segments.join("/")
}

fn replace_backslashes(path: &str) -> String {
    path.replace('\\', "/")
}

fn resolve_dots(path: &str) -> String {
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

fn merge_slashes(path: &str) -> String {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    merged
}

/// As a URL parser, which reads a host behind two slashes.
fn drop_host(path: &str) -> String {
    if !path.starts_with("//") {
        return path.to_owned();
    }
    let rest = path.trim_start_matches('/');
    rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned()
}

/// As a decoder that does not ask for the shortest form of a character.
fn decode_overlong(path: &str) -> String {
    let mut text = path.to_owned();
    for (escape, character) in [("%c0%af", "/"), ("%c0%ae", "."), ("%e0%80%af", "/"), ("%c1%9c", "\\")] {
        text = text.replace(escape, character).replace(&escape.to_uppercase(), character);
    }
    decode(&text)
}

/// As a backend in C, or one that parses the target as a URL once more.
fn cut_tail(path: &str) -> String {
    path.split(['?', '#', '\0']).next().unwrap().to_owned()
}

#[test]
fn readings_find_what_an_ambiguous_path_hides() {
    for hidden in [
        "//pub/api",
        "/api;x",
        "/api%3Bx/y",
        "/api%3F",
        "/%2Fx/api",
        "/pub/..%c0%afapi",
        "/a%ffpi",
        "/api%ff/x",
    ] {
        let found = readings_of_an_ambiguous_path(hidden);
        assert!(found.iter().any(|path| governing(path, &["/api"]).is_some()), "{hidden}: {found:?}");
    }
}

#[test]
fn readings_find_what_a_path_hides() {
    for hidden in [
        "/pub/../api",
        "/pub/%2e%2e/api",
        "/pub/..%2fapi",
        "/pub/..%252fapi",
        "/pub/..;x/api",
        "/pub\\..\\api",
        "//api",
        "/%61pi",
        "/api%00",
        "/pub/%2e%2e%5capi",
        "/api;x/y",
    ] {
        let found = readings(hidden);
        assert!(found.iter().any(|path| governing(path, &["/api"]).is_some()), "{hidden}: {found:?}");
    }
}
