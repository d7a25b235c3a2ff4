//! The tables of `docs/paths.md`, held against the gateway.

use std::fs;

use menshen::path::Spelling;

use super::{try_raw, world};
use crate::common::{Tally, World};

/// A row: the targets, and what happens to them.
struct Row {
    line: String,
    targets: Vec<String>,
    outcome: Outcome,
    /// In `paths.allow`, it lets them through.
    name: Option<String>,
}

enum Outcome {
    Refused,
    /// With this target, or as it came.
    Forwarded(Option<String>),
}

#[test]
fn every_row_of_the_document_is_what_the_gateway_does() {
    let strict = one_route("");
    let mut tally = Tally::default();
    let mut names = Vec::new();
    for row in rows() {
        for target in &row.targets {
            let expected = match &row.outcome {
                Outcome::Refused => None,
                Outcome::Forwarded(other) => Some(other.as_ref().unwrap_or(target).as_str()),
            };
            assert_outcome(&strict, target, expected, &row.line, &mut tally);
        }
        let Some(name) = row.name else { continue };
        let (with, others) = (one_route(&name), one_route(&all_but(&name)));
        for target in &row.targets {
            assert_outcome(&with, target, Some(target), &row.line, &mut tally);
            assert_outcome(&others, target, None, &row.line, &mut tally);
        }
        names.push(name);
    }
    assert_eq!(names, Spelling::ALL.map(Spelling::name), "one row for each name");
    tally.report("paths: the document");
    assert!(tally.inputs > 80, "{} targets", tally.inputs);
}

/// What cannot be relaxed is refused with every spelling accepted.
#[test]
fn what_the_document_says_cannot_be_relaxed_is_refused_where_every_spelling_is_accepted() {
    let relaxed = one_route(&all_but(""));
    let mut tally = Tally::default();
    for row in rows().iter().filter(|row| row.line.contains("cannot be relaxed")) {
        for target in &row.targets {
            assert_outcome(&relaxed, target, None, &row.line, &mut tally);
        }
    }
    assert!(tally.inputs > 30, "{} targets", tally.inputs);
}

fn one_route(allow: &str) -> World {
    world(&format!(
        "
routes:
  - {{ path: /, access: public, upstream: backend, paths: {{ allow: [{allow}] }} }}
listeners:
  - {{ address: 127.0.0.1:0 }}
"
    ))
}

fn all_but(name: &str) -> String {
    let names = Spelling::ALL.into_iter().map(Spelling::name).filter(|other| *other != name);
    Vec::from_iter(names).join(", ")
}

fn assert_outcome(world: &World, target: &str, expected: Option<&str>, line: &str, tally: &mut Tally) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    let (status, reached) = try_raw(world, request.as_bytes());
    tally.add(status, usize::from(reached.is_some()));
    assert_eq!(reached.as_deref(), expected, "{target}: {status}\n{line}");
    assert_eq!(status, if expected.is_some() { 200 } else { 400 }, "{target}\n{line}");
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string("docs/paths.md").unwrap();
    let rows: Vec<Row> = text.lines().filter(|line| line.starts_with("| `")).map(row).collect();
    assert!(rows.len() > 25, "{} rows", rows.len());
    rows
}

fn row(line: &str) -> Row {
    // `\|` is a `|` in a cell.
    let line = line.replace("\\|", "\u{0}");
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let outcome = match cells[1] {
        "400" => Outcome::Refused,
        "forwarded" => Outcome::Forwarded(None),
        other => Outcome::Forwarded(Some(code(other.strip_prefix("forwarded as ").unwrap()).remove(0))),
    };
    let name = cells.get(3).filter(|_| matches!(outcome, Outcome::Refused));
    let name = name.and_then(|cell| code(cell).into_iter().next());
    Row { targets: code(cells[0]), outcome, name, line: line.replace('\u{0}', "|") }
}

/// The texts between backticks.
fn code(cell: &str) -> Vec<String> {
    Vec::from_iter(cell.split('`').skip(1).step_by(2).map(|text| text.replace('\u{0}', "|")))
}
