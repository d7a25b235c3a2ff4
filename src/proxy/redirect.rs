//! A backend that does not know where its clients are redirects them to its own address, which they
//! may not reach. Such a redirect leads to where the client came from instead.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

use crate::host::Authority;
use crate::upstream::Upstream;

/// Fields that lead a client to a URL.
const FIELDS: [HeaderName; 3] = [header::LOCATION, header::CONTENT_LOCATION, header::REFRESH];

/// Where a client came from, and what the backend was told about it.
#[derive(Clone, Copy)]
pub(super) struct ClientOrigin<'r> {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Host and port, as the backend gets them in `X-Forwarded-Host`.
    pub(super) authority: &'r str,
    /// The `Host` that the backend gets.
    pub(super) sent_host: &'r str,
}

/// Whether an answer leads its client to a URL.
pub(super) fn leads_somewhere(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| matches!(name.as_str(), "location" | "content-location" | "refresh"))
}

/// Replaces the backend's own address in the fields that lead to a URL.
pub(super) fn map(
    response: &mut ResponseHeader,
    upstream: &Upstream,
    origin: ClientOrigin<'_>,
) -> pingora::Result<()> {
    for name in &FIELDS {
        let lines = response.headers.get_all(name).iter();
        let mapped: Vec<Option<HeaderValue>> =
            lines.map(|line| mapped_value(name, line, upstream, origin)).collect();
        if mapped.iter().all(Option::is_none) {
            continue;
        }
        let lines = response.headers.get_all(name).iter();
        let lines: Vec<HeaderValue> =
            lines.zip(mapped).map(|(line, mapped)| mapped.unwrap_or_else(|| line.clone())).collect();
        response.remove_header(name);
        for line in lines {
            response.append_header(name, line)?;
        }
    }
    Ok(())
}

/// The value of a field that names the backend's own address; `None` for every other.
fn mapped_value(
    name: &HeaderName,
    value: &HeaderValue,
    upstream: &Upstream,
    origin: ClientOrigin<'_>,
) -> Option<HeaderValue> {
    let value = std::str::from_utf8(value.as_bytes()).ok()?;
    // `Refresh: 5; url=http://…`
    let url_at = if *name == header::REFRESH { after_url(value)? } else { 0 };
    let (before, url) = value.split_at_checked(url_at)?;
    let rest = rest_of_own_url(url, upstream, origin.sent_host)?;
    let mapped = format!("{before}{}://{}{rest}", origin.scheme, origin.authority);
    HeaderValue::from_bytes(mapped.as_bytes()).ok()
}

/// Where the URL of `Refresh` begins.
fn after_url(value: &str) -> Option<usize> {
    let at = value.as_bytes().windows(4).position(|part| part.eq_ignore_ascii_case(b"url="))? + 4;
    let quote = value.get(at..)?.starts_with(['"', '\'']);
    Some(at + usize::from(quote))
}

/// What follows the authority in a URL of the upstream's own; `None` for every other URL.
fn rest_of_own_url<'u>(url: &'u str, upstream: &Upstream, sent_host: &str) -> Option<&'u str> {
    let (port, rest) = [("http://", 80), ("https://", 443)].into_iter().find_map(|(scheme, port)| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some((port, rest))
    })?;
    let end = rest.find(['/', '?', '#', '\\', '"', '\'']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let named = Authority::parse(authority)?;
    let port = named.port.unwrap_or(port);
    let is_sent_host = Authority::parse(sent_host)
        .is_some_and(|sent| sent.host.eq_ignore_ascii_case(named.host) && upstream.has_port(port));
    (is_sent_host || upstream.is_at(named.host, port)).then_some(rest)
}

#[cfg(test)]
mod tests;
