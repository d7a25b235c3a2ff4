//! Fuzzes what is read before the caller is known: the request, the client's address, a balancer's
//! header.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use tokio::io::AsyncReadExt as _;

use super::admission::{Admission, Received};
use super::client_address::TrustedProxies;
use super::proxy_protocol::{self, ProxyHeader};
use crate::config::{Limits, TrustedProxy};
use crate::host::is_host_name;
use crate::identity_headers::Believed;
use crate::path::canonicalise;
use crate::route::METHODS;

static ADMISSION: LazyLock<Admission> = LazyLock::new(|| Admission::new(&Limits::default()));

const TRUSTED_PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const TRUSTED: [&str; 2] = ["10.0.0.0/8", "2001:db8:ffff::/48"];

static PROXIES: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let networks = TRUSTED.iter().filter_map(|text| text.parse().ok()).collect();
    let believed = Believed::in_names(&["X-Forwarded-For"], None);
    TrustedProxies::new(&[TrustedProxy::at(networks)], &[Arc::new(believed)])
});

pub(crate) fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some((method, target)) = lines.next().and_then(|line| split_once(line, b' ')) else { return };
    let Some(parts) = parts(method, target, lines) else { return };
    let raw = raw_header(method, target, &parts.headers);
    let received = Received { parts: &parts, target, raw_header: Some(&raw) };
    let Ok(admitted) = ADMISSION.admit(&received) else { return };

    assert!(METHODS.contains(&parts.method), "{} is admitted", parts.method);
    assert!(is_host_name(&admitted.host), "{:?} is no host", admitted.host);
    let hosts: Vec<&[u8]> = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes).collect();
    assert!(hosts.len() == 1, "{} hosts are admitted", hosts.len());
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(byte);
    assert!(hosts.concat().iter().all(is_host_byte), "a host with a character of its own is admitted");
    let lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter().count();
    assert!(lengths + codings <= 1, "{lengths} lengths and {codings} codings are admitted");
    let is_usual = |name: &HeaderName| name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    assert!(parts.headers.keys().all(is_usual), "an unusual name is admitted");

    if admitted.is_about_server {
        assert!(target == b"*" && parts.method == Method::OPTIONS, "`*` is for OPTIONS");
        return;
    }
    let forwarded = match &admitted.rewritten_target {
        Some(target) => target.as_str().to_owned(),
        None => String::from_utf8_lossy(target).into_owned(),
    };
    let path = forwarded.split('?').next().unwrap_or_default();
    match &admitted.ambiguous_path {
        None => assert!(canonicalise(path).as_deref() == Ok(path), "{forwarded:?} is forwarded"),
        Some(ambiguous) => {
            let is_as_it_came = target.windows(path.len()).any(|part| part == path.as_bytes());
            assert!(canonicalise(path).is_err() && is_as_it_came, "{forwarded:?} is forwarded");
            assert!(!ambiguous.spellings().is_empty(), "{forwarded:?} needs nothing");
        }
    }
    let is_raw = admitted.ambiguous_path.is_some();
    assert!(
        forwarded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' || is_raw && !byte.is_ascii()),
        "{forwarded:?} is forwarded"
    );

    let raw = raw_header(method, forwarded.as_bytes(), &parts.headers);
    let received = Received { parts: &parts, target: forwarded.as_bytes(), raw_header: Some(&raw) };
    let again = ADMISSION.admit(&received);
    let is_same = again.as_ref().is_ok_and(|again| {
        again.rewritten_target.is_none()
            && again.host == admitted.host
            && again.ambiguous_path == admitted.ambiguous_path
    });
    assert!(is_same, "{forwarded:?} is forwarded, and would be judged as {again:?}");
}

pub(crate) fn forwarded_for(data: &[u8]) {
    let lines: Vec<HeaderValue> =
        data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let headers = headers_of(&lines);

    let stranger = PROXIES.client_address(STRANGER, &headers);
    assert!(stranger.proxy.is_none() && stranger.client == STRANGER, "a stranger is trusted: {stranger:?}");

    let found = PROXIES.client_address(TRUSTED_PEER, &headers);
    assert!(found.proxy == Some(0) && found.peer == TRUSTED_PEER, "{found:?}");
    assert!(found.client == found.client.to_canonical(), "{found:?}");
    // Read from the right: the addresses of trusted proxies, until another address or a word that
    // is not an address.
    let texts = lines.iter().map(|line| line.to_str().unwrap_or("?"));
    let entries: Vec<&str> = texts.flat_map(|line| line.split(',')).map(str::trim).collect();
    let of_proxy = |entry: &&&str| address(entry).is_some_and(|address| PROXIES.trusts(address));
    let proxies = entries.iter().rev().take_while(of_proxy).count();
    let end = entries.iter().rev().nth(proxies).and_then(|entry| address(entry));
    let last_proxy = proxies.checked_sub(1).and_then(|place| address(entries.iter().rev().nth(place)?));
    let expected = end.or(last_proxy).unwrap_or(TRUSTED_PEER);
    assert!(
        found.client == expected,
        "{entries:?} is from {expected}, and taken to be from {}",
        found.client
    );
    if PROXIES.trusts(found.client) {
        return;
    }

    // Whatever an attacker writes before it stands further left.
    let forged: Vec<HeaderValue> =
        std::iter::once(HeaderValue::from_static("198.51.100.1, 10.9.9.9")).chain(lines).collect();
    assert!(
        PROXIES.client_address(TRUSTED_PEER, &headers_of(&forged)).client == found.client,
        "a left entry counts"
    );
}

pub(crate) fn proxy_protocol(data: &[u8]) {
    let mut whole = data;
    let said = proxy_protocol::read(&mut whole).now_or_never();
    assert!(said.is_some(), "it waits for bytes that are there");
    let Some(Ok(said)) = said else { return };
    let header = data.strip_suffix(whole).unwrap_or_default();
    assert!(
        !header.is_empty() && proxy_protocol::parse(header) == Ok(said),
        "read and parsed differ: {header:?}"
    );
    if let ProxyHeader::Proxied(address) = said {
        assert!(address.ip() == address.ip().to_canonical(), "{address} is not canonical");
    }

    // However it arrives, and never before it is whole.
    for cut in 0..header.len() {
        let (first, second) = data.split_at(cut);
        let mut pieces = first.chain(second);
        assert!(
            proxy_protocol::read(&mut pieces).now_or_never() == Some(Ok(said)),
            "in pieces it says something else"
        );
        let mut short = first;
        assert!(
            proxy_protocol::read(&mut short).now_or_never().is_some_and(|said| said.is_err()),
            "half a header counts"
        );
    }
}

fn parts<'l>(method: &[u8], target: &[u8], lines: impl Iterator<Item = &'l [u8]>) -> Option<Parts> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for line in lines {
        let Some((name, value)) = split_once(line, b':') else { continue };
        let name = HeaderName::from_bytes(name).ok();
        let value = HeaderValue::from_bytes(value.trim_ascii()).ok();
        if let Some((name, value)) = name.zip(value) {
            request.headers_mut().append(name, value);
        }
    }
    // An absolute target would be a second authority besides `Host`, as in HTTP/2.
    let mut parts = request.into_parts().0;
    let mut uri = parts.uri.into_parts();
    (uri.scheme, uri.authority) = (None, None);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(parts)
}

fn raw_header(method: &[u8], target: &[u8], headers: &HeaderMap) -> Vec<u8> {
    let mut raw = [method, b" ", target, b" HTTP/1.1\r\n"].concat();
    for (name, value) in headers {
        raw.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    raw.extend_from_slice(b"\r\n");
    raw
}

fn headers_of(lines: &[HeaderValue]) -> HeaderMap {
    lines.iter().map(|line| (HeaderName::from_static("x-forwarded-for"), line.clone())).collect()
}

fn address(entry: &str) -> Option<IpAddr> {
    let address: Option<IpAddr> = entry.parse().ok();
    address.or_else(|| entry.parse().ok().map(|address: SocketAddr| address.ip())).map(|ip| ip.to_canonical())
}

fn split_once(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|byte| *byte == at)?;
    let (before, after) = line.split_at_checked(end)?;
    Some((before, after.get(1..)?))
}
