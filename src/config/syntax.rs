//! Errors of a file that is not YAML, or uses a part of YAML that is not supported.

use serde_saphyr::granit_parser::{ErrorKind, ScanError, Span};

use super::report::Position;

/// The first syntax error of a file. What follows it cannot be trusted.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) reason: String,
    pub(super) hint: Option<&'static str>,
    /// Whether it can come from any place before it: a quote or a bracket that is not closed.
    pub(super) spreads: bool,
}

impl SyntaxError {
    /// An error that says nothing of other places.
    pub(super) fn new(at: Position, reason: &str, hint: &'static str) -> Self {
        Self { at, reason: reason.to_owned(), hint: Some(hint), spreads: false }
    }
}

/// The place where a value starts.
pub(super) fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

/// An error at `span`.
pub(super) fn error_at(span: Span, reason: impl Into<String>, hint: &'static str) -> SyntaxError {
    SyntaxError { at: position(span), reason: reason.into(), hint: Some(hint), spreads: false }
}

/// Explains a parser's error to the person who edits the file. It repeats no text of the file: the
/// text can be a secret.
pub(super) fn explain(error: &ScanError) -> SyntaxError {
    let (reason, hint) = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => ("there is a tab in the indentation", "indent with spaces"),
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::MappingKeyNotAllowed => (
            "no key is allowed here",
            "check the indentation, the space after each `:`, and the brackets above; put text with `: ` in quotes",
        ),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::SimpleKeyExpected | ErrorKind::InvalidIndentation => {
            (
                "a key is expected here",
                "indent it like its neighbours and write a space after its `:`; put text that starts with `[` or `{` in quotes",
            )
        }
        ErrorKind::ExpectedBlockSequenceEntry => {
            ("a list item is expected here", "start it with `- `, indented like its neighbours")
        }
        ErrorKind::BlockSequenceEntryNotAllowed | ErrorKind::BlockEntryInFlowCollection => (
            "a list item cannot start here",
            "write it on its own line below the key, or write the list in brackets",
        ),
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence => {
            ("brackets do not match, or a `,` is missing", "look for an open bracket before this place")
        }
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => {
            ("a quote is not closed", "look for an open quote before this place")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
            "there is text after the closing quote",
            "write a quote inside single quotes twice (`''`), or use the other kind of quote",
        ),
        ErrorKind::UnknownQuotedScalarEscape => {
            ("`\\` starts an escape in double quotes", "use single quotes, or write `\\\\`")
        }
        ErrorKind::UnknownAnchor | ErrorKind::MissingAnchorOrAliasName => (
            "`*` and `&` start YAML aliases and anchors, and this one names none",
            "put text that starts with `*` or `&` in quotes",
        ),
        ErrorKind::UnexpectedCharacter { .. } => {
            ("a value cannot start with this character", "put the value in quotes")
        }
        ErrorKind::RecursionLimitExceeded => {
            ("the file is nested too deeply", "no section of a configuration is so deep")
        }
        kind => {
            return SyntaxError {
                at: position_of(error),
                reason: format!("not valid YAML: {kind}"),
                hint: None,
                spreads: true,
            };
        }
    };
    let spreads = matches!(
        error.kind(),
        ErrorKind::UnclosedQuotedScalar
            | ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofFlowSequence
    );
    SyntaxError { at: position_of(error), reason: reason.to_owned(), hint: Some(hint), spreads }
}

fn position_of(error: &ScanError) -> Position {
    Position { line: error.marker().line(), column: error.marker().col() + 1 }
}
