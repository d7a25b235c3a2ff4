//! Makes a tree that fits the schema out of one that does not, so that the rest of the file can be
//! checked in the same run.
//!
//! Where the check says what to write instead, that is written. Elsewhere a value that fits stands
//! in, and its place is doubtful: what is found there may come from the stand-in, and is not
//! reported. Nothing is ever served from such a tree.

use serde_json::Value as Schema;

use super::characters::{between_wide_quotes, is_invisible};
use super::report::Position;
use super::schema::{
    allows, alternatives, free_values, is_secret, is_template, join, properties, required, words,
};
use super::structure::{doubt_of_text, fits, lacks_space, maps_like, meant_key};
use super::tree::{Scalar, ScalarKind, YamlEntry, YamlNode, YamlValue};
use super::wording::bounds;
use super::{finding, format, schema, value};

/// 32 bytes in base64: it can stand in for a secret of every kind.
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A tree that fits the schema.
pub(super) struct Repaired {
    pub(super) root: YamlNode,
    /// Key paths whose values stand in for others.
    pub(super) doubtful: Vec<String>,
    /// How many words could stand in for one that is not known.
    pub(super) choices: usize,
}

/// Repairs a tree. `choice` is which word stands in for one that is not known.
pub(super) fn repair(root: &YamlNode, choice: usize) -> Repaired {
    let mut root = root.clone();
    let mut repairer = Repairer { choice, choices: 1, doubtful: Vec::new(), strings: 0 };
    repairer.value(schema::root(), &mut root, "", false);
    Repaired { root, doubtful: repairer.doubtful, choices: repairer.choices }
}

struct Repairer {
    choice: usize,
    choices: usize,
    doubtful: Vec<String>,
    /// How many texts stand in; each is another, because many must be unique.
    strings: usize,
}

impl Repairer {
    /// Repairs a value. Returns whether it stays: if not, its key has a default.
    fn value(&mut self, schema: &'static Schema, node: &mut YamlNode, path: &str, is_optional: bool) -> bool {
        let alternatives = alternatives(schema);
        if alternatives.iter().any(|schema| is_template(schema))
            && !matches!(&node.value, YamlValue::Scalar(scalar) if scalar.kind() == ScalarKind::Null)
        {
            // Every value fits.
            return true;
        }
        let array = alternatives.iter().copied().find(|schema| allows(schema, "array"));
        match &mut node.value {
            YamlValue::Map(entries) => match (maps_like(&alternatives, entries).as_slice(), array) {
                ([only], _) => {
                    self.map(only, entries, node.at, path);
                    return true;
                }
                ([], Some(array)) if items_are_maps(array) => {
                    node.value = YamlValue::List(vec![node.clone()]);
                    return self.value(schema, node, path, is_optional);
                }
                _ => {}
            },
            YamlValue::List(items) => match array {
                Some(array) => {
                    self.list(array, items, path);
                    return true;
                }
                None if items.len() == 1 => {
                    if let Some(only) = items.pop() {
                        *node = only;
                        return self.value(schema, node, path, is_optional);
                    }
                }
                None => {}
            },
            YamlValue::Scalar(scalar) if is_sound(&alternatives, scalar) => return true,
            YamlValue::Scalar(scalar) => {
                if let Some(meant) = mend(&alternatives, scalar, node.at) {
                    let is_list = matches!(meant, YamlValue::List(_));
                    node.value = meant;
                    return !is_list || self.value(schema, node, path, is_optional);
                }
            }
        }
        self.replace(schema, node, path, is_optional)
    }

    fn list(&mut self, schema: &'static Schema, items: &mut [YamlNode], path: &str) {
        if items.is_empty() && schema.get("minItems").is_some() {
            self.doubt(path);
        }
        let Some(below) = schema.get("items") else { return };
        for (index, item) in items.iter_mut().enumerate() {
            self.value(below, item, &format!("{path}[{index}]"), false);
        }
    }

    fn map(&mut self, schema: &'static Schema, entries: &mut Vec<YamlEntry>, at: Position, path: &str) {
        let written = entries.clone();
        if written.is_empty() && schema.get("minProperties").is_some() {
            self.doubt(path);
        }
        entries.retain_mut(|entry| {
            if entry.key == "<<" {
                self.doubt(path);
                return false;
            }
            let is_free = free_values(schema).is_some() && !lacks_space(entry);
            if !is_free && properties(schema).all(|(name, _)| name != entry.key) {
                let meant = meant_key(schema, &written, entry);
                let Some(meant) = meant.filter(|key| written.iter().all(|other| other.key != **key)) else {
                    return false;
                };
                rename(entry, meant);
            }
            let known = properties(schema).find(|(name, _)| *name == entry.key).map(|(_, below)| below);
            let Some(below) = known.or_else(|| free_values(schema)) else { return false };
            let is_optional = known.is_some() && required(schema).all(|key| key != entry.key);
            self.value(below, &mut entry.node, &join(path, &finding::escape(&entry.key)), is_optional)
        });
        for key in required(schema) {
            if entries.iter().any(|entry| entry.key == key) {
                continue;
            }
            let below = properties(schema).find(|(name, _)| *name == key).map(|(_, below)| below);
            let Some(below) = below else { continue };
            self.doubt(&join(path, key));
            let node = YamlNode { at, value: self.stand_in(below, at) };
            entries.push(YamlEntry { key: key.to_owned(), at, node });
        }
    }

    fn replace(
        &mut self,
        schema: &'static Schema,
        node: &mut YamlNode,
        path: &str,
        is_optional: bool,
    ) -> bool {
        self.doubt(path);
        let alternatives = alternatives(schema);
        let is_section =
            alternatives.iter().any(|schema| allows(schema, "object") || allows(schema, "array"));
        let has_words = alternatives.iter().any(|schema| !words(schema).is_empty());
        // A section that is there but wrong is not a section that is left out.
        if is_optional && !is_section && !is_secret(schema) && (!has_words || self.choice == 0) {
            self.count_words(schema);
            return false;
        }
        node.value = self.stand_in(schema, node.at);
        true
    }

    fn count_words(&mut self, schema: &'static Schema) {
        let words = alternatives(schema).into_iter().map(|schema| words(schema).len()).sum::<usize>();
        self.choices = self.choices.max(words);
    }

    /// A value that fits the schema.
    fn stand_in(&mut self, schema: &'static Schema, at: Position) -> YamlValue {
        if is_secret(schema) {
            return text(SECRET);
        }
        self.count_words(schema);
        let alternatives = alternatives(schema);
        let words: Vec<_> = alternatives.iter().flat_map(|schema| words(schema)).collect();
        if let Some((word, _)) = words.get(self.choice % words.len().max(1)) {
            return text(word);
        }
        let map = alternatives.iter().copied().find(|schema| allows(schema, "object"));
        if let Some(map) = map {
            let (mut entries, known) = (Vec::new(), self.doubtful.len());
            self.map(map, &mut entries, at, "");
            // Their places are below that of the map, which is doubtful already.
            self.doubtful.truncate(known);
            return YamlValue::Map(entries);
        }
        if alternatives.iter().any(|schema| allows(schema, "array")) {
            return YamlValue::List(Vec::new());
        }
        let number = alternatives.iter().find(|schema| allows(schema, "integer"));
        if let Some(number) = number {
            return plain(&bounds(number).0.max(1).to_string());
        }
        if alternatives.iter().any(|schema| allows(schema, "boolean")) {
            return plain("false");
        }
        let formats = alternatives.iter().find_map(|schema| schema.get("format")?.as_str());
        text(match formats {
            Some("time-span") => "30s",
            Some("byte-size") => "1MiB",
            Some("rate") => "10/s",
            Some("ip-network") => "192.0.2.1",
            Some("socket-address") => "127.0.0.1:0",
            Some("path") => "/nonexistent",
            _ => {
                self.strings += 1;
                return text(&format!("stand-in-{}", self.strings));
            }
        })
    }

    fn doubt(&mut self, path: &str) {
        self.doubtful.push(path.to_owned());
    }
}

/// Gives an entry the key that was meant. `key:value`, without the space, is a key without a value
/// for YAML.
fn rename(entry: &mut YamlEntry, meant: &str) {
    if let Some((_, value)) = entry.key.split_once(':')
        && lacks_space(entry)
    {
        entry.node.value = plain(value.trim());
    }
    meant.clone_into(&mut entry.key);
}

fn items_are_maps(array: &'static Schema) -> bool {
    let items = array.get("items").map(alternatives).unwrap_or_default();
    items.iter().any(|schema| allows(schema, "object"))
}

/// Whether the schema allows the scalar: the same question that `structure` asks.
fn is_sound(alternatives: &[&'static Schema], scalar: &Scalar) -> bool {
    let kind = scalar.kind();
    let Some(schema) = alternatives.iter().copied().find(|schema| fits(schema, kind)) else { return false };
    let mut formats = alternatives.iter().filter_map(|schema| schema.get("format")?.as_str());
    let format = formats.find(|format| format::noun(format).is_some());
    match (kind, format) {
        (ScalarKind::Null, _) => true,
        (ScalarKind::Text, _) if doubt_of_text(&scalar.text).is_some() => false,
        (_, Some(format)) => format::check(format, &scalar.text).is_ok(),
        (ScalarKind::Integer(number), None) => {
            let (least, most) = bounds(schema);
            (least..=most).contains(&number)
        }
        (ScalarKind::Text, None) => {
            let words = words(schema);
            words.is_empty() || words.iter().any(|(word, _)| *word == scalar.text)
        }
        _ => true,
    }
}

/// What the check says to write instead of a wrong scalar.
fn mend(allowed: &[&'static Schema], scalar: &Scalar, at: Position) -> Option<YamlValue> {
    if scalar.kind() == ScalarKind::Null {
        return None;
    }
    let visible: String = scalar.text.chars().filter(|c| !is_invisible(*c)).collect();
    let visible = visible.trim();
    let written = between_wide_quotes(visible).unwrap_or(visible);
    let mut meant = Vec::new();
    for schema in allowed {
        match schema.get("format").and_then(Schema::as_str) {
            Some("time-span") => meant.extend(value::meant_duration(written)),
            Some("byte-size") => meant.extend(value::meant_size(written)),
            Some("rate") => meant.extend(value::meant_rate(written)),
            _ => {}
        }
        let known = words(schema);
        meant.extend(finding::nearest(written, known.into_iter().map(|(word, _)| word)).map(str::to_owned));
    }
    let takes = |name| allowed.iter().any(|schema| allows(schema, name));
    let mut candidates: Vec<Scalar> =
        meant.into_iter().map(|text| Scalar { text, is_plain: false }).collect();
    if takes("string") {
        candidates.push(Scalar { text: written.to_owned(), is_plain: false });
    }
    if takes("integer") {
        candidates.push(Scalar { text: written.to_owned(), is_plain: true });
    }
    if takes("boolean") {
        let meant = match written.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" | "1" => Some("true"),
            "no" | "off" | "n" | "false" | "0" => Some("false"),
            _ => None,
        };
        candidates.extend(meant.map(|text| Scalar { text: text.to_owned(), is_plain: true }));
    }
    if let Some(sound) = candidates.into_iter().find(|scalar| is_sound(allowed, scalar)) {
        return Some(YamlValue::Scalar(sound));
    }
    let array = allowed.iter().find(|schema| allows(schema, "array"))?;
    let items = array.get("items").map(alternatives).unwrap_or_default();
    if !items.iter().any(|schema| allows(schema, "string")) {
        return None;
    }
    let items = written.split(',').map(|item| YamlNode { at, value: text(item.trim()) });
    Some(YamlValue::List(items.collect()))
}

fn text(text: &str) -> YamlValue {
    YamlValue::Scalar(Scalar { text: text.to_owned(), is_plain: false })
}

fn plain(text: &str) -> YamlValue {
    YamlValue::Scalar(Scalar { text: text.to_owned(), is_plain: true })
}
