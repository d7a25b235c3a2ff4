//! Characters that input methods and web pages write, and YAML does not mean.

/// A character that no screen shows: a no-break space, or one without width. Input methods and web
/// pages write them.
pub(super) const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{2060}' | '\u{feff}'
    )
}

/// The text between quotes that input methods write and YAML does not know; `None` if it could be
/// meant so.
pub(super) fn between_wide_quotes(text: &str) -> Option<&str> {
    const QUOTES: [char; 8] = ['“', '”', '‘', '’', '＂', '＇', '「', '」'];
    let inner = text.strip_prefix(QUOTES)?.strip_suffix(QUOTES)?;
    inner.is_ascii().then_some(inner)
}
