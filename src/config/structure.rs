//! Checks a file against the schema and reports all errors. Serde would stop at the first.
//!
//! Only the part of JSON Schema that the schema uses is supported. Whether the values fit together
//! is checked by `rules` and by the modules that use them.

use std::collections::HashMap;

use serde_json::Value as Schema;

use super::characters::{between_wide_quotes, is_invisible};
use super::finding::{escape, nearest};
use super::report::{Position, Report};
use super::schema::{
    self, allows, alternatives, free_values, is_secret, is_template, join, properties, required, words,
};
use super::tree::{Scalar, ScalarKind, YamlEntry, YamlNode, YamlValue};
use super::wording::{bounds, expected, keys_of, meaning, quote, shape, whole_number};
use super::{Finding, format};

/// Reports everything in `root` that the schema does not allow. Sections that could not be read are
/// `left_out`, and not missing.
pub(super) fn check(root: &YamlNode, left_out: &[String], report: &mut Report) {
    let place = KeyPlace { path: String::new(), is_secret: false, is_optional: false };
    Checker { report, left_out }.value(schema::root(), root, &place);
}

struct Checker<'r> {
    report: &'r mut Report,
    left_out: &'r [String],
}

/// The place of a value in the configuration.
struct KeyPlace {
    path: String,
    /// Whether this is part of a secret: no value and no unknown key is shown then.
    is_secret: bool,
    /// Whether the key can be left out.
    is_optional: bool,
}

impl KeyPlace {
    fn below(&self, path: String, schema: &'static Schema, is_optional: bool) -> Self {
        Self { path, is_secret: self.is_secret || is_secret(schema), is_optional }
    }
}

impl Checker<'_> {
    fn value(&mut self, schema: &'static Schema, node: &YamlNode, place: &KeyPlace) {
        let alternatives = alternatives(schema);
        if alternatives.iter().any(|schema| is_template(schema)) {
            return self.template(node, place);
        }
        match &node.value {
            YamlValue::Map(entries) => match maps_like(&alternatives, entries).as_slice() {
                [] => self.misplaced("a map", &alternatives, node, place),
                [only] => self.map(only, entries, node.at, place),
                [_, _, ..] => {
                    self.error(node.at, &place.path, "the keys of this map are wrong")
                        .hint(format!("write {}", expected(&alternatives)));
                }
            },
            YamlValue::List(items) => match alternatives.iter().find(|schema| allows(schema, "array")) {
                Some(list) => self.list(list, items, node.at, place),
                None => self.misplaced("a list", &alternatives, node, place),
            },
            YamlValue::Scalar(scalar) => self.scalar(&alternatives, scalar, node.at, place),
        }
    }

    fn map(&mut self, schema: &'static Schema, entries: &[YamlEntry], at: Position, place: &KeyPlace) {
        let mut meant = Vec::new();
        let mut seen: HashMap<&str, Position> = HashMap::new();
        for entry in entries {
            let key = entry.key.as_str();
            let path = join(&place.path, &escape(key));
            let known = properties(schema).find(|(name, _)| *name == key).map(|(_, property)| property);
            let first = seen.insert(key, entry.at);
            if key == "<<" {
                self.error(entry.at, &place.path, "merge keys (`<<`) are not supported")
                    .hint("write the keys out");
            } else if let Some(below) = known.or_else(|| free_values(schema).filter(|_| !lacks_space(entry)))
            {
                let is_optional = known.is_some() && required(schema).all(|required| required != key);
                if let Some(first) = first {
                    let reason = format!("this key is written twice, first on line {}", first.line);
                    self.error(entry.at, &path, reason).hint("keep one of them");
                }
                self.value(below, &entry.node, &place.below(path, below, is_optional));
            } else {
                self.unknown_key(schema, entries, entry, place);
                meant.extend(meant_key(schema, entries, entry).filter(|_| !place.is_secret));
            }
        }
        let is_missing =
            |key: &&str| !seen.contains_key(key) && !seen.contains_key("<<") && !meant.contains(key);
        let is_read = |key: &&str| !place.path.is_empty() || self.left_out.iter().all(|other| other != key);
        let missing: Vec<&str> = required(schema).filter(is_missing).filter(is_read).collect();
        for key in missing {
            let hint =
                properties(schema).find(|(name, _)| *name == key).map(|(_, property)| meaning(property));
            self.error(at, &join(&place.path, key), "this required key is missing").hint = hint;
        }
        if schema.get("minProperties").is_some() && entries.is_empty() {
            self.error(at, &place.path, "the map is empty").hint("write at least one entry");
        }
    }

    /// Checks a template: every value is allowed that JSON can say exactly.
    fn template(&mut self, node: &YamlNode, place: &KeyPlace) {
        let below = |path| KeyPlace { path, is_secret: false, is_optional: false };
        match &node.value {
            YamlValue::Map(entries) => {
                let mut seen: HashMap<&str, Position> = HashMap::new();
                for entry in entries {
                    let path = join(&place.path, &escape(&entry.key));
                    if entry.key == "<<" {
                        self.error(entry.at, &place.path, "merge keys (`<<`) are not supported")
                            .hint("write the keys out");
                    } else if lacks_space(entry) {
                        let name = escape(entry.key.split(':').next().unwrap_or_default());
                        self.error(entry.at, &path, "this key has no value")
                            .hint(format!("write a space after `{name}:`"));
                    }
                    if let Some(first) = seen.insert(&entry.key, entry.at) {
                        let reason = format!("this key is written twice, first on line {}", first.line);
                        self.error(entry.at, &path, reason).hint("keep one of them");
                    }
                    self.template(&entry.node, &below(path));
                }
            }
            YamlValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.template(item, &below(format!("{}[{index}]", place.path)));
                }
            }
            YamlValue::Scalar(scalar) => {
                let is_exact = match scalar.kind() {
                    ScalarKind::Integer(number) => i64::try_from(number).is_ok(),
                    kind => kind != ScalarKind::Number,
                };
                if !is_exact {
                    let reason = format!("{} is not a whole number of 64 bits", quote(scalar));
                    self.error(node.at, &place.path, reason)
                        .hint("write a whole number, or put it in quotes");
                }
            }
        }
    }

    /// Reports a key that is not in the schema.
    fn unknown_key(
        &mut self,
        schema: &'static Schema,
        entries: &[YamlEntry],
        entry: &YamlEntry,
        place: &KeyPlace,
    ) {
        if place.is_secret {
            self.error(entry.at, &place.path, "unknown key").hint(format!("write {}", shape(schema)));
            return;
        }
        let known: Vec<&'static str> = properties(schema).map(|(name, _)| name).collect();
        // YAML reads `secret:value`, without the space, as a key: the text after the colon is not
        // shown.
        let name = escape(entry.key.split(':').next().unwrap_or_default());
        let finding = self.report.error(Some(entry.at), join(&place.path, &name), "unknown key");
        if entry.key.contains(':') {
            finding.hint(format!("write a space after `{name}:`"));
            return;
        }
        match (meant_key(schema, entries, entry), elsewhere(&name)) {
            (Some(nearest), _) => finding.hint(format!("did you mean `{nearest}`?")),
            (None, Some(place)) => finding.hint(format!("this key belongs under `{place}`")),
            (None, None) => finding.did_you_mean(&name, known.iter().copied()),
        };
    }

    fn list(&mut self, schema: &'static Schema, items: &[YamlNode], at: Position, place: &KeyPlace) {
        if schema.get("minItems").is_some() && items.is_empty() {
            self.error(at, &place.path, "the list is empty").hint("write at least one entry");
        }
        let Some(below) = schema.get("items") else { return };
        for (index, item) in items.iter().enumerate() {
            self.value(below, item, &place.below(format!("{}[{index}]", place.path), below, false));
        }
    }

    fn scalar(&mut self, alternatives: &[&'static Schema], scalar: &Scalar, at: Position, place: &KeyPlace) {
        let kind = scalar.kind();
        let fitting = alternatives.iter().copied().find(|schema| fits(schema, kind));
        let mut formatted = alternatives.iter().filter_map(|schema| schema.get("format")?.as_str());
        let format = formatted.find(|format| format::noun(format).is_some());
        match (fitting, kind, format) {
            (Some(_), ScalarKind::Null, _) => {}
            (None, ScalarKind::Null, _) => {
                let reason = format!("the value is missing: {} is expected", expected(alternatives));
                let hint = match (keys_of(alternatives), place.is_optional) {
                    (Some(keys), true) => format!("write {keys}, or remove the key"),
                    (Some(keys), false) => format!("write {keys}"),
                    (None, true) => "write the value, or remove the key".to_owned(),
                    (None, false) => "write the value".to_owned(),
                };
                self.error(at, &place.path, reason).hint(hint);
            }
            (Some(_), ScalarKind::Text, _) if !is_title(place) && doubt_of_text(&scalar.text).is_some() => {
                let doubt = doubt_of_text(&scalar.text);
                let (reason, hint) = doubt.unwrap_or_default();
                self.error(at, &place.path, reason).hint(hint);
            }
            // Before the types: for `timeout: 30` the unit is missing, which says more than "not
            // text".
            (_, _, Some(format)) => {
                if let Err(invalid) = format::check(format, &scalar.text) {
                    self.error(at, &place.path, invalid.reason).hint(invalid.hint);
                }
            }
            (Some(schema), ScalarKind::Integer(number), _) => self.range(schema, number, at, place),
            (Some(schema), ScalarKind::Text, _) if !words(schema).is_empty() => {
                self.word(schema, scalar, at, place)
            }
            (Some(_), _, _) => {}
            (None, _, _) => self.misfit(alternatives, scalar, at, place),
        }
    }

    fn word(&mut self, schema: &'static Schema, scalar: &Scalar, at: Position, place: &KeyPlace) {
        let known = words(schema);
        if known.iter().all(|(word, _)| *word != scalar.text) {
            let reason = format!("{} is not a value of this key", quote(scalar));
            let finding = self.error(at, &place.path, reason);
            finding.did_you_mean(&scalar.text, known.into_iter().map(|(word, _)| word));
        }
    }

    fn range(&mut self, schema: &'static Schema, number: i128, at: Position, place: &KeyPlace) {
        let (least, most) = bounds(schema);
        if number < least || number > most {
            let range = if number > most { format!("{least} to {most}") } else { format!("{least}") };
            self.error(at, &place.path, format!("{number} is out of range"))
                .hint(format!("write a whole number from {range}"));
        }
    }

    /// Reports a scalar of the wrong type.
    fn misfit(&mut self, alternatives: &[&'static Schema], scalar: &Scalar, at: Position, place: &KeyPlace) {
        let takes = |name| alternatives.iter().any(|schema| allows(schema, name));
        let number = alternatives.iter().copied().find(|schema| allows(schema, "integer"));
        let written = if place.is_secret { "the value".to_owned() } else { quote(scalar) };
        let finding = self.error(at, &place.path, "");
        if takes("string") {
            let kind = if matches!(scalar.kind(), ScalarKind::Boolean(_)) { "a boolean" } else { "a number" };
            finding.reason = format!("YAML reads {written} as {kind}, but text is expected");
            finding.hint(if place.is_optional {
                "put it in quotes, or remove the key"
            } else {
                "put it in quotes"
            });
        } else if takes("boolean") {
            finding.reason = format!("{written} is neither `true` nor `false`");
            match scalar.text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" | "1" => finding.hint("write `true`, without quotes"),
                "no" | "off" | "n" | "false" | "0" => finding.hint("write `false`, without quotes"),
                _ => finding.hint("write one of them"),
            };
        } else if let Some(number) = number {
            finding.reason = format!("{written} is not a whole number");
            finding.hint(format!("write {}, in digits without quotes", whole_number(number)));
        } else {
            // Text in the place of a section can be a secret: it is not shown.
            finding.reason = format!("this is text, but {} is expected", expected(alternatives));
            if alternatives.iter().any(|schema| is_list_of_text(schema)) {
                finding.hint(format!("write `[{}]`", escape(&scalar.text)));
            } else if scalar.text.contains(':') {
                finding.hint("write a space after the `:`");
            } else if let Some(keys) = keys_of(alternatives) {
                finding.hint(format!("write {keys}"));
            }
        }
    }

    /// Reports a map or a list in the place of another type.
    fn misplaced(
        &mut self,
        found: &str,
        alternatives: &[&'static Schema],
        node: &YamlNode,
        place: &KeyPlace,
    ) {
        let takes = |name| alternatives.iter().any(|schema| allows(schema, name));
        let holds_maps = matches!(&node.value, YamlValue::List(items)
            if items.iter().any(|item| matches!(item.value, YamlValue::Map(_))));
        let finding = self.error(
            node.at,
            &place.path,
            format!("this is {found}, but {} is expected", expected(alternatives)),
        );
        if takes("array") {
            finding.hint("start each item with `- `");
        } else if holds_maps && takes("object") {
            finding.hint("write the keys without `- `");
        } else if matches!(&node.value, YamlValue::List(_)) && !takes("object") {
            finding.hint("write one value, without `[ ]` and `- `");
        } else if let Some(keys) = keys_of(alternatives) {
            finding.hint(format!("write {keys}"));
        }
    }

    fn error(&mut self, at: Position, path: &str, reason: impl Into<String>) -> &mut Finding {
        self.report.error(Some(at), path, reason)
    }
}

/// What people read: every character can be meant.
fn is_title(place: &KeyPlace) -> bool {
    place.path.ends_with(".title")
}

/// Why a text holds characters that were not meant, and what to write.
pub(super) fn doubt_of_text(text: &str) -> Option<(String, &'static str)> {
    if let Some(c) = text.chars().find(|c| is_invisible(*c)) {
        let reason = format!("there is an invisible character (U+{:04X}) in the value", u32::from(c));
        return Some((reason, "type the value again, without it"));
    }
    between_wide_quotes(text)
        .map(|_| ("these quotes are not those of YAML".to_owned(), "write `\"`, or no quotes"))
}

/// The key that an unknown key was meant to be, if that is clear: one that is missing, before one
/// that is there already.
pub(super) fn meant_key(
    schema: &'static Schema,
    entries: &[YamlEntry],
    entry: &YamlEntry,
) -> Option<&'static str> {
    let known: Vec<&'static str> = properties(schema).map(|(name, _)| name).collect();
    // YAML reads `secret:value`, without the space, as a key.
    let name = entry.key.split(':').next().unwrap_or_default();
    if entry.key.contains(':') {
        return known.into_iter().find(|key| *key == name);
    }
    let missing = known.iter().copied().filter(|key| entries.iter().all(|entry| entry.key != *key));
    nearest(name, missing).or_else(|| nearest(name, known.iter().copied()))
}

/// The maps that are allowed here. If one of them has exactly the written keys, it alone.
pub(super) fn maps_like(alternatives: &[&'static Schema], entries: &[YamlEntry]) -> Vec<&'static Schema> {
    let has = |schema: &Schema, key: &str| properties(schema).any(|(name, _)| name == key);
    let is_written = |key: &str| entries.iter().any(|entry| entry.key == key);
    let maps: Vec<_> = alternatives.iter().copied().filter(|schema| allows(schema, "object")).collect();
    let mut exact = maps.iter().filter(|schema| {
        entries.iter().all(|entry| has(schema, &entry.key)) && required(schema).all(is_written)
    });
    exact.next().map_or(maps.clone(), |schema| vec![*schema])
}

pub(super) fn fits(schema: &Schema, kind: ScalarKind) -> bool {
    match kind {
        ScalarKind::Null => allows(schema, "null"),
        ScalarKind::Boolean(_) => allows(schema, "boolean"),
        ScalarKind::Integer(_) => allows(schema, "integer"),
        ScalarKind::Number => false,
        ScalarKind::Text => allows(schema, "string"),
    }
}

fn is_list_of_text(schema: &'static Schema) -> bool {
    let items = schema.get("items").map(alternatives).unwrap_or_default();
    items.iter().any(|item| allows(item, "string"))
}

/// Whether a key without a value is `key:value`, written without the space.
pub(super) fn lacks_space(entry: &YamlEntry) -> bool {
    let is_empty =
        matches!(&entry.node.value, YamlValue::Scalar(scalar) if scalar.kind() == ScalarKind::Null);
    is_empty && entry.key.contains(':')
}

/// The section where a key of this name belongs, if there is exactly one.
fn elsewhere(name: &str) -> Option<String> {
    let mut places = schema::keys().into_iter().filter(|key| key.name == name);
    let place = places.next().filter(|_| places.next().is_none())?;
    place.path.strip_suffix(name)?.strip_suffix('.').map(str::to_owned)
}
