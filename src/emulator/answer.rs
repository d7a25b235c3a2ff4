//! WeChat's answers: JSON with its members in WeChat's order, always with HTTP 200.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::errcode::WeChatRefusal;
use super::transfer::Transfer;

/// Members of a JSON object, in order.
pub(super) type Members = Vec<(String, Value)>;

/// Makes members from names and values.
pub(super) fn members<const N: usize>(list: [(&str, Value); N]) -> Members {
    list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The two families of endpoints, which differ in their headers and texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// `/sns/*`: calls itself plain text.
    Sns,
    /// `/cgi-bin/*` and `/wxa/*`: calls itself JSON, with a parameter of its own.
    Api,
}

impl Surface {
    /// Which family a path belongs to.
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/sns/") { Self::Sns } else { Self::Api }
    }
}

/// One answer, before any fault changes it.
#[derive(Clone, Debug)]
pub(super) struct WeChatAnswer {
    pub(super) surface: Surface,
    pub(super) members: Members,
}

impl WeChatAnswer {
    /// Builds the answer to a decision; `rid` is the request id that ends every error.
    pub(super) fn new(surface: Surface, decision: Result<Members, WeChatRefusal>, rid: &str) -> Self {
        let members = decision.unwrap_or_else(|WeChatRefusal { errcode, errmsg }| {
            let comma = if surface == Surface::Sns { "," } else { "" };
            let errmsg = format!("{errmsg}{comma} rid: {rid}");
            members([("errcode", errcode.into()), ("errmsg", errmsg.into())])
        });
        Self { surface, members }
    }

    /// The errcode; 0 if the answer has none, as in a success of `/sns/*`.
    pub(super) fn errcode(&self) -> i64 {
        self.member("errcode").and_then(Value::as_i64).unwrap_or(0)
    }

    /// Sets a member: in its place if it exists, otherwise at the end.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        match self.members.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.members.push((name.to_owned(), value)),
        }
    }

    /// The answer as an HTTP reply.
    pub(super) fn into_reply(self) -> Reply {
        let content_type = match self.surface {
            Surface::Sns => "text/plain",
            Surface::Api => "application/json; encoding=utf-8",
        };
        Reply::new(StatusCode::OK, content_type, serde_json::to_vec(&self).unwrap_or_default())
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl Serialize for WeChatAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.members.iter().map(|(name, value)| (name, value)))
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum CallOutcome {
    /// An HTTP reply.
    Reply(Reply),
    /// The connection is closed without one.
    Closed,
    /// The connection is reset.
    Reset,
}

/// An HTTP reply and how its body travels.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    /// Headers of pages; WeChat's other answers have only their type.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    pub(super) gzip: bool,
    pub(super) transfer: Transfer,
}

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body: body.into(),
            gzip: false,
            transfer: Transfer::default(),
        }
    }

    /// The same reply with one more header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same reply, which no cache may store.
    #[must_use]
    pub(super) fn uncached(self) -> Self {
        self.with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// An HTML page, as proxies on the way send it.
    pub(super) fn page(status: StatusCode, title: &str) -> Self {
        let body = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
        );
        Self::new(status, "text/html", body)
    }

    /// A reply of the control endpoints.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        Self::new(status, "application/json", body)
    }
}
