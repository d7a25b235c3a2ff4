//! Checks that the values of one section fit together.
//!
//! The range of a single number is in the schema. What one section says about another is checked by
//! the modules.

use super::{Config, Findings, Listener, TrustedProxy};

/// Everything in `config` that contradicts itself.
pub(super) fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    listeners(&config.listeners, &mut findings);
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
        let earlier = listeners.iter().take(index).position(|other| other.address == listener.address);
        if let Some(earlier) = earlier
            && listener.address.port() != 0
        {
            findings
                .error(
                    format!("listeners[{index}].address"),
                    format!("listeners[{earlier}] already binds `{}`", listener.address),
                )
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
    for (index, route) in config.routes.iter().enumerate() {
        all.extend(route.read_timeout.map(|timeout| (format!("routes[{index}].read_timeout"), timeout)));
    }
    for (path, _) in all.into_iter().filter(|(_, timeout)| timeout.is_zero()) {
        findings.error(path, "a timeout of zero fails every time").hint("write a longer one, such as `30s`");
    }
}
