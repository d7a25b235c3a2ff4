//! Names in messages: what is written, and what can be written instead.

use std::fmt::Write as _;

use serde_json::Value as Schema;

use super::finding::escape;
use super::format;
use super::schema::{allows, alternatives, description, free_values, is_secret, properties, words};
use super::tree::Scalar;

/// The range of a whole number.
pub(super) fn bounds(schema: &Schema) -> (i128, i128) {
    let bound = |key| schema.get(key).and_then(Schema::as_i64).map(i128::from);
    let most = match schema.get("format").and_then(Schema::as_str) {
        Some("uint8") => i128::from(u8::MAX),
        Some("uint16") => i128::from(u16::MAX),
        Some("uint32") => i128::from(u32::MAX),
        _ => i128::from(u64::MAX),
    };
    (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(most).min(most))
}

/// A whole number with its range, in words.
pub(super) fn whole_number(schema: &Schema) -> String {
    match bounds(schema) {
        (least, most) if most >= i128::from(u32::MAX) => format!("a whole number from {least}"),
        (least, most) => format!("a whole number from {least} to {most}"),
    }
}

/// What can be written, in words: `text`, `a list`, `{ env: … } or { file: … } or text`.
pub(super) fn expected(alternatives: &[&'static Schema]) -> String {
    let mut nouns: Vec<String> = Vec::new();
    for schema in alternatives {
        let named = schema.get("format").and_then(Schema::as_str).and_then(format::noun);
        let noun = match named {
            Some(noun) => noun.to_owned(),
            None if !words(schema).is_empty() => one_of(schema),
            None if allows(schema, "array") => "a list".to_owned(),
            None if allows(schema, "object") && alternatives.len() > 1 => shape(schema),
            None if allows(schema, "object") => "a map".to_owned(),
            None if allows(schema, "integer") => whole_number(schema),
            None if allows(schema, "boolean") => "`true` or `false`".to_owned(),
            None if allows(schema, "string") => "text".to_owned(),
            None => continue,
        };
        nouns.push(noun);
    }
    nouns.join(" or ")
}

/// The keys to write, if one kind of map is expected.
pub(super) fn keys_of(alternatives: &[&'static Schema]) -> Option<String> {
    let mut kinds = alternatives.iter().filter(|schema| !allows(schema, "null"));
    let map = kinds.next().filter(|_| kinds.next().is_none())?;
    let keys: Vec<&str> = properties(map).map(|(key, _)| key).collect();
    match keys.as_slice() {
        [] if free_values(map).is_some() => Some("a name with its keys below it".to_owned()),
        [] => None,
        keys => Some(format!("its keys below it: {}", keys.join(", "))),
    }
}

/// A map with its keys, in short.
pub(super) fn shape(schema: &'static Schema) -> String {
    let keys: Vec<String> = properties(schema).map(|(key, _)| format!("{key}: …")).collect();
    format!("`{{ {} }}`", keys.join(", "))
}

fn one_of(schema: &'static Schema) -> String {
    words(schema).iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
}

/// The meaning of a missing key, and what can be written.
pub(super) fn meaning(property: &'static Schema) -> String {
    let sentence = description(property).split(". ").next().unwrap_or_default().trim_end_matches('.');
    let mut letters = sentence.chars();
    let is_acronym = sentence.chars().nth(1).is_some_and(char::is_uppercase);
    let mut meaning: String = match letters.next() {
        Some(first) if !is_acronym => first.to_lowercase().chain(letters).collect(),
        _ => sentence.to_owned(),
    };
    let alternatives = alternatives(property);
    let is_secret_or_word =
        is_secret(property) || alternatives.iter().any(|schema| !words(schema).is_empty());
    if is_secret_or_word {
        let _ = write!(meaning, ": {}", expected(&alternatives));
    }
    meaning
}

/// A scalar, about as it is written.
pub(super) fn quote(scalar: &Scalar) -> String {
    let shown = escape(&scalar.text);
    if scalar.is_plain { format!("`{shown}`") } else { format!("`\"{shown}\"`") }
}
