//! Drives the parsing of the scope that an operator or program names.

use serde_json::Value;

use super::scope_request::{BindingRequest, ScopeRequest};
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::session::SessionScope;

const NOW: Timestamp = Timestamp::from_seconds(1_795_255_200);

pub(crate) fn scope_names(data: &[u8]) {
    let Ok(shop) = AppId::parse("wx1") else { return };
    let appid_of = |name: &str| (name == "shop").then_some(&shop);
    if let Ok(query) = str::from_utf8(data)
        && let Ok(scope) = ScopeRequest::parse_query(query).and_then(|request| request.scope(appid_of, NOW))
    {
        assert!(
            matches!(scope, SessionScope::Subject(_) | SessionScope::UnionId(_) | SessionScope::User(_)),
            "a query names {scope:?}"
        );
    }
    if let Ok(asked) = BindingRequest::parse_json(data)
        && let Ok(user) = asked.user()
    {
        let json: Value = serde_json::from_slice(data).unwrap_or_default();
        let claims = json.get("claims");
        let says =
            |name: &str, value: &str| claims.and_then(|claims| claims.get(name)?.as_str()) == Some(value);
        let id = json.get("user").and_then(Value::as_str);
        assert!(id == Some(user.id().as_str()), "{json} binds to another user");
        assert!(
            user.claims().all(|(name, value)| says(name.as_str(), value.as_str())),
            "{json} claims something else"
        );
        let scope = asked.scope_request().scope(appid_of, NOW);
        assert!(
            matches!(scope, Err(_) | Ok(SessionScope::Subject(_) | SessionScope::UnionId(_))),
            "{json} binds {scope:?}"
        );
    }
    let Ok(scope) = ScopeRequest::parse_json(data).and_then(|request| request.scope(appid_of, NOW)) else {
        return;
    };
    let json: Value = serde_json::from_slice(data).unwrap_or_default();
    let says = |name: &str| json.get(name).and_then(Value::as_str);
    let is_written = match &scope {
        SessionScope::Session(id) => says("session") == Some(id.as_str()),
        SessionScope::UnionId(unionid) => says("unionid") == Some(unionid.as_str()),
        SessionScope::Subject(subject) => says("openid") == Some(subject.openid.as_str()),
        SessionScope::User(user) => says("user") == Some(user.as_str()),
        SessionScope::App(_) => {
            json.get("all") == Some(&Value::Bool(true)) && json.get("openid").is_none_or(Value::is_null)
        }
        SessionScope::OpenedBefore(instant) => *instant <= NOW && says("opened_before").is_some(),
    };
    assert!(is_written, "{json} names {scope:?}");
}
