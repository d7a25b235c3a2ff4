//! A path that backends read in more than one way, taken apart where their readings differ.
//!
//! What no backend needs is refused here, whatever a route accepts: dot segments in any reading,
//! backslashes, control characters, and escapes of escapes. [`PathTree`](super::PathTree) finds out
//! whether all readings lead to one place.

use super::character::{is_path_character, is_unreserved, unescape};
use super::decoding::{self, Decoding, begin};
use super::dot_segment::{climbs, has_dot_segment};
use super::error::PathError;
use super::folding::{folded, has_escape};
use super::piece::{Mark, Piece};
use super::spelling::{Spelling, Spellings};

/// A path with at least one [`Spelling`] that backends read in more than one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbiguousPath {
    spellings: Spellings,
    /// For each way to decode the path, its pieces. There is at least one piece: paths begin with a
    /// slash.
    versions: Vec<Vec<Piece>>,
}

/// A byte of a path, decoded once, or a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A byte of text.
    Text(u8),
    /// A byte of text that was escaped without need. RFC 3986 §2.3 says that it means the same, and
    /// a canonical path has none; but this path is forwarded as it came, and some backends match
    /// routes before they decode.
    Escaped(u8),
    /// A `%` of the text, which was escaped.
    Percent,
    /// A byte beyond ASCII that was not escaped.
    Raw(u8),
    Mark(Mark),
}

impl AmbiguousPath {
    /// Takes apart a raw path (without query) that is not canonical.
    ///
    /// # Errors
    /// [`PathError`] if no route may accept the path.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let (units, mut spellings) = units(raw)?;
        refuse_escaped_escapes(&units)?;
        let mut versions = vec![pieces(&units, decoding::utf8, Doubts::Marked)];
        let is_legacy = versions.iter().flatten().any(|piece| piece.mark == Mark::Undecodable);
        if is_legacy {
            spellings.insert(Spelling::LegacyEscapes);
            versions.push(pieces(&units, decoding::overlong_utf8, Doubts::Ignored));
            versions.push(pieces(&units, decoding::folded_gbk, Doubts::Ignored));
        }
        for version in &versions {
            refuse_dot_segments(version)?;
        }
        Ok(Self { spellings, versions })
    }

    /// The spellings that a route must accept.
    pub const fn spellings(&self) -> Spellings {
        self.spellings
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = &[Piece]> {
        self.versions.iter().map(Vec::as_slice)
    }
}

fn units(raw: &str) -> Result<(Vec<Unit>, Spellings), PathError> {
    let mut units = Vec::with_capacity(raw.len());
    let mut spellings = Spellings::default();
    let mut rest = raw.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let unit = match *byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else { return Err(PathError::InvalidEscape) };
                rest = tail;
                escaped(unescape(*high, *low).ok_or(PathError::InvalidEscape)?, &mut spellings)?
            }
            b'/' => {
                // `/%2F` is no empty segment to a backend that keeps the escape.
                if units.last() == Some(&Unit::Mark(Mark::Slash)) {
                    spellings.insert(Spelling::EmptySegment);
                }
                Unit::Mark(Mark::Slash)
            }
            b';' => {
                spellings.insert(Spelling::Semicolon);
                Unit::Mark(Mark::Parameter)
            }
            raw @ 0x80.. => {
                spellings.insert(Spelling::RawUtf8);
                Unit::Raw(raw)
            }
            text if is_path_character(text) => Unit::Text(text),
            _ => return Err(PathError::ForbiddenCharacter),
        };
        units.push(unit);
    }
    Ok((units, spellings))
}

/// What an escape of this byte stands for.
fn escaped(byte: u8, spellings: &mut Spellings) -> Result<Unit, PathError> {
    let (spelling, mark) = match byte {
        b'\\' => return Err(PathError::ForbiddenEscape),
        control if control.is_ascii_control() => return Err(PathError::ForbiddenEscape),
        b'/' => (Spelling::EncodedSlash, Mark::EncodedSlash),
        b';' => (Spelling::EncodedReserved, Mark::Parameter),
        b'?' | b'#' => (Spelling::EncodedReserved, Mark::Tail),
        b'%' => return Ok(Unit::Percent),
        unreserved if is_unreserved(unreserved) => return Ok(Unit::Escaped(unreserved)),
        text => return Ok(Unit::Text(text)),
    };
    spellings.insert(spelling);
    Ok(Unit::Mark(mark))
}

/// Refuses what is an escape again once it was decoded, also for a backend that drops bytes beyond
/// ASCII.
fn refuse_escaped_escapes(units: &[Unit]) -> Result<(), PathError> {
    let is_digit = |unit: Option<&Unit>| matches!(unit, Some(Unit::Text(byte) | Unit::Escaped(byte)) if byte.is_ascii_hexdigit());
    for (position, _) in units.iter().enumerate().filter(|(_, unit)| **unit == Unit::Percent) {
        let rest = units.iter().skip(position + 1);
        let mut rest = rest.filter(|unit| !matches!(unit, Unit::Raw(_) | Unit::Text(0x80..)));
        if is_digit(rest.next()) && is_digit(rest.next()) {
            return Err(PathError::ForbiddenEscape);
        }
    }
    Ok(())
}

/// Whether text that some backends read as other text is a piece of its own. One version with such
/// pieces suffices; in the others, bytes that belong together must not be parted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubts {
    Marked,
    Ignored,
}

fn pieces(units: &[Unit], decode: Decoding, doubts: Doubts) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut is_doubtful = false;
    for unit in units {
        let is_in_doubt = doubts == Doubts::Marked && matches!(unit, Unit::Raw(_) | Unit::Escaped(_));
        let was_doubtful = std::mem::replace(&mut is_doubtful, is_in_doubt);
        let mark = match unit {
            Unit::Mark(mark) => Some(*mark),
            _ if is_doubtful && !was_doubtful => Some(Mark::Doubtful),
            _ => None,
        };
        if let Some(mark) = mark {
            decode(&text, &mut pieces);
            text.clear();
            begin(mark, &mut pieces);
        }
        match unit {
            Unit::Text(byte) | Unit::Escaped(byte) | Unit::Raw(byte) => text.push(*byte),
            Unit::Percent => text.push(b'%'),
            Unit::Mark(_) => {}
        }
    }
    decode(&text, &mut pieces);
    pieces
}

/// Refuses dot segments, wherever a backend might see a segment begin or end, and escapes that come
/// of folding.
fn refuse_dot_segments(pieces: &[Piece]) -> Result<(), PathError> {
    for segment in pieces.chunk_by(|_, next| next.mark.is_inside_a_segment()) {
        let whole: String = segment.iter().map(|piece| piece.text.as_str()).collect();
        let cut: String = segment
            .iter()
            .take_while(|piece| piece.mark != Mark::Undecodable)
            .map(|piece| piece.text.as_str())
            .collect();
        let is_text = segment.iter().all(|piece| piece.mark != Mark::Undecodable);
        // A single dot beside bytes that are dropped names the folder that the segment is in.
        let folded = folded(&whole);
        if !whole.is_ascii() && has_escape(&folded) {
            return Err(PathError::ForbiddenEscape);
        }
        let is_refused = if is_text { has_dot_segment(&folded) } else { climbs(&whole) || climbs(&cut) };
        if is_refused {
            return Err(PathError::DotSegment);
        }
    }
    Ok(())
}
