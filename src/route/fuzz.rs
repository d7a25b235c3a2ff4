//! Drives the canonical form of paths, and the choice of routes by it.

use std::sync::LazyLock;

use http::Method;

use super::RouteTable;
use crate::config::{Access, Document, Findings};
use crate::path::{AmbiguousPath, canonicalise, decode};

/// A public route for every path, and protected routes below it.
const CONFIG: &str = r#"
listeners: [{ address: "127.0.0.1:1" }]
apps: { shop: { kind: mini_program, appid: wx1, secret: { env: S } } }
upstreams: { backend: { servers: ["127.0.0.1:2"] } }
routes:
  - { path: /, access: public, upstream: backend, paths: { allow: [semicolon, empty_segment, encoded_slash, encoded_reserved, raw_utf8, legacy_escapes] } }
  - { path: /api, access: authenticated, upstream: backend }
  - { path: /v1.0/x, access: authenticated, upstream: backend }
  - { path: "/@me", access: authenticated, upstream: backend }
  - { path: /caf%C3%A9, access: authenticated, upstream: backend }
"#;

const PROTECTED: [&str; 4] = ["/api", "/v1.0/x", "/@me", "/café"];

static TABLE: LazyLock<Option<RouteTable>> = LazyLock::new(|| {
    let config = Document::parse("fuzz", CONFIG).ok()?.config;
    RouteTable::build(
        &config.routes,
        &config.apps,
        &config.upstreams,
        &config.lists,
        &mut Findings::default(),
    )
});

pub(crate) fn path(data: &[u8]) {
    let Ok(raw) = str::from_utf8(data) else { return };
    let Ok(canonical) = canonicalise(raw) else { return ambiguous(raw) };
    let again = canonicalise(&canonical);
    assert!(again.as_deref() == Ok(&*canonical), "{raw:?} is not canonical at once: {again:?}");

    let table = TABLE.as_ref();
    let route = table.and_then(|table| table.find("a.test", &canonical, &Method::GET).ok());
    assert!(route.is_some(), "no route, although one serves everything");
    let is_public = route.is_some_and(|route| route.access == Access::Public);
    let matched = decode(&canonical);
    for reading in readings(&canonical) {
        let reads_protected = PROTECTED.iter().any(|path| is_below(&reading, path));
        assert!(
            !reads_protected || !is_public,
            "{raw:?} is public as {canonical:?}, and read as {reading:?}"
        );
        let parts = |text: &str| text.split('/').count();
        assert!(parts(&reading) == parts(&matched), "{raw:?} has other segments when read as {reading:?}");
    }
}

/// A path that backends read in more than one way: a route that accepts all of it has it only if no
/// backend reads it as a protected path.
fn ambiguous(raw: &str) {
    let Ok(path) = AmbiguousPath::parse(raw) else { return };
    assert!(!path.spellings().is_empty(), "{raw:?} is not canonical, and has no spelling");
    let table = TABLE.as_ref();
    let found = table.map(|table| table.find_in_every_reading("a.test", &path, &Method::GET));
    let is_public = found.is_some_and(|found| found.is_ok_and(|route| route.access == Access::Public));
    let cut = |text: &str| text.split(';').next().unwrap_or_default().to_owned();
    let dropped = |text: &str| text.replace(char::REPLACEMENT_CHARACTER, "");
    let read = readings(raw).into_iter().flat_map(|text| [cut(&text), dropped(&text), text]);
    for reading in read.flat_map(|text| [tidied(&text), without_host(&text), text]) {
        let reads_protected = PROTECTED.iter().any(|path| is_below(&reading, path));
        assert!(!reads_protected || !is_public, "{raw:?} is public, and read as {reading:?}");
    }
}

/// The path as read by a backend that takes what follows two slashes for a host.
fn without_host(text: &str) -> String {
    if !text.starts_with("//") {
        return text.to_owned();
    }
    let path = text.trim_start_matches('/').split_once('/').map_or("", |(_, path)| path);
    tidied(&format!("/{path}"))
}

/// What backends make of a path: decoded up to three times, and each time tidied up or not.
fn readings(canonical: &str) -> Vec<String> {
    let mut readings = vec![canonical.to_owned()];
    let mut text = canonical.to_owned();
    for _ in 0..3 {
        readings.push(tidied(&text));
        text = decode_leniently(&text);
        readings.push(text.clone());
    }
    readings.push(tidied(&text));
    readings
}

/// The path as read by a backend that treats backslashes as slashes, and removes parameters, dots
/// and empty segments.
fn tidied(text: &str) -> String {
    let text = text.replace('\\', "/");
    let text = text.split(['?', '#', '\0']).next().unwrap_or_default();
    let mut segments: Vec<&str> = Vec::new();
    let all = text.split('/').skip(1).map(|segment| segment.split(';').next().unwrap_or_default());
    let last_is_folder = text.ends_with('/');
    for segment in all {
        match segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            name => segments.push(name),
        }
    }
    let end = if last_is_folder && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// A decoder of its own: what is no escape stays as it is.
fn decode_leniently(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let escape = tail.split_at_checked(2).filter(|_| *byte == b'%');
        let value = escape.and_then(|(digits, tail)| {
            let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, tail))
        });
        let (value, tail) = value.unwrap_or((*byte, tail));
        bytes.push(value);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
