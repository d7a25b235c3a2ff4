//! The characters of paths.

/// Characters that end a path, a segment or a string for some backend.
pub(super) const fn is_structural(byte: u8) -> bool {
    byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'?' | b'#' | b';')
}

/// An unreserved character, which clients do not encode. See RFC 3986 §2.3.
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 §3.3 without `%`, and `/`; without `;`, which some backends end a segment
/// at; and with `[` and `]`, which browsers do not escape, and which no backend cuts a path at.
pub(super) const fn is_path_character(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'/' | b'!' | b'$' | b'&'..=b',' | b'=' | b':' | b'@' | b'[' | b']')
}

/// The byte that two hexadecimal digits stand for.
pub(super) fn unescape(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}
