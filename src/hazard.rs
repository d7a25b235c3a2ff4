//! Warns of a configuration that is valid and dangerous: what a development machine needs, or what
//! protects less than it seems to.
//!
//! Modes and owners of files are checked by what reads them, and certificates by `server`.

mod route;

use crate::config::{Config, Findings, RedisStore, StoreEngine};
use crate::host::is_loopback;

/// Warns of every hazard that the configuration alone shows.
pub fn warn(config: &Config, findings: &mut Findings) {
    warn_of_admin_address(config, findings);
    warn_of_internal_address(config, findings);
    warn_of_emulator(config, findings);
    if config.store.engine == StoreEngine::Redis {
        warn_of_open_redis(&config.store.redis, findings);
    }
    route::warn_of_cross_site_root(&config.routes, findings);
    route::warn_of_public_neighbours(config, findings);
    route::check_tokens_in_query(config, findings);
}

fn warn_of_admin_address(config: &Config, findings: &mut Findings) {
    let address = config.admin.address;
    if !address.ip().to_canonical().is_loopback() {
        findings
            .warning(
                "admin.address",
                format!("`{address}` is not loopback, and the admin listener asks for no password"),
            )
            .hint("write `127.0.0.1:9901`, or let a firewall admit only your own machines");
    }
}

/// Refuses an internal listener whose tokens could be read on the network, and warns of one
/// that other machines reach.
fn warn_of_internal_address(config: &Config, findings: &mut Findings) {
    let Some(internal) = &config.internal else { return };
    let address = internal.address;
    if address.ip().to_canonical().is_loopback() {
        return;
    }
    if internal.tls.is_none() {
        findings
            .error(
                "internal.address",
                format!(
                    "`{address}` is not loopback: without TLS, the tokens of the clients go in the clear"
                ),
            )
            .hint("write `internal.tls`, or a loopback address such as `127.0.0.1:9902`");
        return;
    }
    findings
        .warning(
            "internal.address",
            format!("`{address}` is not loopback: every program with a token can use it"),
        )
        .hint("let a firewall admit only your own machines, or write `internal.tls.client_ca_file`");
}

/// Warns of addresses of WeChat that only an emulator has: loopback, or plain HTTP.
fn warn_of_emulator(config: &Config, findings: &mut Findings) {
    let wechat = &config.wechat;
    let hosts = wechat.hosts.iter().enumerate();
    let mut urls: Vec<(String, &str)> =
        hosts.map(|(index, host)| (format!("wechat.hosts[{index}]"), host.as_str())).collect();
    urls.push(("wechat.pages".to_owned(), &wechat.pages));
    urls.extend(wechat.widget.as_deref().map(|widget| ("wechat.widget".to_owned(), widget)));
    for (key, url) in urls {
        let Some((scheme, rest)) = url.split_once("://") else { continue };
        let is_plain = scheme.eq_ignore_ascii_case("http");
        // The URL is not repeated: a wrong one may hold a password.
        if is_plain || is_loopback(host_of(rest)) {
            findings
                .warning(key, "this is an emulator, not WeChat: its operator decides who each user is")
                .hint("outside development, remove the key: the default is WeChat");
        }
    }
}

/// The host of what follows `//` in a URL.
fn host_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    without_port(host_and_port)
}

/// `host:port` or `[address]:port` without the port.
fn without_port(address: &str) -> &str {
    if let Some(end) = address.find(']') {
        return address.get(..=end).unwrap_or(address);
    }
    address.split_once(':').map_or(address, |(host, _)| host)
}

/// Warns of a Redis on another machine without TLS or without a password.
fn warn_of_open_redis(redis: &RedisStore, findings: &mut Findings) {
    let Some(remote) = redis.addresses.iter().find(|address| !is_loopback(without_port(address))) else {
        return;
    };
    if redis.tls.is_none() {
        findings
            .warning("store.redis.tls", format!("the sessions go to `{remote}` without encryption"))
            .hint("write `tls: {}`, with `ca_file` if a private authority issued the server's certificate");
    }
    if redis.password.is_none() {
        findings
            .warning(
                "store.redis.password",
                format!("every program that reaches `{remote}` can change sessions"),
            )
            .hint("let Redis ask for a password, and write `{ file: path }` here");
    }
}

#[cfg(test)]
mod tests;
