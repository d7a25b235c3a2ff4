//! Reads which sessions or which person a request names. The scope is never wider than what is
//! written.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::answer::ManagementAnswer;
use crate::clock::Timestamp;
use crate::identity::{
    AppId, ClaimName, ClaimValue, InvalidIdentifier, OpenId, SessionId, Subject, UnionId, User, UserId,
};
use crate::session::SessionScope;

/// A scope, as the request names it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ScopeRequest {
    session: Option<String>,
    app: Option<String>,
    appid: Option<String>,
    openid: Option<String>,
    unionid: Option<String>,
    user: Option<String>,
    all: bool,
    opened_before: Option<String>,
}

/// A person and the user to bind them to, as the request names them.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BindingRequest {
    app: Option<String>,
    appid: Option<String>,
    openid: Option<String>,
    unionid: Option<String>,
    user: Option<String>,
    claims: Option<ClaimPairs>,
}

/// The pairs of a JSON object of texts. A key that is written twice is here twice.
#[derive(Debug, Default, PartialEq, Eq)]
struct ClaimPairs(Vec<(String, String)>);

/// Why a request names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScopeError {
    #[error("`{0}` is not known here")]
    Unknown(String),
    #[error("`{0}` occurs twice")]
    Twice(&'static str),
    #[error("`{0}` and `{1}` contradict each other")]
    Contradiction(&'static str, &'static str),
    #[error("{0}")]
    Missing(&'static str),
    #[error("`{0}`: {1}")]
    Invalid(&'static str, Cow<'static, str>),
    #[error("not an object of these fields: {0}")]
    NotAnObject(String),
}

impl ScopeError {
    pub(super) fn answer(&self) -> ManagementAnswer {
        ManagementAnswer::problem(StatusCode::BAD_REQUEST, "request_malformed", Some(&self.to_string()))
    }
}

impl ScopeRequest {
    /// Parses a query string that names a person.
    pub(super) fn parse_query(query: &str) -> Result<Self, ScopeError> {
        let mut request = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let (slot, name) = match &*key {
                "app" => (&mut request.app, "app"),
                "appid" => (&mut request.appid, "appid"),
                "openid" => (&mut request.openid, "openid"),
                "unionid" => (&mut request.unionid, "unionid"),
                "user" => (&mut request.user, "user"),
                _ => return Err(ScopeError::Unknown(key.into_owned())),
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(ScopeError::Twice(name));
            }
        }
        Ok(request)
    }

    /// Parses a JSON object that names a scope.
    pub(super) fn parse_json(body: &[u8]) -> Result<Self, ScopeError> {
        read_object(body)
    }

    /// The scope that is named; `appid_of` looks up the name of an app.
    pub(super) fn scope<'a>(
        &self,
        appid_of: impl Fn(&str) -> Option<&'a AppId>,
        now: Timestamp,
    ) -> Result<SessionScope, ScopeError> {
        self.check_one_way()?;
        if let Some(session) = &self.session {
            return SessionId::parse(session).map(SessionScope::Session).map_err(invalid("session"));
        }
        if let Some(unionid) = &self.unionid {
            return UnionId::parse(unionid).map(SessionScope::UnionId).map_err(invalid("unionid"));
        }
        if let Some(user) = &self.user {
            return UserId::parse(user)
                .map(SessionScope::User)
                .map_err(|error| ScopeError::Invalid("user", error.to_string().into()));
        }
        if let Some(instant) = &self.opened_before {
            return opened_before(instant, now);
        }
        let appid = match (&self.app, &self.appid) {
            (Some(app), _) => appid_of(app)
                .cloned()
                .ok_or(ScopeError::Invalid("app", "no app of this name is configured".into()))?,
            (None, Some(appid)) => AppId::parse(appid).map_err(invalid("appid"))?,
            (None, None) => return Err(ScopeError::Missing("no person or scope is named")),
        };
        match (&self.openid, self.all) {
            (Some(openid), _) => {
                let openid = OpenId::parse(openid).map_err(invalid("openid"))?;
                Ok(SessionScope::Subject(Subject { appid, openid }))
            }
            (None, true) => Ok(SessionScope::App(appid)),
            // A request without `openid` must not mean all users of the app.
            (None, false) => Err(ScopeError::Missing("`openid` is missing")),
        }
    }

    fn check_one_way(&self) -> Result<(), ScopeError> {
        let ways = [
            ("session", self.session.is_some()),
            ("app", self.app.is_some()),
            ("appid", self.appid.is_some()),
            ("unionid", self.unionid.is_some()),
            ("user", self.user.is_some()),
            ("opened_before", self.opened_before.is_some()),
        ];
        let mut named = ways.into_iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name);
        let first = named.next().ok_or(ScopeError::Missing("no person or scope is named"))?;
        if let Some(second) = named.next() {
            return Err(ScopeError::Contradiction(first, second));
        }
        let is_app = self.app.is_some() || self.appid.is_some();
        match (&self.openid, self.all) {
            (Some(_), true) => Err(ScopeError::Contradiction("openid", "all")),
            (Some(_), false) if !is_app => Err(ScopeError::Contradiction(first, "openid")),
            (None, true) if !is_app => Err(ScopeError::Contradiction(first, "all")),
            _ => Ok(()),
        }
    }
}

impl BindingRequest {
    /// Parses a JSON object.
    pub(super) fn parse_json(body: &[u8]) -> Result<Self, ScopeError> {
        read_object(body)
    }

    /// The person to bind.
    pub(super) fn scope_request(&self) -> ScopeRequest {
        ScopeRequest {
            app: self.app.clone(),
            appid: self.appid.clone(),
            openid: self.openid.clone(),
            unionid: self.unionid.clone(),
            ..ScopeRequest::default()
        }
    }

    /// The user with its claims. They replace all claims of before.
    pub(super) fn user(&self) -> Result<User, ScopeError> {
        let claims_are = |error: String| ScopeError::Invalid("claims", error.into());
        let id = self.user.as_deref().ok_or(ScopeError::Missing("`user` is missing"))?;
        let id = UserId::parse(id).map_err(|error| ScopeError::Invalid("user", error.to_string().into()))?;
        let mut claims = Vec::new();
        for (name, value) in self.claims.iter().flat_map(|ClaimPairs(pairs)| pairs) {
            let name = ClaimName::parse(name).map_err(|error| claims_are(error.to_string()))?;
            let value = ClaimValue::parse(value).map_err(|error| claims_are(error.to_string()))?;
            claims.push((name, value));
        }
        User::new(id, claims).map_err(|error| claims_are(error.to_string()))
    }
}

impl<'de> Deserialize<'de> for ClaimPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimPairsVisitor)
    }
}

struct ClaimPairsVisitor;

impl<'de> Visitor<'de> for ClaimPairsVisitor {
    type Value = ClaimPairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClaimPairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(ClaimPairs(pairs))
    }
}

fn read_object<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ScopeError> {
    // Serde also reads an array of the fields' values as the struct.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ScopeError::NotAnObject("not an object".into()));
    }
    serde_json::from_slice(body).map_err(|error| ScopeError::NotAnObject(error.to_string()))
}

fn invalid(name: &'static str) -> impl Fn(InvalidIdentifier) -> ScopeError {
    move |error| ScopeError::Invalid(name, error.to_string().into())
}

fn opened_before(instant: &str, now: Timestamp) -> Result<SessionScope, ScopeError> {
    let instant: Timestamp =
        instant.parse().map_err(|error| ScopeError::Invalid("opened_before", format!("{error}").into()))?;
    if instant > now {
        // A future instant would end sessions that are opened after this answer.
        return Err(ScopeError::Invalid("opened_before", "lies in the future".into()));
    }
    Ok(SessionScope::OpenedBefore(instant))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_255_200);

    fn scope(request: Result<ScopeRequest, ScopeError>) -> Result<SessionScope, String> {
        let shop = AppId::parse("wx1").unwrap();
        let scope = request.and_then(|request| request.scope(|name| (name == "shop").then_some(&shop), NOW));
        scope.map_err(|error| error.to_string())
    }

    fn subject() -> SessionScope {
        let (appid, openid) = (AppId::parse("wx1").unwrap(), OpenId::parse("o1").unwrap());
        SessionScope::Subject(Subject { appid, openid })
    }

    #[test]
    fn query_names_a_person_in_exactly_one_way() {
        for (query, expected) in [
            ("app=shop&openid=o1", Ok(subject())),
            ("openid=o1&appid=wx1", Ok(subject())),
            ("app=sh%6fp&openid=o1", Ok(subject())),
            ("unionid=u1", Ok(SessionScope::UnionId(UnionId::parse("u1").unwrap()))),
            ("", Err("no person or scope is named")),
            ("app=shop", Err("`openid` is missing")),
            ("openid=o1", Err("no person or scope is named")),
            ("app=shop&appid=wx1&openid=o1", Err("`app` and `appid` contradict each other")),
            ("app=shop&openid=o1&unionid=u1", Err("`app` and `unionid` contradict each other")),
            ("unionid=u1&openid=o1", Err("`unionid` and `openid` contradict each other")),
            ("app=shop&openid=o1&openid=o2", Err("`openid` occurs twice")),
            ("app=shop&openid=o1&limit=1", Err("`limit` is not known here")),
            ("session=s1", Err("`session` is not known here")),
            ("app=shop&all=true", Err("`all` is not known here")),
            ("app=other&openid=o1", Err("`app`: no app of this name is configured")),
            ("app=&openid=o1", Err("`app`: no app of this name is configured")),
        ] {
            assert_eq!(scope(ScopeRequest::parse_query(query)), expected.map_err(str::to_owned), "{query}");
        }
    }

    #[test]
    fn invalid_identifier_in_a_query_is_refused_with_its_key() {
        for (query, name) in [
            ("app=shop&openid=", "openid"),
            ("app=shop&openid=a%0Ab", "openid"),
            ("app=shop&openid=%FF", "openid"),
            ("app=shop&openid=a+b", "openid"),
            ("appid=&openid=o1", "appid"),
            ("unionid=*", "unionid"),
        ] {
            let error = scope(ScopeRequest::parse_query(query)).unwrap_err();

            assert!(error.starts_with(&format!("`{name}`: not an identifier")), "{query}: {error}");
        }
    }

    #[test]
    fn object_names_what_is_revoked_in_exactly_one_way() {
        let at = |millis| SessionScope::OpenedBefore(Timestamp::from_millis(millis));
        for (json, expected) in [
            (r#"{"session":"s1"}"#, Ok(SessionScope::Session(SessionId::parse("s1").unwrap()))),
            (r#" {"app":"shop","openid":"o1"} "#, Ok(subject())),
            (r#"{"appid":"wx1","openid":"o1"}"#, Ok(subject())),
            (r#"{"unionid":"u1"}"#, Ok(SessionScope::UnionId(UnionId::parse("u1").unwrap()))),
            (r#"{"app":"shop","all":true}"#, Ok(SessionScope::App(AppId::parse("wx1").unwrap()))),
            (r#"{"opened_before":"2026-11-21T10:00:00Z"}"#, Ok(at(NOW.millis()))),
            (r#"{"opened_before":"2026-11-21T17:59:59+08:00"}"#, Ok(at(NOW.millis() - 1000))),
            (r#"{"opened_before":"2026-11-21T10:00:00.001Z"}"#, Err("`opened_before`: lies in the future")),
            ("{}", Err("no person or scope is named")),
            (r#"{"all":true}"#, Err("no person or scope is named")),
            (r#"{"all":true,"openid":"o1"}"#, Err("no person or scope is named")),
            (r#"{"app":"shop"}"#, Err("`openid` is missing")),
            (r#"{"app":"shop","all":false}"#, Err("`openid` is missing")),
            (r#"{"app":"shop","openid":null}"#, Err("`openid` is missing")),
            (r#"{"app":"shop","openid":"o1","all":true}"#, Err("`openid` and `all` contradict each other")),
            (r#"{"session":"s1","app":"shop"}"#, Err("`session` and `app` contradict each other")),
            (r#"{"session":"s1","unionid":"u1"}"#, Err("`session` and `unionid` contradict each other")),
            (r#"{"session":"s1","openid":"o1"}"#, Err("`session` and `openid` contradict each other")),
            (r#"{"unionid":"u1","all":true}"#, Err("`unionid` and `all` contradict each other")),
            (r#"{"app":"other","all":true}"#, Err("`app`: no app of this name is configured")),
        ] {
            let result = scope(ScopeRequest::parse_json(json.as_bytes()));

            assert_eq!(result, expected.map_err(str::to_owned), "{json}");
        }
    }

    #[test]
    fn binding_names_one_person_one_user_and_each_claim_once() {
        let read = |json: &str| {
            let asked = BindingRequest::parse_json(json.as_bytes()).map_err(|error| error.to_string())?;
            let user = asked.user().map_err(|error| error.to_string())?;
            let claims = user.claims().map(|(name, value)| format!("{}={}", name.as_str(), value.as_str()));
            let claims: Vec<String> = claims.collect();
            Ok((scope(Ok(asked.scope_request()))?, user.id().as_str().to_owned(), claims.join(" ")))
        };
        let good = |claims: &str| Ok((subject(), "42".to_owned(), claims.to_owned()));
        let no = |text: &str| Err(text.to_owned());
        for (json, expected) in [
            (r#"{"app":"shop","openid":"o1","user":"42"}"#, good("")),
            (r#"{"appid":"wx1","openid":"o1","user":"42","claims":null}"#, good("")),
            (r#"{"user":"42","claims":{"role":"b","a":"c"},"app":"shop","openid":"o1"}"#, good("a=c role=b")),
            (r#"{"app":"shop","openid":"o1"}"#, no("`user` is missing")),
            (r#"{"app":"shop","openid":"o1","user":null}"#, no("`user` is missing")),
            (r#"{"user":"42"}"#, no("no person or scope is named")),
            (r#"{"app":"shop","user":"42"}"#, no("`openid` is missing")),
            (
                r#"{"app":"shop","openid":"o1","unionid":"u1","user":"42"}"#,
                no("`app` and `unionid` contradict each other"),
            ),
            (
                r#"{"unionid":"u1","user":"42","claims":{"a":"b","a":"b"}}"#,
                no("`claims`: a claim occurs twice"),
            ),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
        for (json, beginning) in [
            (r#"{"unionid":"u1","user":""}"#, "`user`: not a user id"),
            (r#"{"unionid":"u1","user":"a\nb"}"#, "`user`: not a user id"),
            (r#"{"unionid":"u1","user":"42","claims":{"Role":"a"}}"#, "`claims`: not a claim's name"),
            (r#"{"unionid":"u1","user":"42","claims":{"role":""}}"#, "`claims`: not a claim's value"),
            (r#"{"unionid":"u1","user":42}"#, "not an object of these fields: "),
            (r#"{"unionid":"u1","user":"42","claims":[["a","b"]]}"#, "not an object of these fields: "),
            (r#"{"unionid":"u1","user":"42","claims":{"a":1}}"#, "not an object of these fields: "),
            (r#"{"unionid":"u1","user":"42","user":"43"}"#, "not an object of these fields: "),
            (r#"{"unionid":"u1","user":"42","all":true}"#, "not an object of these fields: "),
            (r#"{"session":"s1","user":"42"}"#, "not an object of these fields: "),
            (r#"[null,null,null,"u1","42",null]"#, "not an object of these fields: "),
        ] {
            let error = read(json).unwrap_err();

            assert!(error.starts_with(beginning), "{json}: {error}");
        }
    }

    #[test]
    fn body_that_is_not_an_object_of_these_fields_is_refused() {
        for json in [
            "",
            "null",
            "[]",
            r#"["s1"]"#,
            r#"["s1",null,null,null,null,false,null]"#,
            r#""s1""#,
            r#"{"session":1}"#,
            r#"{"app":"shop","all":"true"}"#,
            r#"{"app":"shop","all":1}"#,
            r#"{"session":"s1","session":"s2"}"#,
            r#"{"session":"s1"}{}"#,
            r#"{"session":"s1","dry_run":true}"#,
            r#"{"Session":"s1"}"#,
            "session=s1",
        ] {
            let error = scope(ScopeRequest::parse_json(json.as_bytes())).unwrap_err();

            assert!(error.starts_with("not an object of these fields: "), "{json}: {error}");
        }
    }
}
