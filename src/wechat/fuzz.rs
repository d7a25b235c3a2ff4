//! Drives the reading of WeChat's replies.

use serde_json::Value;

use super::api::{self, ApiReply};
pub(crate) use super::page::fuzz::page_reply;

pub(crate) fn reply(data: &[u8]) {
    let Some(exchange) = read(data, api::unsent_code_exchange().reply(data)) else { return };
    let Some(said) = said(data) else { return };
    assert!(says(&said, "openid") == Some(exchange.openid.as_str()), "{said} names {:?}", exchange.openid);
    check_unionid(&said, exchange.unionid.as_ref().map(|unionid| unionid.as_str()));
    let key = says(&said, "session_key").unwrap_or_default();
    assert!(key.len() == 24 && key.ends_with("=="), "{said} has no session_key");
}

/// The content of a successful reply; `None` if the reply is an error, with an errcode other than
/// 0.
pub(super) fn read<T>(data: &[u8], reply: ApiReply<T>) -> Option<T> {
    if let Some(rid) = &reply.rid {
        let is_rid = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        assert!(rid.len() == 26 && rid.bytes().all(is_rid), "{rid:?} would be logged");
    }
    let believed = reply.result.ok()?;
    let Some(said) = said(data) else { return Some(believed) };
    let is_success = match said.get("errcode") {
        None => true,
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(Value::String(text)) => text.parse() == Ok(0_i64),
        Some(_) => false,
    };
    assert!(said.is_object() && is_success && reply.errcode == 0, "{said} is believed");
    Some(believed)
}

/// The reply as another JSON reader parses it. Returns `None` if the text is JSON but has a member
/// that this reader cannot hold: a number out of range, or half of a surrogate pair. Our reader
/// skips such a member if it does not need it.
pub(super) fn said(data: &[u8]) -> Option<Value> {
    let read = serde_json::from_slice(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data));
    let is_unkeepable = |error: &serde_json::Error| {
        let why = error.to_string();
        ["surrogate", "end of hex escape", "number out of range"].iter().any(|word| why.contains(word))
    };
    match read {
        Err(error) if is_unkeepable(&error) => None,
        read => Some(read.unwrap_or_default()),
    }
}

pub(super) fn says<'v>(said: &'v Value, name: &str) -> Option<&'v str> {
    said.get(name).and_then(Value::as_str)
}

pub(super) fn check_unionid(said: &Value, unionid: Option<&str>) {
    assert!(
        says(said, "unionid").filter(|text| !text.is_empty()) == unionid,
        "{said} has unionid {unionid:?}"
    );
}
