//! Which bodies are read: JSON alone. A web page can send other types across sites without a
//! preflight.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::answer::ManagementAnswer;
use super::body::ManagementBodyError;

/// Reads the body of a request that changes something.
///
/// # Errors
/// The answer to a body that is not JSON, or cannot be read.
pub async fn read_json(
    request: &Parts,
    body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
) -> Result<Bytes, ManagementAnswer> {
    if !is_json(&request.headers) {
        let detail = "send `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ManagementAnswer::problem(status, "media_type_unsupported", Some(detail)));
    }
    body.await.map_err(ManagementBodyError::answer)
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else { return false };
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_alone_is_read() {
        for (types, expected) in [
            (["application/json"].as_slice(), true),
            (&["application/json; charset=utf-8"], true),
            (&["Application/JSON"], true),
            (&[], false),
            (&[""], false),
            (&["text/plain"], false),
            (&["text/plain;application/json"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["multipart/form-data"], false),
            (&["application/jsonp"], false),
            (&["application/json", "text/plain"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }

            assert_eq!(is_json(&headers), expected, "{types:?}");
        }
    }
}
