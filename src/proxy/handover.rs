//! What the guard hands to Pingora along with a request of HTTP/1: the gate before its client, and
//! why the request is refused if the guard refuses it.

mod chunks;
mod gate;
mod refused;

use pingora::proxy::Session;

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
        let is_chunked = session.req_header().headers.contains_key(http::header::TRANSFER_ENCODING);
        if self.gate.open(is_chunked).is_err() && self.refused.is_none() {
            self.refused = Some(Box::new(RefusedHeader::of_request(session, AdmissionError::Chunk)));
        }
    }
}
