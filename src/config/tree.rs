//! A YAML file as a tree. Every value has its place in the file.
//!
//! Decides which part of YAML a configuration can use: one document of maps, lists and scalars,
//! with anchors and aliases. Tags are refused, and every key is text. The schema decides what
//! values mean.

use std::collections::HashMap;

use serde_json::{Map, Number};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, options};
use zeroize::Zeroize as _;

use super::report::Position;
use super::syntax::{SyntaxError, error_at, explain, position};

/// Deepest nesting. No section is so deep; the limit bounds the recursion here and in all that
/// walks the tree.
const MAX_DEPTH: usize = 32;

/// Most values in one file, with the values that aliases repeat: aliases of aliases must not fill
/// the memory.
const MAX_NODES: usize = 50_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct YamlNode {
    pub(super) at: Position,
    pub(super) value: YamlValue,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum YamlValue {
    Scalar(Scalar),
    List(Vec<YamlNode>),
    Map(Vec<YamlEntry>),
}

/// A key of a map with its value. A key that is written twice is here twice.
#[derive(Clone, Debug)]
pub(super) struct YamlEntry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: YamlNode,
}

/// A value that is neither a map nor a list.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether it is written without quotes. It can then be a number, a boolean or null.
    pub(super) is_plain: bool,
}

/// The type of a scalar by the core schema of YAML 1.2. Only whole decimal numbers are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Null,
    Boolean(bool),
    Integer(i128),
    /// Any other number: with a fraction, an exponent, a base, or out of range.
    Number,
    Text,
}

impl Scalar {
    pub(super) fn kind(&self) -> ScalarKind {
        match self.text.as_str() {
            _ if !self.is_plain => ScalarKind::Text,
            "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
            "true" | "True" | "TRUE" => ScalarKind::Boolean(true),
            "false" | "False" | "FALSE" => ScalarKind::Boolean(false),
            text => text.parse().ok().filter(|n: &i128| n.to_string() == text).map_or_else(
                || if is_number(text) { ScalarKind::Number } else { ScalarKind::Text },
                ScalarKind::Integer,
            ),
        }
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let based = |prefix, radix| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits: &str| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    let is_decimal =
        unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok();
    is_decimal
        || based("0x", 16)
        || based("0o", 8)
        || matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
}

impl YamlNode {
    /// Erases the texts and keeps the places: a text can be a secret.
    pub(super) fn forget_texts(&mut self) {
        match &mut self.value {
            YamlValue::Scalar(scalar) => scalar.text.zeroize(),
            YamlValue::List(items) => items.iter_mut().for_each(Self::forget_texts),
            YamlValue::Map(entries) => entries.iter_mut().for_each(|entry| entry.node.forget_texts()),
        }
    }

    /// The value for serde. If a key is written twice, the last counts; the check refuses that
    /// before.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            YamlValue::Scalar(scalar) => match scalar.kind() {
                ScalarKind::Null => serde_json::Value::Null,
                ScalarKind::Boolean(value) => value.into(),
                ScalarKind::Integer(number) => {
                    Number::from_i128(number).map_or(serde_json::Value::Null, Into::into)
                }
                ScalarKind::Number | ScalarKind::Text => scalar.text.as_str().into(),
            },
            YamlValue::List(items) => items.iter().map(Self::to_json).collect(),
            YamlValue::Map(entries) => {
                let entries = entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json()));
                entries.collect::<Map<_, _>>().into()
            }
        }
    }
}

/// Parses the one document of `text`; `None` if it is empty.
pub(super) fn parse(text: &str) -> Result<Option<YamlNode>, SyntaxError> {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    Builder { events: parser, anchors: HashMap::new(), nodes: 0 }.document()
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, YamlNode>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn document(mut self) -> Result<Option<YamlNode>, SyntaxError> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(error_at(
                        span,
                        "a second document starts here",
                        "keep one document, without a `---` line",
                    ));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, span)?),
            }
        }
        Ok(root.filter(
            |node: &YamlNode| !matches!(&node.value, YamlValue::Scalar(scalar) if scalar.kind() == ScalarKind::Null),
        ))
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<YamlNode, SyntaxError> {
        self.count(1, span)?;
        if event.tag().is_some() {
            return Err(error_at(
                span,
                "`!` starts a YAML tag, and tags are not supported",
                "put text that starts with `!` in quotes",
            ));
        }
        let at = position(span);
        let (anchor, value) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                (anchor, YamlValue::Scalar(Scalar { text: text.into_owned(), is_plain }))
            }
            Event::SequenceStart(_, anchor, _) => (anchor, YamlValue::List(self.items()?)),
            Event::MappingStart(_, anchor, _) => (anchor, YamlValue::Map(self.entries()?)),
            _ => return Err(error_at(span, "this is not valid YAML", "check the lines above")),
        };
        let node = YamlNode { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn items(&mut self) -> Result<Vec<YamlNode>, SyntaxError> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, span)?);
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<YamlEntry>, SyntaxError> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let YamlValue::Scalar(key) = self.node(event, span)?.value else {
                return Err(error_at(
                    span,
                    "a map or a list is written in the place of a key",
                    "is this a template that was not filled in?",
                ));
            };
            let Some((event, value_span)) = self.next()? else { break };
            let node = self.node(event, value_span)?;
            entries.push(YamlEntry { key: key.text, at: position(span), node });
        }
        Ok(entries)
    }

    /// Repeats an anchored value. The values inside keep their places: an error is fixed there.
    fn alias(&mut self, id: usize, span: Span) -> Result<YamlNode, SyntaxError> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(error_at(
                span,
                "this alias is inside the value that it repeats",
                "write the value out",
            ));
        };
        let node = YamlNode { at: position(span), value: anchored.value.clone() };
        self.count(size(&node), span)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(error_at(
                span,
                format!("the file has more than {MAX_NODES} values"),
                "use fewer aliases",
            ));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, SyntaxError> {
        self.events.next().transpose().map_err(|error| explain(&error))
    }
}

fn size(node: &YamlNode) -> usize {
    match &node.value {
        YamlValue::Scalar(_) => 1,
        YamlValue::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        YamlValue::Map(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.node)).sum::<usize>(),
    }
}
