//! Segments that some backend resolves: they name the folder itself, or the one above it.

use super::folding::{INVISIBLE, folded, folded_character};

/// Whether a segment of a decoded and folded path has dots and blanks alone, and possibly
/// characters that are not shown. Windows drops trailing dots and blanks, so `/.%20` is `/` there,
/// and `/...` may be `/..`. Tomcat drops what follows `;`.
pub(super) fn has_dot_segment(path: &str) -> bool {
    let is_dot_segment = |segment: &str| {
        let end = segment.find([';', '?', '#']).unwrap_or(segment.len());
        let name = segment.get(..end).unwrap_or(segment);
        let is_empty = !segment.is_empty() && name.is_empty();
        is_empty || name.contains(['.', ' ']) && name.chars().all(|c| matches!(c, '.' | ' ' | INVISIBLE))
    };
    path.split(['/', '\\']).any(is_dot_segment)
}

/// Whether a decoded segment may lead out of its folder: it has dots and blanks alone, and at least
/// two dots.
pub(super) fn climbs(segment: &str) -> bool {
    let dots = |character| match character {
        '…' | '\u{fe19}' => 3,
        '‥' | '\u{fe30}' => 2,
        other => usize::from(folded_character(other) == '.'),
    };
    let is_slash = |character| matches!(folded_character(character), '/' | '\\');
    let is_end = |character| matches!(folded_character(character), ';' | '?' | '#');
    segment
        .split(is_slash)
        .filter_map(|part| part.split(is_end).next())
        .any(|name| is_nothing(name) && name.chars().map(dots).sum::<usize>() > 1)
}

/// Whether a decoded segment is empty, or has dots, blanks and characters that are not shown alone.
pub(super) fn is_nothing(segment: &str) -> bool {
    folded(segment).chars().all(|character| matches!(character, '.' | ' ' | INVISIBLE))
}
