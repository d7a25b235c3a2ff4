//! What is wrong with a file that is not YAML, or not the part of YAML we use.

use serde_saphyr::granit_parser::{ErrorKind, ScanError, Span};

use super::report::Position;

/// Why a file is no tree; the first problem only, for what follows cannot be trusted.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) reason: String,
    pub(super) hint: Option<&'static str>,
}

/// Where a value starts.
pub(super) fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

/// Refuses what stands at `span`.
pub(super) fn refuse(span: Span, reason: impl Into<String>, hint: &'static str) -> SyntaxError {
    SyntaxError { at: position(span), reason: reason.into(), hint: Some(hint) }
}

/// Says a parser's complaint in the words of somebody who edits the file. Repeats no text of it: it may be a secret.
pub(super) fn explain(error: &ScanError) -> SyntaxError {
    let (reason, hint) = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => ("a tab in the indentation", "indent with spaces"),
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::MappingKeyNotAllowed => (
            "no key can stand here",
            "check the indentation, the space after each `:` and open brackets above, and put text with `: ` in quotes",
        ),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::SimpleKeyExpected | ErrorKind::InvalidIndentation => {
            (
                "a key is expected here",
                "indent it like its neighbours, write a space after its `:`, and put text that starts with `[` or `{` in quotes",
            )
        }
        ErrorKind::ExpectedBlockSequenceEntry => {
            ("a list item is expected here", "start it with `- `, indented like its neighbours")
        }
        ErrorKind::BlockSequenceEntryNotAllowed | ErrorKind::BlockEntryInFlowCollection => (
            "a list item cannot start here",
            "write it on a line of its own below the key, or the list in brackets",
        ),
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence => {
            ("brackets do not match, or a `,` is missing", "look for the bracket that was opened before this")
        }
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => {
            ("a quote is not closed", "look for the quote that was opened before this")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
            "text after the closing quote",
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
        ErrorKind::RecursionLimitExceeded => ("nested too deeply", "a configuration is flatter"),
        kind => {
            return SyntaxError { at: mark(error), reason: format!("not valid YAML: {kind}"), hint: None };
        }
    };
    SyntaxError { at: mark(error), reason: reason.to_owned(), hint: Some(hint) }
}

fn mark(error: &ScanError) -> Position {
    Position { line: error.marker().line(), column: error.marker().col() + 1 }
}
