//! Calls of WeChat's API that a program of the business makes through the gateway: the request is
//! sent with the app's token, and the answer is passed on without it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, RANGE, USER_AGENT,
};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use reqwest::Url;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::warn;

use super::api;
use super::error::{self, ReplyFault, WeChatError};
use super::mask::TokenMask;
use super::{ApiPath, App, WeChat};

/// Longest wait until fewer calls are under way.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the header of an answer, after a body that was sent at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time to send a body that is streamed, with the wait for the header of the answer.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest wait for the next piece of an answer.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a JSON answer is read to find its errcode. An error has some hundred bytes.
const MOST_READ_OF_JSON: usize = 16 * 1024;
/// Its name in metrics and logs.
const API: &str = "relay";

/// The headers of a program that WeChat gets. `Wechatmp-*` are the headers of the API's signatures.
const SENT: [HeaderName; 4] = [ACCEPT, CONTENT_TYPE, RANGE, USER_AGENT];
const SENT_PREFIX: &str = "wechatmp-";
/// The headers of an answer that a program gets.
const RETURNED: [HeaderName; 8] = [
    ACCEPT_RANGES,
    CONTENT_DISPOSITION,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    LAST_MODIFIED,
];
const RETURNED_PREFIX: &str = "wechatmp-";

/// An error of a body.
pub type RelayBodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body, piece by piece.
type RelayPieces = BoxStream<'static, Result<Bytes, RelayBodyError>>;

/// A call of WeChat's API, without the token.
pub struct RelayRequest<'a> {
    /// `GET` or `POST`.
    pub method: &'a Method,
    /// The path.
    pub path: &'a ApiPath,
    /// The query, without `access_token`; it may be empty.
    pub query: &'a str,
    /// The headers of the program; most of them stay here.
    pub headers: &'a HeaderMap,
}

/// The body of a call.
pub enum RelayBody {
    /// All of it, so that the call can be made again.
    Whole(Bytes),
    /// A body that is sent as it comes, once.
    Streamed(BoxBody<Bytes, RelayBodyError>),
}

/// WeChat's answer to a call. The token is not in it.
pub struct RelayAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers that are passed on.
    pub headers: HeaderMap,
    /// The errcode; 0 if the answer has none, or is no JSON or a long one.
    pub errcode: i64,
    /// The body, piece by piece.
    pub body: RelayPieces,
}

impl RelayAnswer {
    /// Whether WeChat refused the token.
    pub const fn says_stale_token(&self) -> bool {
        error::says_stale_token(self.errcode)
    }
}

impl fmt::Debug for RelayAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayAnswer")
            .field("status", &self.status)
            .field("errcode", &self.errcode)
            .finish_non_exhaustive()
    }
}

/// The label of an errcode in metrics: the number if it is in the table of known ones.
pub fn errcode_label(errcode: i64) -> Cow<'static, str> {
    match errcode {
        0 => "0".into(),
        errcode => error::label(errcode, &error::from_errcode(errcode, "")),
    }
}

/// The label of a failed call in metrics.
pub fn failure_label(failure: &WeChatError) -> Cow<'static, str> {
    error::label(0, failure)
}

impl WeChat {
    /// Makes a call with this token. A redirect is not followed. If no connection could be made,
    /// and the body is whole, the next host is tried.
    ///
    /// # Errors
    /// [`WeChatError::TooManyInFlight`] and [`WeChatError::Unreachable`]: nothing was sent.
    /// [`WeChatError::TimedOut`], [`WeChatError::ConnectionLost`] and
    /// [`WeChatError::UnexpectedReply`]: the call may have been made.
    pub async fn relay(
        &self,
        app: &App,
        request: &RelayRequest<'_>,
        body: RelayBody,
        token: &str,
    ) -> Result<RelayAnswer, WeChatError> {
        let place = timeout(PLACE_TIMEOUT, Arc::clone(&self.relays).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(WeChatError::TooManyInFlight)?;
        let started = self.clock.instant();
        let result = match body {
            RelayBody::Whole(bytes) => self.relay_whole(request, bytes, token).await,
            RelayBody::Streamed(body) => match self.hosts.first() {
                Some(host) => {
                    let body = reqwest::Body::wrap(body);
                    self.relay_to(host, request, Some(body), UPLOAD_TIMEOUT, token).await
                }
                None => Err(WeChatError::Unreachable),
            },
        };
        let elapsed = self.clock.instant().saturating_duration_since(started);
        self.request_duration.with_label_values(&[&*app.name, API]).observe(elapsed.as_secs_f64());
        if let Err(failure) = &result {
            let (app, path) = (&*app.name, request.path.as_str());
            warn!(app.name = app, wechat.path = path, "a call of {path} for app {app} failed: {failure}");
        }
        // It is free when the body has ended, or is dropped.
        result.map(|answer| RelayAnswer { body: with_place(answer.body, place), ..answer })
    }

    async fn relay_whole(
        &self,
        request: &RelayRequest<'_>,
        bytes: Bytes,
        token: &str,
    ) -> Result<RelayAnswer, WeChatError> {
        let mut last = WeChatError::Unreachable;
        for host in &self.hosts {
            // A GET without a body has no Content-Length either.
            let is_sent = !bytes.is_empty() || *request.method == Method::POST;
            let body = is_sent.then(|| reqwest::Body::from(bytes.clone()));
            match self.relay_to(host, request, body, ANSWER_TIMEOUT, token).await {
                Err(error @ WeChatError::Unreachable) => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }

    async fn relay_to(
        &self,
        host: &Url,
        request: &RelayRequest<'_>,
        body: Option<reqwest::Body>,
        wait: Duration,
        token: &str,
    ) -> Result<RelayAnswer, WeChatError> {
        let url = url(host, request, token);
        let is_streamed = body.as_ref().is_some_and(|body| body.as_bytes().is_none());
        let mut call = self.client.request(request.method.clone(), url);
        call = call.headers(sent_headers(request.headers, is_streamed));
        if let Some(body) = body {
            call = call.body(body);
        }
        let answered = timeout(wait, call.send()).await.map_err(|_| WeChatError::TimedOut)?;
        let response = answered.map_err(|error| error::from_transport(&error))?;
        let (parts, body) = http::Response::from(response).into_parts();
        let fault = |fault| Err(WeChatError::UnexpectedReply(fault));
        // Where it leads may have the token in it.
        if parts.status.is_redirection() || parts.status.is_informational() {
            return fault(ReplyFault::Status(parts.status.as_u16()));
        }
        // It was not asked for, and the token could be in it unseen.
        let is_encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if parts.headers.get_all(CONTENT_ENCODING).iter().any(is_encoded) {
            return fault(ReplyFault::Encoded);
        }
        answer(parts.status, &parts.headers, body, token).await
    }
}

/// The URL of a call. The token has only characters that a query takes as they are.
fn url(host: &Url, request: &RelayRequest<'_>, token: &str) -> Url {
    let mut url = host.clone();
    url.set_path(request.path.as_str());
    let mut query = format!("access_token={token}");
    if !request.query.is_empty() {
        query.push('&');
        query.push_str(request.query);
    }
    url.set_query(Some(&query));
    url
}

fn sent_headers(headers: &HeaderMap, is_streamed: bool) -> HeaderMap {
    let is_sent = |name: &HeaderName| {
        SENT.contains(name)
            || name.as_str().starts_with(SENT_PREFIX)
            // The length of a whole body is known.
            || (is_streamed && *name == CONTENT_LENGTH)
    };
    headers
        .iter()
        .filter(|(name, _)| is_sent(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Reads as much of the answer as its errcode needs.
async fn answer(
    status: StatusCode,
    headers: &HeaderMap,
    mut body: reqwest::Body,
    token: &str,
) -> Result<RelayAnswer, WeChatError> {
    let (start, is_whole) = read_start(&mut body).await?;
    let errcode = if is_whole { api::errcode_of(&start) } else { 0 };
    let shows_token =
        |value: &http::HeaderValue| memchr::memmem::find(value.as_bytes(), token.as_bytes()).is_some();
    let is_returned = |name: &HeaderName, value: &http::HeaderValue| {
        (RETURNED.contains(name) || name.as_str().starts_with(RETURNED_PREFIX)) && !shows_token(value)
    };
    let headers = headers
        .iter()
        .filter(|(name, value)| is_returned(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Ok(RelayAnswer { status, headers, errcode, body: masked(start, (!is_whole).then_some(body), token) })
}

/// Reads the start of an answer: all of it if it is a short JSON object. The second value is
/// whether that is all.
async fn read_start(body: &mut reqwest::Body) -> Result<(Bytes, bool), WeChatError> {
    let mut start = BytesMut::new();
    loop {
        match next_piece(body).await? {
            None => return Ok((start.freeze(), true)),
            Some(piece) => start.extend_from_slice(&piece),
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        let is_json = first.is_none_or(|byte| *byte == b'{');
        if !is_json || start.len() > MOST_READ_OF_JSON {
            return Ok((start.freeze(), false));
        }
    }
}

/// The next piece of a body; `None` at its end.
async fn next_piece(body: &mut reqwest::Body) -> Result<Option<Bytes>, WeChatError> {
    loop {
        let frame = timeout(PIECE_TIMEOUT, body.frame()).await.map_err(|_| WeChatError::TimedOut)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(WeChatError::ConnectionLost),
            // Trailers are not passed on.
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

/// The body that a program gets: what was read already, and what still comes, without the token.
fn masked(start: Bytes, rest: Option<reqwest::Body>, token: &str) -> RelayPieces {
    let mask = TokenMask::new(token);
    let pieces = stream::try_unfold(Some((Some(start), rest, mask)), async |state| {
        let Some((start, mut rest, mut mask)) = state else { return Ok(None) };
        let piece = match (start, &mut rest) {
            (Some(start), _) => Some(start),
            (None, Some(body)) => next_piece(body).await.map_err(RelayBodyError::from)?,
            (None, None) => None,
        };
        Ok(Some(match piece {
            Some(piece) => (mask.pass(piece), Some((None, rest, mask))),
            None => (mask.finish(), None),
        }))
    });
    pieces.boxed()
}

/// The same body, which keeps the place of its call as long as it lasts.
fn with_place(body: RelayPieces, place: OwnedSemaphorePermit) -> RelayPieces {
    body.map(move |piece| {
        let _kept = &place;
        piece
    })
    .boxed()
}
