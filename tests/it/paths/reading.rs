//! Every way some backend reads a path.

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

/// As a backend in C, or one that parses the target as a URL once more.
fn cut_tail(path: &str) -> String {
    path.split(['?', '#', '\0']).next().unwrap().to_owned()
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
