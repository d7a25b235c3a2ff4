//! Where a request came from, as the gateway tells the backend.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::EditHeaders;
use super::believed::Believed;
use super::names::Class;
use crate::address;

/// Where a request came from.
#[derive(Debug)]
pub struct RequestOrigin<'a> {
    /// What the peer is believed about; `None` if it is no trusted proxy.
    pub believed: Option<&'a Believed>,
    /// The peer itself.
    pub peer: IpAddr,
    /// The client: the peer, or whom the peer is believed to speak for.
    pub client: IpAddr,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// The host the client asked for.
    pub host: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The `traceparent` of a new trace; `None` if there is none, or if another trace continues.
    pub traceparent: Option<&'a str>,
    /// Whether the trace of the request continues.
    pub continues_trace: bool,
}

/// The headers that say so. `None`: the header stays as it is.
pub(super) struct WrittenOrigin {
    forwarded_for: Option<HeaderValue>,
    real_ip: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
}

impl RequestOrigin<'_> {
    /// The headers to write into a request with these headers.
    pub(super) fn written(&self, headers: &HeaderMap) -> WrittenOrigin {
        let forwarded_for = self.forwarded_for(headers);
        let is_kept = |name| {
            let passes = |proxy: &Believed| proxy.passes(&HeaderName::from_static(name), Class::Own, headers);
            self.believed.is_some_and(passes)
        };
        let real_ip = (!is_kept("x-real-ip")).then(|| self.real_ip(forwarded_for.as_ref()));
        let port = (!is_kept("x-forwarded-port")).then(|| self.port());
        WrittenOrigin {
            forwarded_for,
            real_ip: real_ip.flatten(),
            proto: Some(HeaderValue::from_static(self.scheme)),
            host: HeaderValue::from_str(self.host).ok(),
            port: port.flatten(),
            request_id: HeaderValue::from_str(self.request_id).ok(),
            traceparent: self.traceparent.and_then(|text| HeaderValue::from_str(text).ok()),
        }
    }

    /// The list of a proxy that is believed about it is continued. Another list says only what the
    /// gateway found out.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut list = Vec::with_capacity(15);
        if self.believed.is_some_and(Believed::forwarded_for) {
            for value in headers.get_all("x-forwarded-for") {
                let Ok(text) = value.to_str() else { continue };
                list.extend_from_slice(text.trim().as_bytes());
                list.extend_from_slice(b", ");
            }
        } else if self.client != self.peer {
            address::push(&mut list, self.client);
            list.extend_from_slice(b", ");
        }
        address::push(&mut list, self.peer);
        HeaderValue::try_from(list).ok()
    }

    /// The client's address. Most often it was just written as the whole list.
    fn real_ip(&self, forwarded_for: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.believed.is_none() {
            return forwarded_for.cloned();
        }
        HeaderValue::try_from(self.client.to_string()).ok()
    }

    /// The port that the client used: that of the host it asked for, or the scheme's own.
    fn port(&self) -> Option<HeaderValue> {
        let host = self.host.as_bytes();
        let written = host.iter().rposition(|byte| *byte == b':').and_then(|colon| host.get(colon + 1..));
        match written.filter(|port| port.iter().all(u8::is_ascii_digit) && !port.is_empty()) {
            Some(port) => HeaderValue::from_bytes(port).ok(),
            None if self.scheme == "https" => Some(HeaderValue::from_static("443")),
            None => Some(HeaderValue::from_static("80")),
        }
    }
}

impl WrittenOrigin {
    /// Writes the headers.
    pub(super) fn set(self, request: &mut impl EditHeaders) {
        static FORWARDED_FOR: Bytes = Bytes::from_static(b"X-Forwarded-For");
        static FORWARDED_PROTO: Bytes = Bytes::from_static(b"X-Forwarded-Proto");
        static FORWARDED_HOST: Bytes = Bytes::from_static(b"X-Forwarded-Host");
        static FORWARDED_PORT: Bytes = Bytes::from_static(b"X-Forwarded-Port");
        static REAL_IP: Bytes = Bytes::from_static(b"X-Real-IP");
        static REQUEST_ID: Bytes = Bytes::from_static(b"X-Request-Id");
        static TRACEPARENT: Bytes = Bytes::from_static(b"traceparent");

        let headers = [
            (&FORWARDED_FOR, self.forwarded_for),
            (&REAL_IP, self.real_ip),
            (&FORWARDED_PROTO, self.proto),
            (&FORWARDED_HOST, self.host),
            (&FORWARDED_PORT, self.port),
            (&REQUEST_ID, self.request_id),
            (&TRACEPARENT, self.traceparent),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request.set(name, value);
            }
        }
    }
}
