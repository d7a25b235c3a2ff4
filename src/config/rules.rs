//! Checks that the values of one section fit together.
//!
//! The range of a single number is in the schema. What one section says about another is checked by
//! the modules.

use std::net::{IpAddr, SocketAddr};

use super::finding::escape;
use super::{Config, Findings, Listener, TrustedProxy};

/// Everything in `config` that contradicts itself.
pub(super) fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    listeners(&config.listeners, &mut findings);
    addresses(config, &mut findings);
    servers(config, &mut findings);
    trusted_proxies(config, &mut findings);
    timeouts(config, &mut findings);
    findings
}

fn listeners(listeners: &[Listener], findings: &mut Findings) {
    for (index, listener) in listeners.iter().enumerate() {
        if listener.h2c && listener.tls.is_some() {
            findings
                .error(
                    format!("listeners[{index}].h2c"),
                    "`h2c` is HTTP/2 without TLS, but this listener has `tls`",
                )
                .hint("remove `h2c`; `tls.http2` is on by default");
        }
        if listener.health.as_ref().is_some_and(|path| !is_plain_path(path)) {
            let path = listener.health.as_deref().unwrap_or_default();
            findings
                .error(
                    format!("listeners[{index}].health"),
                    format!("`{}` is not a plain path", path.escape_debug()),
                )
                .hint("write a path of letters, digits, `-`, `_` and `.`, such as `/healthz`");
        }
    }
}

/// Refuses two listeners of which the system would let only one bind its address.
fn addresses(config: &Config, findings: &mut Findings) {
    let mut bound = vec![("admin.address".to_owned(), config.admin.address)];
    bound.extend(config.internal.iter().map(|internal| ("internal.address".to_owned(), internal.address)));
    for (index, listener) in config.listeners.iter().enumerate() {
        bound.push((format!("listeners[{index}].address"), listener.address));
    }
    for (index, (key, address)) in bound.iter().enumerate() {
        let earlier = bound.iter().take(index).find(|(_, other)| share_a_port(*address, *other));
        if let Some((other_key, other)) = earlier {
            findings
                .error(key, format!("`{address}` shares its port with `{other_key}`, which is `{other}`"))
                .hint("choose another port");
        }
    }
}

/// Whether a path has one spelling.
fn is_plain_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(is_byte)
    };
    path.strip_prefix('/').is_some_and(|rest| rest.is_empty() || rest.split('/').all(is_segment))
}

/// Whether two sockets cannot be bound together. A socket of `[::]` is bound to the addresses of
/// IPv4 too: see ipv6(7), `IPV6_V6ONLY`.
fn share_a_port(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let is_every_address = |ip: IpAddr| ip.is_ipv6() && ip.is_unspecified();
    let is_every_ipv4 = |ip: IpAddr, beside: IpAddr| ip.is_ipv4() && ip.is_unspecified() && beside.is_ipv4();
    one.port() == other.port()
        && one.port() != 0
        && (a == b
            || is_every_address(a)
            || is_every_address(b)
            || is_every_ipv4(a, b)
            || is_every_ipv4(b, a))
}

/// Refuses what is no `host:port`, before anything tries to resolve it.
fn servers(config: &Config, findings: &mut Findings) {
    for (name, upstream) in &config.upstreams {
        for (index, server) in upstream.servers.iter().enumerate() {
            let address = server.address();
            let Some((reason, hint)) = doubt_of_server(address) else { continue };
            findings
                .error(
                    format!("upstreams.{name}.servers[{index}]"),
                    // With a user, it can have a password.
                    if address.contains('@') {
                        format!("the address {reason}")
                    } else {
                        format!("`{}` {reason}", escape(address))
                    },
                )
                .hint(hint)
                .cause();
        }
    }
}

/// Why a text is no `host:port`, and what to write.
fn doubt_of_server(address: &str) -> Option<(&'static str, String)> {
    let general = || "write `host:port`, such as `127.0.0.1:9000` or `api.internal:8080`".to_owned();
    if let Some((scheme, rest)) = address.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
        let host = if has_port(host) { host.to_owned() } else { format!("{host}:{default}") };
        let tls = if scheme.eq_ignore_ascii_case("https") { ", and `tls` beside `servers`" } else { "" };
        let hint = if host.contains('@') { general() } else { format!("write `{host}`{tls}") };
        return Some(("is a URL, not `host:port`", hint));
    }
    if address.contains('/') {
        return Some(("has a path", general()));
    }
    (!has_port(address)).then(|| ("has no port", general()))
}

fn has_port(address: &str) -> bool {
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    port.is_some_and(|port| port.is_ok_and(|port| port > 0)) && address.parse::<IpAddr>().is_err()
}

fn trusted_proxies(config: &Config, findings: &mut Findings) {
    let proxies = &config.trusted_proxies;
    for (index, proxy) in proxies.iter().enumerate() {
        for network in proxy.from.iter().filter(|network| network.prefix_len() == 0) {
            findings
                .warning(
                    format!("trusted_proxies[{index}]"),
                    format!("`{network}` is every address: any client can claim any address, and no limit on logins works"),
                )
                .hint("write only the addresses of your proxies");
        }
        let differs = |other: &TrustedProxy| {
            (&other.believe, &other.client_address) != (&proxy.believe, &proxy.client_address)
        };
        for network in &proxy.from {
            let mut earlier = proxies.iter().take(index);
            let names_it =
                |other: &TrustedProxy| other.from.iter().any(|other| other.trunc() == network.trunc());
            let earlier = earlier.position(|other| names_it(other) && differs(other));
            if let Some(earlier) = earlier {
                findings
                    .error(
                        format!("trusted_proxies[{index}]"),
                        format!("trusted_proxies[{earlier}] already says what is believed from `{network}`"),
                    )
                    .hint("write the network once, with everything to believe from it");
            }
        }
    }
}

/// Refuses timeouts of zero: they would end every operation before it starts.
fn timeouts(config: &Config, findings: &mut Findings) {
    let limits = &config.limits;
    let mut all = vec![
        ("login.body_timeout".to_owned(), config.login.body_timeout),
        ("limits.header_timeout".to_owned(), limits.header_timeout),
        ("limits.read_timeout".to_owned(), limits.read_timeout),
        ("limits.write_timeout".to_owned(), limits.write_timeout),
    ];
    for (name, upstream) in &config.upstreams {
        all.push((format!("upstreams.{name}.connect_timeout"), upstream.connect_timeout));
        all.push((format!("upstreams.{name}.read_timeout"), upstream.read_timeout));
        all.push((format!("upstreams.{name}.write_timeout"), upstream.write_timeout));
    }
    for (path, _) in all.into_iter().filter(|(_, timeout)| timeout.is_zero()) {
        findings.error(path, "a timeout of zero fails every time").hint("write a longer one, such as `30s`");
    }
}
