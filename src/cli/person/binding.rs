//! `menshen person bind`, `unbind` and `bound`.

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{Request, Result};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::CommandOutcome;
use super::block::PersonArgs;
use crate::cli::table::{format_columns, unreadable_answer};

#[derive(Debug, Args)]
pub(in crate::cli) struct BindArgs {
    #[command(flatten)]
    pub(super) person: PersonArgs,
    /// The id of your user
    #[arg(long, value_name = "ID")]
    user: String,
    /// A claim of the user, for `require_claims` of routes; can be repeated. All earlier claims are
    /// removed
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    claims: Vec<(String, String)>,
}

#[derive(Serialize)]
struct BindBody<'a> {
    #[serde(flatten)]
    person: Map<String, Value>,
    user: &'a str,
    #[serde(serialize_with = "as_object")]
    claims: &'a [(String, String)],
}

fn parse_claim(text: &str) -> std::result::Result<(String, String), &'static str> {
    text.split_once('=')
        .map(|(name, value)| (name.into(), value.into()))
        .ok_or("write a name and a value, such as `role=editor`")
}

/// Writes the claims as they were given. The gateway refuses a claim that was given twice.
fn as_object<S: Serializer>(
    claims: &[(String, String)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(claims.iter().map(|(name, value)| (name, value)))
}

impl BindArgs {
    pub(super) fn request(&self) -> Result<Request<Bytes>> {
        let body = BindBody { person: self.person.names(), user: &self.user, claims: &self.claims };
        // A map of texts can always be serialized; the gateway refuses an empty body.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        Request::post("/people/bind").header(CONTENT_TYPE, "application/json").body(body.into())
    }
}

pub(super) fn format_binding(answer: &[u8]) -> CommandOutcome {
    const COLUMNS: &[(&str, &str)] = &[("USER", "user"), ("CLAIMS", "claims"), ("SINCE", "since")];
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let binding = match answer.get("binding") {
        Some(Value::Null) => {
            return CommandOutcome { messages: "not bound".into(), ..CommandOutcome::default() };
        }
        Some(Value::Object(binding)) => binding,
        _ => return unreadable_answer(),
    };
    let said = |(name, value): (&String, &Value)| Some(format!("{name}={}", value.as_str()?));
    let claims = binding.get("claims").and_then(Value::as_object).map(|claims| claims.iter().map(said));
    let Some(claims) = claims.and_then(Iterator::collect::<Option<Vec<String>>>) else {
        return unreadable_answer();
    };
    let claims = Some(claims.join(" ")).filter(|claims| !claims.is_empty());
    let row = json!({ "user": binding.get("user"), "claims": claims, "since": binding.get("since") });
    CommandOutcome::answer(format_columns(COLUMNS, &[row]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FAILED;

    #[test]
    fn binding_is_printed_as_one_line() {
        let answer = r#"{"scope":"subject","binding":{"user":"42","claims":{"level":"3","role":"ed\u001bitor"},"since":"2026-11-21T10:00:00Z"}}"#;

        assert_eq!(
            format_binding(answer.as_bytes()).answer,
            "USER  CLAIMS                SINCE\n42    level=3 role=ed\u{fffd}itor  2026-11-21T10:00:00Z"
        );
        let without = format_binding(br#"{"binding":{"user":"42","claims":{},"since":"x"}}"#);
        assert_eq!(without.answer, "USER  CLAIMS  SINCE\n42    -       x");
        assert_eq!(format_binding(br#"{"binding":null}"#).messages, "not bound");
    }

    #[test]
    fn unreadable_answer_is_a_failure() {
        for answer in
            ["", "{}", "[]", r#"{"binding":1}"#, r#"{"binding":{}}"#, r#"{"binding":{"claims":{"a":1}}}"#]
        {
            assert_eq!(format_binding(answer.as_bytes()).code, FAILED, "{answer}");
        }
    }

    #[test]
    fn claim_that_is_given_twice_is_sent_twice() {
        let person = PersonArgs::for_test("u1");
        let claims = ["role=a", "role=b=\"c"].map(|text| parse_claim(text).unwrap());
        let bind = BindArgs { person, user: "42".into(), claims: claims.into() };

        let body = bind.request().unwrap().into_body();

        let expected = r#"{"unionid":"u1","user":"42","claims":{"role":"a","role":"b=\"c"}}"#;
        assert_eq!(String::from_utf8_lossy(&body), expected);
        assert!(parse_claim("role").is_err());
    }
}
