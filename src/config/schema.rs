//! The JSON Schema of a configuration: the one list of keys, with their meanings, defaults and
//! ranges.
//!
//! The loader checks files against it, editors complete from it, and `docs/configuration.md` is
//! generated from it. A key with `x-static`, and every key below it, takes effect at start only.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::{Config, Findings};

/// The JSON Schema of the configuration file.
pub fn schema() -> Value {
    root().clone()
}

/// Reports the static keys that differ between the running configuration and a new one.
pub fn static_changes(running: &Config, new: &Config) -> Findings {
    let mut findings = Findings::default();
    if let (Ok(running), Ok(new)) = (serde_json::to_value(running), serde_json::to_value(new)) {
        compare(root(), &running, &new, "", &mut findings);
    } else {
        findings.error("", "the two configurations cannot be compared");
    }
    findings
}

fn compare(schema: &'static Value, running: &Value, new: &Value, path: &str, findings: &mut Findings) {
    for (name, property) in alternatives(schema).into_iter().flat_map(properties) {
        let path = join(path, name);
        let (running, new) = (running.get(name), new.get(name));
        if !is_static(property) {
            compare(property, running.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), &path, findings);
        } else if running != new {
            findings
                .error(path, "a reload cannot change this key")
                .hint("restart the gateway, or write the old value");
        }
    }
}

/// The schema, built once.
pub(super) fn root() -> &'static Value {
    static ROOT: LazyLock<Value> = LazyLock::new(|| {
        let mut root = schemars::schema_for!(Config).to_value();
        spread_static(&mut root);
        root
    });
    &ROOT
}

/// The schemas that a value can follow. References and `anyOf` are resolved.
pub(super) fn alternatives(schema: &'static Value) -> Vec<&'static Value> {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(definition) {
        return alternatives(target);
    }
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(branches) => branches.iter().flat_map(alternatives).collect(),
        None => vec![schema],
    }
}

/// Whether a value of `schema` is a secret. No message may show it.
pub(super) fn is_secret(schema: &'static Value) -> bool {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(definition);
    let mut branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    schema.get("writeOnly") == Some(&Value::Bool(true))
        || target.is_some_and(is_secret)
        || branches.any(is_secret)
}

/// Whether a value of `schema` is a template: any value, which its module checks.
pub(super) fn is_template(schema: &Value) -> bool {
    schema.get("x-template") == Some(&Value::Bool(true))
}

/// Whether a key takes effect at start only.
pub(super) fn is_static(property: &Value) -> bool {
    property.get("x-static") == Some(&Value::Bool(true))
}

/// Whether the schema allows values of a type.
pub(super) fn allows(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => name == "string" && schema.get("oneOf").is_some(),
    }
}

/// The keys of a map with fixed keys, in the order they are declared.
pub(super) fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let map = schema.get("properties").and_then(Value::as_object);
    map.into_iter().flatten().map(|(name, property)| (name.as_str(), property))
}

/// The required keys of a map.
pub(super) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The schema of the values of a map with free keys.
pub(super) fn free_values(schema: &'static Value) -> Option<&'static Value> {
    schema.get("additionalProperties").filter(|schema| schema.is_object())
}

/// The words of a value with a fixed set of words, each with its meaning.
pub(super) fn words(schema: &'static Value) -> Vec<(&'static str, &'static str)> {
    let one_of = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let described = one_of.filter_map(|word| {
        let meaning = word.get("description").and_then(Value::as_str).unwrap_or_default();
        Some((word.get("const")?.as_str()?, meaning))
    });
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    described.chain(listed.map(|word| (word, ""))).collect()
}

/// The description of a key in the schema.
pub(super) fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// A key of the configuration, at any depth.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "only the generated reference, which a test writes, needs all of it")
)]
pub(super) struct SchemaKey {
    /// Such as `listeners[].tls.certificates[].key` or `apps.<name>.kind`.
    pub(super) path: String,
    pub(super) name: &'static str,
    pub(super) property: &'static Value,
    pub(super) is_required: bool,
}

/// Every key, in the order of the declarations. A secret is one key.
pub(super) fn keys() -> Vec<SchemaKey> {
    let mut keys = Vec::new();
    collect(root(), "", &mut keys);
    keys
}

fn collect(schema: &'static Value, path: &str, keys: &mut Vec<SchemaKey>) {
    if is_secret(schema) {
        return;
    }
    for alternative in alternatives(schema) {
        for (name, property) in properties(alternative) {
            let is_required = required(alternative).any(|required| required == name);
            let path = join(path, name);
            keys.push(SchemaKey { path: path.clone(), name, property, is_required });
            collect(property, &path, keys);
        }
        if let Some(items) = alternative.get("items") {
            collect(items, &format!("{path}[]"), keys);
        }
        if let Some(values) = free_values(alternative) {
            collect(values, &join(path, "<name>"), keys);
        }
    }
}

/// The path of a key below `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn definition(reference: &str) -> Option<&'static Value> {
    root().get("$defs")?.get(reference.strip_prefix("#/$defs/")?)
}

/// Marks every key below a static key as static, also in its description.
fn spread_static(root: &mut Value) {
    let mut names = static_definitions(root);
    loop {
        for name in &names {
            let definition = root.get_mut("$defs").and_then(|all| all.get_mut(name));
            each_property(definition, |property| {
                property.insert("x-static".to_owned(), Value::Bool(true));
            });
        }
        let reached = static_definitions(root);
        if reached == names {
            break;
        }
        names = reached;
    }
    each_map(root, |map| {
        each_property(Some(map), |property| {
            if property.get("x-static") == Some(&Value::Bool(true))
                && let Some(Value::String(description)) = property.get_mut("description")
            {
                description.push_str(" Static: a change needs a restart.");
            }
        });
    });
}

/// The definitions that static keys refer to.
fn static_definitions(root: &mut Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    each_map(root, |map| {
        for (_, property) in properties(map).filter(|(_, property)| is_static(property)) {
            references(property, &mut names);
        }
    });
    names
}

fn references(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            names.extend(reference.and_then(|name| name.strip_prefix("#/$defs/")).map(str::to_owned));
            map.values().for_each(|value| references(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, names)),
        _ => {}
    }
}

fn each_map(root: &mut Value, mut apply: impl FnMut(&mut Value)) {
    apply(root);
    root.get_mut("$defs")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
        .for_each(|(_, map)| apply(map));
}

fn each_property(schema: Option<&mut Value>, mut apply: impl FnMut(&mut serde_json::Map<String, Value>)) {
    let map = schema.and_then(|schema| schema.get_mut("properties")).and_then(Value::as_object_mut);
    for (_, property) in map.into_iter().flatten() {
        property.as_object_mut().into_iter().for_each(&mut apply);
    }
}
