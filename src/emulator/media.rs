//! Temporary media of an app, and the check of a text: endpoints of the API that take and give
//! other things than JSON, and one that every program calls.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use memchr::memmem;
use serde::Deserialize;
use serde_json::json;

use crate::clock::Timestamp;
use crate::entropy::{self, Entropy};

use super::Emulator;
use super::answer::{Reply, members};
use super::endpoint::{Decision, posted_json};
use super::errcode;
use super::request::Request;
use super::state::EmulatorState;

/// The word that the check of a text finds risky.
const RISKY: &str = "risky";

impl EmulatorState {
    /// `POST /wxa/msg_sec_check`: a text with the word `risky` is risky.
    pub(super) fn message_check(&self, request: &Request, now: Timestamp) -> Decision {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            content: String,
        }
        self.token_app(request, now)?;
        let body: Body = posted_json(request)?;
        let (suggest, label) = if body.content.contains(RISKY) { ("risky", 20001) } else { ("pass", 100) };
        let result = json!({ "suggest": suggest, "label": label });
        Ok(members([("errcode", 0.into()), ("errmsg", "ok".into()), ("result", result)]))
    }

    /// `POST /cgi-bin/media/upload`: the one part of a multipart body.
    pub(super) fn media_upload(
        &mut self,
        request: &Request,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Decision {
        let appid = self.token_app(request, now)?;
        if request.method != Method::POST {
            return Err(errcode::REQUIRE_POST);
        }
        let bytes = only_part(request).ok_or(errcode::MEDIA_MISSING)?;
        let id = entropy::bytes::<48>(entropy).map_err(|_| errcode::SYSTEM_ERROR)?;
        let id = URL_SAFE_NO_PAD.encode(id);
        self.media.keep(id.clone(), appid, bytes);
        let kind = request.parameter("type").unwrap_or("image");
        Ok(members([("type", kind.into()), ("media_id", id.into()), ("created_at", now.seconds().into())]))
    }

    /// `GET /cgi-bin/media/get` that gives no file.
    pub(super) fn media_get(&self, request: &Request, now: Timestamp) -> Decision {
        self.token_app(request, now)?;
        Err(errcode::INVALID_MEDIA_ID)
    }
}

impl Emulator {
    /// The file of `GET /cgi-bin/media/get`, if the token and the id are good.
    pub(super) fn media_file(&self, request: &Request, call: u64) -> Option<Reply> {
        if request.path != "/cgi-bin/media/get" {
            return None;
        }
        let now = self.now();
        let mut state = self.state.lock();
        let appid = state.token_app(request, now).ok()?;
        let id = request.parameter("media_id")?;
        let bytes = state.media.find(id, &appid)?;
        state.calls.decide(call, 0);
        let name = HeaderValue::from_static("attachment; filename=\"media.jpg\"");
        Some(Reply::new(StatusCode::OK, "image/jpeg", bytes).with(CONTENT_DISPOSITION, name))
    }
}

/// The content of the first part of a multipart body. See RFC 2046 §5.1.1.
fn only_part(request: &Request) -> Option<Bytes> {
    let media_type = request.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (_, boundary) = media_type.strip_prefix("multipart/form-data")?.split_once("boundary=")?;
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let body = &request.body;
    let head = memmem::find(body, delimiter.as_bytes())?;
    let start = head + memmem::find(body.get(head..)?, b"\r\n\r\n")? + 4;
    let end = start + memmem::find(body.get(start..)?, format!("\r\n{delimiter}").as_bytes())?;
    Some(body.slice(start..end))
}
