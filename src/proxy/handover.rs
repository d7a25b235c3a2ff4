//! What the guard hands to Pingora along with a request of HTTP/1: the gate before its client, and
//! why the request is refused if the guard refuses it.

mod chunks;
mod gate;
mod refused;

use http::header;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use self::gate::RestOfRequest;
pub(super) use self::gate::{Gate, GatedStream};
pub(super) use self::refused::RefusedHeader;
use super::admission::AdmissionError;

/// What belongs to one request of HTTP/1.
pub(super) struct Handover {
    pub(super) gate: Gate,
    /// The header that the guard refused. Pingora has a substitute for it.
    pub(super) refused: Option<Box<RefusedHeader>>,
}

impl Handover {
    /// Opens the gate: Pingora has taken the header for a request.
    ///
    /// The bytes of a chunked body are checked from here on. If those that arrived with the header
    /// are malformed, the request is refused.
    pub(super) fn open_gate(&mut self, session: &Session) {
        if self.gate.open(rest_of(session.req_header())).is_err() && self.refused.is_none() {
            self.refused = Some(Box::new(RefusedHeader::of_request(session, AdmissionError::Chunk)));
        }
    }
}

/// How long the rest of a request is. Its framing was not admitted yet, and may be malformed.
fn rest_of(request: &RequestHeader) -> RestOfRequest {
    let headers = &request.headers;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return RestOfRequest::Chunked;
    }
    if headers.contains_key(header::UPGRADE) {
        return RestOfRequest::Endless;
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return RestOfRequest::Length(0) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.map_or(RestOfRequest::Endless, RestOfRequest::Length)
}
