//! JSON with placeholders: the shape of an answer, as an operator writes it.
//!
//! It decides what a template may say and how values are put into it. Which names there are, and
//! what they stand for, the caller decides.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::config::{Findings, Template};

/// JSON with placeholders, ready to be filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonTemplate(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Constant(Value),
    /// A text that is only a placeholder: it becomes the value, with its type.
    Value(&'static str),
    /// A text with placeholders in it.
    Text(Vec<Piece>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Constant(String),
    Value(&'static str),
}

impl JsonTemplate {
    /// Reads a template at the key `at`, whose placeholders may have the names `known`. Reports
    /// every mistake in it; a text with one stays as it is written.
    pub fn build(template: &Template, at: &str, known: &[&'static str], findings: &mut Findings) -> Self {
        Self(build_node(&template.0, at, known, findings))
    }

    /// Whether the template has a placeholder of this name.
    pub fn names(&self, name: &str) -> bool {
        self.0.names(name)
    }

    /// The template with its values, as JSON. `value` says what a name stands for.
    pub fn render(&self, value: &dyn Fn(&str) -> Value) -> Vec<u8> {
        // A document of texts and whole numbers cannot fail to serialise.
        serde_json::to_vec(&self.0.render(value)).unwrap_or_default()
    }
}

/// Checks the status that an operator gives to errors at the key `at`.
pub fn build_error_status(status: Option<u16>, at: &str, findings: &mut Findings) -> Option<StatusCode> {
    let status = status?;
    let parsed = StatusCode::from_u16(status).ok().filter(|_| matches!(status, 200 | 400..=599));
    if parsed.is_none() {
        findings
            .error(at, format!("`{status}` is not the status of an error"))
            .hint("write `200`, or a status from `400` to `599`");
    }
    parsed
}

impl Node {
    fn names(&self, name: &str) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Value(own) => *own == name,
            Self::Text(pieces) => {
                pieces.iter().any(|piece| matches!(piece, Piece::Value(own) if *own == name))
            }
            Self::List(nodes) => nodes.iter().any(|node| node.names(name)),
            Self::Map(entries) => entries.iter().any(|(_, node)| node.names(name)),
        }
    }

    fn render(&self, value: &dyn Fn(&str) -> Value) -> Value {
        match self {
            Self::Constant(constant) => constant.clone(),
            Self::Value(name) => value(name),
            Self::Text(pieces) => Value::String(pieces.iter().map(|piece| piece.render(value)).collect()),
            Self::List(nodes) => nodes.iter().map(|node| node.render(value)).collect(),
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.clone(), node.render(value)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

impl Piece {
    /// A value that is not known is nothing in a text.
    fn render(&self, value: &dyn Fn(&str) -> Value) -> String {
        match self {
            Self::Constant(text) => text.clone(),
            Self::Value(name) => match value(name) {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            },
        }
    }
}

fn build_node(value: &Value, at: &str, known: &[&'static str], findings: &mut Findings) -> Node {
    match value {
        Value::String(text) => match read_text(text, known) {
            Ok(node) => node,
            Err(error) => {
                error.report(at, known, findings);
                Node::Constant(value.clone())
            }
        },
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Node::List(
                items
                    .map(|(index, item)| build_node(item, &format!("{at}[{index}]"), known, findings))
                    .collect(),
            )
        }
        Value::Object(entries) => {
            let entries = entries.iter();
            let build = |(key, item): (&String, &Value)| {
                (key.clone(), build_node(item, &format!("{at}.{key}"), known, findings))
            };
            Node::Map(entries.map(build).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Node::Constant(value.clone()),
    }
}

/// What is wrong with a text.
#[derive(Debug, PartialEq, Eq)]
enum TextError {
    UnknownName(String),
    LoneBrace,
}

impl TextError {
    fn report(&self, at: &str, known: &[&'static str], findings: &mut Findings) {
        match self {
            Self::UnknownName(name) => findings
                .error(at, format!("`{{{}}}` stands for no value here", name.escape_debug()))
                .did_you_mean(name, known.iter().copied()),
            Self::LoneBrace => findings
                .error(at, "a brace has no partner")
                .hint("write `{{` or `}}` for a brace, and `{name}` for a value"),
        };
    }
}

fn read_text(text: &str, known: &[&'static str]) -> Result<Node, TextError> {
    let mut pieces = Vec::new();
    let mut constant = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from_brace) = rest.split_at(at);
        constant.push_str(before);
        if let Some(after) = from_brace.strip_prefix("{{") {
            constant.push('{');
            rest = after;
        } else if let Some(after) = from_brace.strip_prefix("}}") {
            constant.push('}');
            rest = after;
        } else {
            let inside = from_brace.strip_prefix('{').ok_or(TextError::LoneBrace)?;
            let (name, after) = inside.split_once('}').ok_or(TextError::LoneBrace)?;
            let name = known
                .iter()
                .copied()
                .find(|known| *known == name)
                .ok_or_else(|| TextError::UnknownName(name.to_owned()))?;
            if !constant.is_empty() {
                pieces.push(Piece::Constant(std::mem::take(&mut constant)));
            }
            pieces.push(Piece::Value(name));
            rest = after;
        }
    }
    constant.push_str(rest);
    Ok(match pieces.as_slice() {
        [] => Node::Constant(Value::String(constant)),
        [Piece::Value(name)] if constant.is_empty() => Node::Value(name),
        _ => {
            if !constant.is_empty() {
                pieces.push(Piece::Constant(constant));
            }
            Node::Text(pieces)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KNOWN: [&str; 3] = ["token", "seconds", "nothing"];

    fn build(value: Value) -> (JsonTemplate, Vec<String>) {
        let mut findings = Findings::default();
        let template = JsonTemplate::build(&Template(value), "answer", &KNOWN, &mut findings);
        (template, findings.iter().map(ToString::to_string).collect())
    }

    fn render(value: Value) -> Value {
        let (template, findings) = build(value);
        assert_eq!(findings, Vec::<String>::new());
        let values = |name: &str| match name {
            "token" => json!("a\"b{seconds}"),
            "seconds" => json!(7200),
            _ => Value::Null,
        };
        serde_json::from_slice(&template.render(&values)).unwrap()
    }

    #[test]
    fn a_text_that_is_only_a_placeholder_keeps_the_type_of_its_value() {
        for (written, expected) in [
            (json!("{seconds}"), json!(7200)),
            (json!("{token}"), json!("a\"b{seconds}")),
            (json!("{nothing}"), Value::Null),
            (json!(" {seconds}"), json!(" 7200")),
            (json!("{seconds}{seconds}"), json!("72007200")),
            (json!("for {seconds} s: {token}{nothing}"), json!("for 7200 s: a\"b{seconds}")),
            (json!("{{seconds}}"), json!("{seconds}")),
            (json!("{{{seconds}}}"), json!("{7200}")),
            (json!("}}{{"), json!("}{")),
            (json!(""), json!("")),
            (json!(true), json!(true)),
            (json!(-1), json!(-1)),
            (Value::Null, Value::Null),
            (json!([]), json!([])),
            (json!({}), json!({})),
            (
                json!({ "code": 0, "data": { "{token}": ["{seconds}", { "ok": false }] } }),
                json!({ "code": 0, "data": { "{token}": [7200, { "ok": false }] } }),
            ),
        ] {
            assert_eq!(render(written.clone()), expected, "{written}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_its_own_key() {
        let (_, findings) =
            build(json!({ "a": ["{toke}", "{"], "b": "}", "c": { "d": "{}" }, "e": "{token" }));

        assert_eq!(
            findings,
            [
                "answer.a[0]: `{toke}` stands for no value here; did you mean `token`?",
                "answer.a[1]: a brace has no partner; write `{{` or `}}` for a brace, and `{name}` for a value",
                "answer.b: a brace has no partner; write `{{` or `}}` for a brace, and `{name}` for a value",
                "answer.c.d: `{}` stands for no value here; write one of: token, seconds, nothing",
                "answer.e: a brace has no partner; write `{{` or `}}` for a brace, and `{name}` for a value",
            ]
        );
    }

    #[test]
    fn the_names_of_a_template_are_those_of_its_placeholders() {
        let (template, _) = build(json!({ "a": ["x {token}"], "b": "{{seconds}}", "nothing": 1 }));

        assert_eq!(KNOWN.map(|name| template.names(name)), [true, false, false]);
    }

    proptest! {
        #[test]
        fn a_text_whose_braces_are_doubled_is_itself(text in ".*") {
            let doubled = text.replace('{', "{{").replace('}', "}}");

            prop_assert_eq!(render(json!(doubled)), json!(text));
        }

        #[test]
        fn no_text_panics(text in "[{}a-z]{0,12}") {
            build(json!(text));
        }
    }
}
