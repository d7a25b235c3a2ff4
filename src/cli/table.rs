//! Writes the answers of a gateway as columns of text.

use std::fmt::Write as _;

use serde_json::Value;

use super::{CommandOutcome, FAILED};

/// Objects as lines of text. Each column has a title and the key of its values.
pub(super) fn format_columns(columns: &[(&str, &str)], objects: &[Value]) -> String {
    let mut rows = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
    rows.extend(objects.iter().map(|object| {
        let cell = |key| {
            object.get(key).and_then(Value::as_str).map_or_else(|| "-".into(), without_control_characters)
        };
        columns.iter().map(|(_, key)| cell(key)).collect()
    }));
    let mut widths = vec![0; columns.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            _ = write!(line, "{cell:width$}  ");
        }
        _ = writeln!(text, "{}", line.trim_end());
    }
    text.trim_end().to_owned()
}

/// The list under a key of an answer, in columns; `none` is said if it is empty.
pub(super) fn format_list(answer: &[u8], key: &str, columns: &[(&str, &str)], none: &str) -> CommandOutcome {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let Some(objects) = answer.get(key).and_then(Value::as_array) else { return unreadable_answer() };
    if objects.is_empty() {
        return CommandOutcome { messages: none.into(), ..CommandOutcome::default() };
    }
    CommandOutcome::answer(format_columns(columns, objects))
}

/// The text without control characters: they can change what a terminal shows.
pub(super) fn without_control_characters(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

pub(super) fn unreadable_answer() -> CommandOutcome {
    CommandOutcome::failure(FAILED, "menshen: cannot read the gateway's answer: is it of another version?")
}
