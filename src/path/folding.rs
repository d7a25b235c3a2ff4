//! How backends read a path that fold characters to their plain forms.

use std::borrow::Cow;

use super::character::unescape;

/// Stands for every character that is not shown.
pub(super) const INVISIBLE: char = '\u{200b}';

/// A path as a backend reads it that folds characters to their plain forms (Unicode, NFKC): `．．` is
/// `..` to it, and `／` a slash. Several dots of one character become one, and every blank becomes a
/// space.
pub(super) fn folded(path: &str) -> Cow<'_, str> {
    if path.is_ascii() { Cow::Borrowed(path) } else { path.chars().map(folded_character).collect() }
}

/// As [`folded`], of one character.
pub(super) fn folded_character(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - u32::from('！') + u32::from('!')).unwrap_or(character)
        }
        '․' | '‥' | '…' | '﹒' | '。' | '｡' | '\u{fe12}' | '\u{fe19}' | '\u{fe30}' => '.',
        '\u{37e}' | '﹔' | '\u{fe14}' => ';',
        '﹖' | '⁇' | '\u{fe16}' => '?',
        '﹟' => '#',
        '﹪' => '%',
        // The code pages of Windows fold more of these than NFKC does.
        '﹨' | '∖' => '\\',
        '⁄' | '∕' => '/',
        _ if character.is_whitespace() => ' ',
        _ if is_invisible(character) => INVISIBLE,
        _ => character,
    }
}

/// Whether a character is not shown (`Default_Ignorable_Code_Point`), or is shown as a blank.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a folded text has an escape.
pub(super) fn has_escape(text: &str) -> bool {
    text.as_bytes().windows(3).any(|window| match window {
        [b'%', high, low] => unescape(*high, *low).is_some(),
        _ => false,
    })
}
