//! The pieces of a path that backends read in more than one way, cut where they disagree.

/// What stands before a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// `/`, for every backend.
    Slash,
    /// A slash to backends that decode it, a part of the segment to the others.
    EncodedSlash,
    /// `;`: some backends cut from here to the next slash, some cut all the rest.
    Parameter,
    /// `?` or `#` once decoded: some backends cut the path here.
    Tail,
    /// Text that some backends read as other text: UTF-8 without escapes, which others read as
    /// Latin-1, and an escape that needs not be one, which others do not decode.
    Doubtful,
    /// Bytes that are no text in the encoding tried. Some backends drop them, some replace each of
    /// them with a character of their own, such as `?`, and some read them in another encoding.
    Undecodable,
}

/// A mark, and the text up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) mark: Mark,
    pub(super) text: String,
}

impl Mark {
    /// Whether it may end a segment.
    pub(super) const fn is_slash(self) -> bool {
        matches!(self, Self::Slash | Self::EncodedSlash)
    }

    /// Whether the segment goes on behind it, for some backends.
    pub(super) const fn is_inside_a_segment(self) -> bool {
        matches!(self, Self::Doubtful | Self::Undecodable)
    }
}
