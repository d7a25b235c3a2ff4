//! A request's arrival: when, by whom, under which id.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use http::HeaderMap;
use pingora::proxy::Session;

use super::client_address::{ClientAddress, TrustedProxies};
use super::reason::Reason;
use super::refusal::Refusal;
use super::request_id::RequestId;
use crate::clock::{Clock, Timestamp};
use crate::identity_headers::Believed;

/// What is known about a request before it is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestArrival {
    pub(super) started: Instant,
    pub(super) now: Timestamp,
    pub(super) request_id: RequestId,
    /// The unspecified address until [`RequestArrival::identify_client`].
    pub(super) client: ClientAddress,
    pub(super) is_https: bool,
}

impl RequestArrival {
    pub(super) fn new(clock: &dyn Clock, request_id: RequestId) -> Self {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            started: clock.instant(),
            now: clock.now(),
            request_id,
            client: ClientAddress { peer: unknown, proxy: None, client: unknown },
            is_https: false,
        }
    }

    /// Finds the client's address, and takes over the id that a proxy gave the request if the proxy
    /// is believed about it.
    ///
    /// # Errors
    /// [`Reason::PeerUnknown`]
    pub(super) fn identify_client(
        &mut self,
        session: &Session,
        trusted_proxies: &TrustedProxies,
    ) -> Result<(), Refusal> {
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip);
        let peer = peer.ok_or(Refusal::without_route(Reason::PeerUnknown))?;
        let headers = &session.req_header().headers;
        self.is_https = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        self.client = trusted_proxies.client_address(peer, headers);
        let believed = trusted_proxies.believed(self.client.proxy);
        if believed.is_some_and(Believed::request_id)
            && let Some(id) = given_id(headers)
        {
            self.request_id = id;
        }
        Ok(())
    }

    /// `http` or `https`, as the client used it with the gateway.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }
}

/// The one id that a request brings. Of two, the client may have written one.
fn given_id(headers: &HeaderMap) -> Option<RequestId> {
    let mut ids = headers.get_all("x-request-id").iter();
    let id = RequestId::parse(ids.next()?.to_str().ok()?)?;
    ids.next().is_none().then_some(id)
}
