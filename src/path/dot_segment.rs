//! Segments that some backend resolves: they name the folder itself, or the one above it.

use super::folding::INVISIBLE;

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
