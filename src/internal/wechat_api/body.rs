//! The body of a call: read whole if it is short, so that the call can be made again; otherwise
//! passed on as it comes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::time::timeout;

use crate::management::ManagementBodyError;
use crate::wechat::{RelayBody, RelayBodyError};

/// Longest body that is kept to be sent again, in bytes.
const MOST_KEPT: usize = 64 * 1024;
/// Longest wait for the next piece of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a body, up to what is kept.
pub(super) async fn read(mut incoming: Incoming) -> Result<RelayBody, ManagementBodyError> {
    let mut start = BytesMut::new();
    while let Some(piece) = next_piece(&mut incoming).await? {
        start.extend_from_slice(&piece);
        if start.len() > MOST_KEPT {
            return Ok(streamed(start.freeze(), incoming));
        }
    }
    Ok(RelayBody::Whole(start.freeze()))
}

async fn next_piece(incoming: &mut Incoming) -> Result<Option<Bytes>, ManagementBodyError> {
    loop {
        let frame = timeout(PIECE_TIMEOUT, incoming.frame()).await;
        match frame.map_err(|_| ManagementBodyError::TimedOut)? {
            None => return Ok(None),
            Some(Err(_)) => return Err(ManagementBodyError::Broken),
            // Trailers are not passed on.
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

fn streamed(start: Bytes, incoming: Incoming) -> RelayBody {
    let pieces = stream::try_unfold((Some(start), incoming), |(start, mut incoming)| async move {
        let piece = match start {
            Some(start) => Some(start),
            None => {
                let piece = next_piece(&mut incoming).await;
                piece.map_err(|_| RelayBodyError::from("the body of the program did not arrive"))?
            }
        };
        Ok::<_, RelayBodyError>(piece.map(|piece| (Frame::data(piece), (None, incoming))))
    });
    RelayBody::Streamed(StreamBody::new(pieces).boxed())
}
