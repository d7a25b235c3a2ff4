//! Bodies of requests: a body that the gateway reads itself is limited in size and time; every
//! other body must keep a lowest rate.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use pingora::proxy::Session;

use crate::sign_in::BodyFault;

/// How long a body may take before its rate is checked.
pub(super) const RATE_GRACE: Duration = Duration::from_secs(10);

/// Reads a whole body of at most `max_bytes` in at most `deadline`.
///
/// If a body cannot be read, the connection closes after the answer: its end is not known. Pingora
/// counts a chunked body that it cannot read as over, and would read what follows as the next
/// request.
pub(super) async fn read(
    session: &mut Session,
    max_bytes: usize,
    deadline: Duration,
) -> Result<Bytes, BodyFault> {
    let read = tokio::time::timeout(deadline, read_all(session, max_bytes)).await;
    let read = read.unwrap_or(Err(BodyFault::TimedOut));
    if matches!(read, Err(BodyFault::Broken)) {
        session.set_keepalive(None);
    }
    read
}

async fn read_all(session: &mut Session, max_bytes: usize) -> Result<Bytes, BodyFault> {
    if announced_length(&session.req_header().headers).is_some_and(|length| length > max_bytes) {
        return Err(BodyFault::TooLarge);
    }
    if session.req_header().headers.contains_key(header::EXPECT) {
        // Pingora answers this only for forwarded requests; without it the client waits a second.
        session.write_continue_response().await.map_err(|_| BodyFault::Broken)?;
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_request_body().await.map_err(|_| BodyFault::Broken)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(BodyFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
