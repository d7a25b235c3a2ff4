//! Writes `docs/configuration.md` from the schema.

use serde_json::Value as Schema;

use crate::config::schema::{
    self, SchemaKey, alternatives, description, free_values, is_secret, is_static, is_template, properties,
    required, words,
};
use crate::config::wording::whole_number;

const INTRODUCTION: &str = "\
<!-- Generated from the descriptions in src/config by `UPDATE=1 cargo test --lib config`. Edit those. -->

# Configuration

Menshen reads one YAML file: the one of `--config FILE`, or of the environment variable `MENSHEN_CONFIG`, or `menshen.yaml`.
[`conf/minimal.yaml`](../conf/minimal.yaml) is the smallest configuration that runs.
[`conf/menshen.yaml`](../conf/menshen.yaml) has every key with its default. `menshen check` reports everything that is wrong
with a file, with the line of each error. `menshen config schema` prints the JSON Schema. With it, an editor can complete
and check the file:

```yaml
# yaml-language-server: $schema=menshen.schema.json
```

**How values are written**

| type | written as |
| --- | --- |
| duration | a whole number and a unit: `500ms`, `30s`, `5m`, `2h`, `7d` |
| size | a whole number and a unit: `512B`, `64KiB`, `1MiB`, `1GiB` |
| rate | a number and a time: `100/s`, `10/min`, `1000/h` |
| secret | `{ env: NAME }` or `{ file: PATH }`; in development also the secret itself, with a warning |
| path | from `/` on, or relative to the folder of the configuration file: `tls/key.pem` |
| text | put it in quotes if YAML reads it as another type: `\"2026\"`, `\"true\"`, `\"[::]:8080\"` |

**Paths.** A relative path is relative to the folder of the configuration file, in whatever folder a command runs, and messages show
it from `/` on. If a file is not there, but is where earlier versions looked for it, relative to the working directory, the start is
refused and both are named. Only the default of `data_dir` is not relative to the file: it is the folder that systemd names in
`$STATE_DIRECTORY` (of several, the first), and without systemd `data` in the working directory.

YAML anchors and aliases (`&name`, `*name`) work. Tags (`!name`) and merge keys (`<<`) are refused.

**Reload.** On SIGHUP a running gateway reads the file again. It uses the new configuration without a restart. If the file has
errors, the gateway keeps the old configuration and logs the reason. Keys marked *restart* take effect at start only: a reload
that changes one of them is refused.
";

/// The reference of every key.
pub(super) fn markdown() -> String {
    let keys = schema::keys();
    let mut text = INTRODUCTION.to_owned();
    section(&mut text, "The process", "", "", None, &keys);
    for key in &keys {
        let prefix = below(key);
        if keys.iter().any(|other| is_child(other, &prefix)) {
            let heading = format!("`{prefix}`");
            section(&mut text, &heading, &prefix, description(key.property), Some(key), &keys);
        }
    }
    text
}

fn section(
    text: &mut String,
    heading: &str,
    prefix: &str,
    intro: &str,
    parent: Option<&SchemaKey>,
    keys: &[SchemaKey],
) {
    let is_section = |key: &&SchemaKey| keys.iter().any(|other| is_child(other, &below(key)));
    let children = keys.iter().filter(|key| is_child(key, prefix));
    let rows: Vec<String> = children
        .filter(|key| !prefix.is_empty() || !is_section(key))
        .map(|key| row(key, parent, is_section(&key)))
        .collect();
    text.push_str(&format!("\n## {heading}\n\n"));
    if !intro.is_empty() {
        text.push_str(&format!("{intro}\n\n"));
    }
    if let Some(needs) = parent.and_then(needs_all) {
        text.push_str(&format!("{needs}\n\n"));
    }
    text.push_str("| key | type | default | reload | meaning |\n| --- | --- | --- | --- | --- |\n");
    text.push_str(&rows.concat());
}

fn row(key: &SchemaKey, parent: Option<&SchemaKey>, is_section: bool) -> String {
    let default = match default(key, parent) {
        _ if is_section => if key.is_required { "required" } else { "" }.to_owned(),
        None if key.is_required => "required".to_owned(),
        None | Some(Schema::Null) => "not set".to_owned(),
        Some(Schema::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
    };
    let reload = if is_static(key.property) { "restart" } else { "yes" };
    // A row is one line, wherever the comment is wrapped.
    let meaning =
        description(key.property).replace('\n', " ").replace(" Static: a change needs a restart.", "");
    let words: Vec<String> = alternatives(key.property)
        .into_iter()
        .flat_map(words)
        .map(|(word, meaning)| format!("<br>`{word}`: {}", meaning.replace('\n', " ")))
        .collect();
    let cells = [
        format!("`{}`", key.name),
        kind(key.property),
        default,
        reload.to_owned(),
        format!("{meaning}{}", words.concat()),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

/// The default of a key, or its value in the default of its section.
fn default<'s>(key: &'s SchemaKey, parent: Option<&'s SchemaKey>) -> Option<&'s Schema> {
    key.property.get("default").or_else(|| parent?.property.get("default")?.get(key.name))
}

/// A sentence for a section that can be left out, but not written in part.
fn needs_all(parent: &SchemaKey) -> Option<String> {
    let default = parent.property.get("default")?;
    let names: Vec<String> = alternatives(parent.property)
        .into_iter()
        .flat_map(required)
        .map(|name| format!("`{name}`"))
        .collect();
    let left_out = if default.is_null() {
        "This section is not set by default"
    } else {
        "If this section is left out, the defaults apply"
    };
    (!names.is_empty()).then(|| format!("{left_out}. If it is written, it needs {}.", names.join(" and ")))
}

fn kind(property: &'static Schema) -> String {
    if is_secret(property) {
        return "secret".to_owned();
    }
    let kinds: Vec<String> = alternatives(property).into_iter().filter_map(kind_of).collect();
    kinds.join(" or ")
}

fn kind_of(schema: &'static Schema) -> Option<String> {
    let named = match schema.get("format").and_then(Schema::as_str) {
        Some("time-span") => Some("duration"),
        Some("byte-size") => Some("size"),
        Some("rate") => Some("rate"),
        Some("ip-network") => Some("address or CIDR block"),
        Some("socket-address") => Some("address and port"),
        _ => None,
    };
    let is = |name: &str| {
        let kind = schema.get("type");
        kind.and_then(Schema::as_str) == Some(name)
            || kind.and_then(Schema::as_array).is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
    };
    Some(match named {
        Some(name) => name.to_owned(),
        None if is_template(schema) => "JSON with placeholders".to_owned(),
        None if !words(schema).is_empty() => "word".to_owned(),
        None if is("array") => {
            format!("list of {}", plural(&schema.get("items").map(kind).unwrap_or_default()))
        }
        None if free_values(schema).is_some() => "sections by name".to_owned(),
        None if properties(schema).next().is_some() => "section".to_owned(),
        None if is("integer") => whole_number(schema),
        None if is("boolean") => "`true` or `false`".to_owned(),
        None if is("string") => "text".to_owned(),
        None => return None,
    })
}

fn plural(kinds: &str) -> String {
    let plurals = kinds
        .split(" or ")
        .map(|kind| if kind == "address" { "addresses".to_owned() } else { format!("{kind}s") });
    plurals.collect::<Vec<_>>().join(" or ")
}

/// The path that the keys below a key start with.
fn below(key: &SchemaKey) -> String {
    let alternatives = alternatives(key.property);
    let is_list = alternatives.iter().any(|schema| schema.get("items").is_some());
    let is_named = alternatives.iter().any(|schema| free_values(schema).is_some());
    format!(
        "{}{}",
        key.path,
        if is_list {
            "[]"
        } else if is_named {
            ".<name>"
        } else {
            ""
        }
    )
}

fn is_child(key: &SchemaKey, prefix: &str) -> bool {
    let rest = if prefix.is_empty() {
        Some(key.path.as_str())
    } else {
        key.path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'))
    };
    rest == Some(key.name)
}
