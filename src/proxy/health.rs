//! The probes of balancers: which path of which listener answers them.
//!
//! A probe may come by HTTP/1.0 and name no host, so it is answered before a request is admitted.

use std::fmt;
use std::net::SocketAddr;

use http::Method;
use pingora::proxy::Session;

/// The paths where the public listeners answer probes.
pub struct HealthPaths {
    /// Of each bound listener. Not only of those with a path: of two listeners with one port, the
    /// kernel gives a connection to the one with the address.
    listeners: Vec<(SocketAddr, Option<String>)>,
    is_any: bool,
    is_draining: Box<dyn Fn() -> bool + Send + Sync>,
}

impl HealthPaths {
    /// Answers at these paths of the bound listeners.
    pub fn new(
        listeners: Vec<(SocketAddr, Option<String>)>,
        is_draining: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let is_any = listeners.iter().any(|(_, path)| path.is_some());
        Self { listeners, is_any, is_draining: Box::new(is_draining) }
    }

    /// Whether the gateway drains, if a request is a probe.
    pub(super) fn probe(&self, session: &Session) -> Option<bool> {
        if !self.is_any {
            return None;
        }
        let request = session.req_header();
        if !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        let target = request.raw_path();
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let is_asked = |own: &Option<String>| own.as_ref().is_some_and(|own| own.as_bytes() == path);
        if !self.listeners.iter().any(|(_, own)| is_asked(own)) {
            return None;
        }
        let local = *session.server_addr()?.as_inet()?;
        is_asked(self.of_listener(local)?).then(|| (self.is_draining)())
    }

    /// The path of the listener that accepted a connection to this address.
    fn of_listener(&self, local: SocketAddr) -> Option<&Option<String>> {
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        let exact = self.listeners.iter().find(|(bound, _)| plain(*bound) == plain(local));
        let is_same_family = |bound: &SocketAddr| bound.is_ipv4() == local.is_ipv4();
        let any = || {
            self.listeners.iter().find(|(bound, _)| {
                bound.ip().is_unspecified() && bound.port() == local.port() && is_same_family(bound)
            })
        };
        exact.or_else(any).map(|(_, path)| path)
    }
}

impl fmt::Debug for HealthPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthPaths").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::respond;
    use super::*;

    #[test]
    fn a_gateway_that_drains_sends_the_clients_elsewhere() {
        for (is_draining, status, body) in [(false, 200, "ok\n"), (true, 503, "draining\n")] {
            let answer = respond::health(is_draining);
            assert_eq!((answer.status().as_u16(), &answer.body()[..]), (status, body.as_bytes()));
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
    }

    #[test]
    fn the_listener_of_a_connection_is_the_one_with_its_address_or_with_every_address() {
        let listener = |address: &str, path: &str| (address.parse().unwrap(), Some(path.to_owned()));
        let paths = HealthPaths::new(
            vec![
                listener("0.0.0.0:80", "/any4"),
                listener("[::]:80", "/any6"),
                listener("10.0.0.1:80", "/one"),
                listener("10.0.0.1:81", "/other"),
                ("127.0.0.1:80".parse().unwrap(), None),
            ],
            || false,
        );
        for (local, expected) in [
            ("10.0.0.1:80", Some("/one")),
            ("10.0.0.2:80", Some("/any4")),
            ("10.0.0.1:81", Some("/other")),
            ("10.0.0.2:81", None),
            ("127.0.0.1:80", None),
            ("[::1]:80", Some("/any6")),
            ("[::ffff:10.0.0.2]:80", Some("/any6")),
            ("[::ffff:10.0.0.1]:81", Some("/other")),
        ] {
            let found = paths.of_listener(local.parse().unwrap()).and_then(|path| path.as_deref());
            assert_eq!(found, expected, "{local}");
        }
    }
}
