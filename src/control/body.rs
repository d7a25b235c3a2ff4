//! Reads the body of a request, with a limit on its size and its time.

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::management::{BODY_TIMEOUT, MAX_BODY_BYTES, ManagementBodyError};

pub(super) async fn read(body: Incoming) -> Result<Bytes, ManagementBodyError> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    match collected {
        Err(_) => Err(ManagementBodyError::TimedOut),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ManagementBodyError::TooLarge),
        Ok(Err(_)) => Err(ManagementBodyError::Broken),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}
