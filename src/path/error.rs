//! Why a path is refused for its spelling alone.

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// The path has an unescaped character that RFC 3986 §3.3 does not allow, or a backslash, or
    /// `;`. `[` and `]` are allowed.
    #[error("the path has a character that is not allowed there")]
    ForbiddenCharacter,
    /// `%` is not followed by two hexadecimal digits.
    #[error("the path has an incomplete escape")]
    InvalidEscape,
    /// An escape hides a separator, a control character, or the start of another escape.
    #[error("the path has an escaped character that is not allowed there")]
    ForbiddenEscape,
    /// A segment has dots and blanks alone, or some backend reads it as one that has.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Two slashes stand together.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// The unescaped bytes are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
}
