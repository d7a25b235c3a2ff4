//! Holds a file against the schema and says everything that does not fit, where serde would stop at the first.
//!
//! Knows the part of JSON Schema that our own schema uses, no more. Whether the values make sense together is
//! left to `rules` and to the modules that use them.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value as Schema;

use super::finding::nearest;
use super::report::{Position, Report};
use super::schema::{
    self, alternatives, description, free_values, is_secret, join, properties, required, words,
};
use super::tree::{Entry, Kind, Node, Scalar, Value};
use super::{Finding, format};

/// Reports all of `root` that the schema does not allow.
pub(super) fn check(root: &Node, report: &mut Report) {
    Checker { report }.value(schema::root(), root, "", false);
}

struct Checker<'r> {
    report: &'r mut Report,
}

impl Checker<'_> {
    fn value(&mut self, schema: &'static Schema, node: &Node, path: &str, within_secret: bool) {
        let secret = within_secret || is_secret(schema);
        let alternatives = alternatives(schema);
        match &node.value {
            Value::Map(entries) => match best_map(&alternatives, entries) {
                Some(map) => self.map(map, entries, node.at, path, secret),
                None => self.misplaced("a map", &alternatives, node, path),
            },
            Value::List(items) => match alternatives.iter().find(|schema| allows(schema, "array")) {
                Some(list) => self.list(schema, list, items, node.at, path, secret),
                None => self.misplaced("a list", &alternatives, node, path),
            },
            Value::Scalar(scalar) => self.scalar(&alternatives, scalar, node, path, secret),
        }
    }

    fn map(&mut self, schema: &'static Schema, entries: &[Entry], at: Position, path: &str, secret: bool) {
        let mut meant = Vec::new();
        let mut seen: HashMap<&str, Position> = HashMap::new();
        for entry in entries {
            let key = entry.key.as_str();
            let entry_path = join(path, &format::shown(key));
            let known = properties(schema).find(|(name, _)| *name == key).map(|(_, property)| property);
            if key == "<<" {
                self.error(entry.at, path, "merge keys (`<<`) are not supported").hint("write the keys out");
            } else if let Some(first) = seen.insert(key, entry.at) {
                let reason =
                    format!("this key stands here a second time; the first is on line {}", first.line);
                let path = if secret { path } else { &entry_path };
                self.error(entry.at, path, reason).hint("keep one of them");
            } else if let Some(below) = known.or_else(|| free_values(schema)) {
                self.value(below, &entry.node, &entry_path, secret);
            } else {
                meant.extend(self.unknown_key(schema, entries, entry, path, secret));
            }
        }
        for key in required(schema).filter(|key| !seen.contains_key(key) && !meant.contains(key)) {
            let hint =
                properties(schema).find(|(name, _)| *name == key).map(|(_, property)| meaning(property));
            self.error(at, join(path, key), "this key is required, and missing").hint = hint;
        }
        if schema.get("minProperties").is_some() && entries.is_empty() {
            self.error(at, path, "at least one is needed here");
        }
    }

    /// Reports a key the schema does not have, and returns the key that was meant, where that is plain.
    fn unknown_key(
        &mut self,
        schema: &'static Schema,
        entries: &[Entry],
        entry: &Entry,
        path: &str,
        secret: bool,
    ) -> Option<&'static str> {
        if secret {
            self.error(entry.at, path, "an unknown key").hint(format!("write {}", expected_maps(schema)));
            return None;
        }
        // `secret:value` without the space is a key to YAML; what follows the colon is shown to nobody.
        let name = entry.key.split_once(':').map_or(entry.key.as_str(), |(name, _)| name);
        let name = format::shown(name);
        let is_free = |key: &&str| entries.iter().all(|entry| entry.key != **key);
        let known: Vec<&'static str> = static_keys(schema).filter(is_free).collect();
        let nearest = nearest(&name, known.iter().copied());
        let lacks_space = name.len() < entry.key.len() && entry.key.contains(':');
        let finding = self.error(entry.at, join(path, &name), "unknown key");
        if lacks_space {
            finding.hint(format!("write a space after `{name}:`"));
            return known.into_iter().find(|key| *key == name);
        }
        match (nearest, elsewhere(&name)) {
            (None, Some(place)) => finding.hint(format!("this key belongs under `{place}`")),
            _ => finding.did_you_mean(&name, known.iter().copied()),
        };
        nearest
    }

    fn list(
        &mut self,
        whole: &'static Schema,
        schema: &'static Schema,
        items: &[Node],
        at: Position,
        path: &str,
        secret: bool,
    ) {
        let needs_one = [whole, schema].iter().any(|schema| schema.get("minItems").is_some());
        if needs_one && items.is_empty() {
            self.error(at, path, "the list is empty").hint("write at least one");
        }
        let Some(below) = schema.get("items") else { return };
        for (index, item) in items.iter().enumerate() {
            self.value(below, item, &format!("{path}[{index}]"), secret);
        }
    }

    fn scalar(
        &mut self,
        alternatives: &[&'static Schema],
        scalar: &Scalar,
        node: &Node,
        path: &str,
        secret: bool,
    ) {
        let kind = scalar.kind();
        let fitting = alternatives.iter().find(|schema| fits(schema, kind));
        let formatted = alternatives.iter().find_map(|schema| schema.get("format")?.as_str());
        match (fitting, formatted) {
            _ if kind == Kind::Null && fitting.is_none() => {
                self.error(
                    node.at,
                    path,
                    format!("nothing is written here, where {} belongs", expected(alternatives)),
                )
                .hint("write it, or remove the key");
            }
            (Some(schema), _) if kind == Kind::Text && !words(schema).is_empty() => {
                self.word(schema, scalar, node, path);
            }
            (Some(schema), _) if matches!(kind, Kind::Integer(_)) => {
                self.range(schema, kind, scalar, node, path)
            }
            // `timeout: 30` lacks its unit: the format says that better than "a number is no text".
            (_, Some(format)) if kind != Kind::Null && format::noun(format).is_some() => {
                if let Some(error) = format_error(format, &scalar.text) {
                    self.error(node.at, path, error);
                }
            }
            (Some(_), _) => {}
            (None, _) => self.misfit(alternatives, scalar, node, path, secret),
        }
    }

    fn word(&mut self, schema: &'static Schema, scalar: &Scalar, node: &Node, path: &str) {
        let known = words(schema);
        if known.iter().all(|(word, _)| *word != scalar.text) {
            let shown = format::shown(&scalar.text);
            self.error(node.at, path, format!("`{shown}` is not a value of this key"))
                .did_you_mean(&scalar.text, known.into_iter().map(|(word, _)| word));
        }
    }

    fn range(&mut self, schema: &'static Schema, kind: Kind, scalar: &Scalar, node: &Node, path: &str) {
        let (least, most) = bounds(schema);
        let Kind::Integer(number) = kind else { return };
        if number < least || number > most {
            self.error(node.at, path, format!("{} is out of range", format::shown(&scalar.text)))
                .hint(format!("write {}", whole_number(schema)));
        }
    }

    /// Reports a scalar of the wrong type.
    fn misfit(
        &mut self,
        alternatives: &[&'static Schema],
        scalar: &Scalar,
        node: &Node,
        path: &str,
        secret: bool,
    ) {
        let shown =
            if secret { "the value".to_owned() } else { format!("`{}`", format::shown(&scalar.text)) };
        let takes = |name| alternatives.iter().any(|schema| allows(schema, name));
        let finding = self.error(node.at, path, "");
        let lower = scalar.text.to_ascii_lowercase();
        if scalar.kind() != Kind::Text && takes("string") {
            finding.reason = format!("{shown} is not text to YAML, but a number or a boolean");
            finding.hint("put it in quotes");
        } else if takes("boolean") {
            finding.reason = format!("{shown} is neither `true` nor `false`");
            match lower.as_str() {
                "yes" | "on" | "y" | "true" | "1" => finding.hint("write `true`, without quotes"),
                "no" | "off" | "n" | "false" | "0" => finding.hint("write `false`, without quotes"),
                _ => finding,
            };
        } else if let Some(number) = alternatives.iter().find(|schema| allows(schema, "integer")) {
            finding.reason = format!("{shown} is not a whole number");
            finding.hint(format!("write {} in plain digits", whole_number(number)));
        } else {
            finding.reason = format!("{shown} stands where {} belongs", expected(alternatives));
            if takes("array") && !secret {
                finding.hint(format!("write `[{}]`", format::shown(&scalar.text)));
            } else if scalar.text.contains(':') {
                finding.hint("write a space after the `:`");
            }
        }
    }

    /// Reports a map or a list where something else belongs.
    fn misplaced(&mut self, found: &str, alternatives: &[&'static Schema], node: &Node, path: &str) {
        let wants_list = alternatives.iter().any(|schema| allows(schema, "array"));
        let reason = format!("{found} stands where {} belongs", expected(alternatives));
        let finding = self.error(node.at, path, reason);
        if wants_list {
            finding.hint("start each item with `- `");
        } else if found == "a list" && alternatives.iter().any(|schema| allows(schema, "object")) {
            finding.hint("write the keys without `- `");
        }
    }

    fn error(&mut self, at: Position, path: impl Into<String>, reason: impl Into<String>) -> &mut Finding {
        self.report.error(Some(at), path, reason)
    }
}

/// Of several kinds of map, the one that shares most keys with what is written.
fn best_map(alternatives: &[&'static Schema], entries: &[Entry]) -> Option<&'static Schema> {
    let shared = |schema: &Schema| {
        properties(schema).filter(|(name, _)| entries.iter().any(|e| e.key == *name)).count()
    };
    let maps = alternatives.iter().copied().filter(|schema| allows(schema, "object"));
    maps.rev().max_by_key(|schema| shared(schema))
}

fn allows(schema: &Schema, name: &str) -> bool {
    match schema.get("type") {
        Some(Schema::String(only)) => only == name,
        Some(Schema::Array(several)) => several.iter().any(|one| one == name),
        _ => name == "string" && schema.get("oneOf").is_some(),
    }
}

fn fits(schema: &Schema, kind: Kind) -> bool {
    match kind {
        Kind::Null => allows(schema, "null"),
        Kind::Boolean => allows(schema, "boolean"),
        Kind::Integer(_) => allows(schema, "integer"),
        Kind::Number => false,
        Kind::Text => allows(schema, "string"),
    }
}

fn static_keys(schema: &'static Schema) -> impl Iterator<Item = &'static str> {
    properties(schema).map(|(name, _)| name)
}

/// The one other place where a key of this name belongs.
fn elsewhere(name: &str) -> Option<String> {
    let mut places = schema::keys().into_iter().filter(|key| key.name == name);
    let place = places.next().filter(|_| places.next().is_none())?;
    place.path.strip_suffix(name)?.strip_suffix('.').map(str::to_owned)
}

fn format_error(format: &str, text: &str) -> Option<String> {
    format::check(format, text).err()?;
    format::check(format, &format::shown(text)).err().map(|error| error.to_string())
}

fn bounds(schema: &Schema) -> (i128, i128) {
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

/// What may be written, in words: `text`, `a list`, `{ env: … } or { file: … } or text`.
fn expected(alternatives: &[&'static Schema]) -> String {
    let mut nouns: Vec<String> = Vec::new();
    for schema in alternatives {
        let named = schema.get("format").and_then(Schema::as_str).and_then(format::noun);
        let noun = match named {
            Some(noun) => noun.to_owned(),
            None if !words(schema).is_empty() => one_of(schema),
            None if allows(schema, "array") => "a list".to_owned(),
            None if allows(schema, "object") && alternatives.len() > 1 => expected_maps(schema),
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

fn expected_maps(schema: &'static Schema) -> String {
    let keys: Vec<String> = static_keys(schema).map(|key| format!("{key}: …")).collect();
    format!("`{{ {} }}`", keys.join(", "))
}

fn one_of(schema: &'static Schema) -> String {
    words(schema).iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
}

/// What a missing key is for, and what may be written.
fn meaning(property: &'static Schema) -> String {
    let sentence = description(property).split(". ").next().unwrap_or_default().trim_end_matches('.');
    let mut letters = sentence.chars();
    let mut meaning: String =
        letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
    let alternatives = alternatives(property);
    let is_secret_or_word =
        is_secret(property) || alternatives.iter().any(|schema| !words(schema).is_empty());
    if is_secret_or_word {
        let _ = write!(meaning, ": {}", expected(&alternatives));
    }
    meaning
}
