//! The ways in which backends make text of the bytes of a path.

use super::character::is_structural;
use super::piece::{Mark, Piece};

/// A way to make text of bytes: adds to the last piece, and begins others.
pub(super) type Decoding = fn(&[u8], &mut Vec<Piece>);

/// UTF-8, as RFC 3629 has it. What is not UTF-8 is undecodable.
pub(super) fn utf8(bytes: &[u8], pieces: &mut Vec<Piece>) {
    for chunk in bytes.utf8_chunks() {
        push_text(chunk.valid(), pieces);
        if !chunk.invalid().is_empty() {
            begin(Mark::Undecodable, pieces);
        }
    }
}

/// UTF-8 of a decoder that takes overlong forms: `C0 AF` is a slash.
pub(super) fn overlong_utf8(bytes: &[u8], pieces: &mut Vec<Piece>) {
    let mut rest = bytes;
    let mut plain = Vec::new();
    while let [byte, tail @ ..] = rest {
        if let Some((character, length)) = overlong(rest) {
            utf8(&plain, pieces);
            plain.clear();
            push_ascii(character, pieces);
            rest = rest.get(length..).unwrap_or_default();
        } else {
            plain.push(*byte);
            rest = tail;
        }
    }
    utf8(&plain, pieces);
}

/// GBK, of a backend that folds full-width forms: `A3 AF` is a slash. No other character of GBK is
/// one that a path is cut at, so the others are undecodable, and which they are does not matter.
pub(super) fn folded_gbk(bytes: &[u8], pieces: &mut Vec<Piece>) {
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = match (*byte, tail) {
            (0xA3, [second @ 0xA1..=0xFE, tail @ ..]) => {
                push_ascii(second - 0x80, pieces);
                tail
            }
            (0xA1, [0xA1, tail @ ..]) => {
                push_ascii(b' ', pieces);
                tail
            }
            (0xA1, [0xA3, tail @ ..]) => {
                push_ascii(b'.', pieces);
                tail
            }
            (0xA1, [0xAD, tail @ ..]) => {
                push_text("...", pieces);
                tail
            }
            (0x81..=0xFE, [0x40..=0x7E | 0x80..=0xFE, tail @ ..]) => {
                begin(Mark::Undecodable, pieces);
                tail
            }
            (0x80.., _) => {
                begin(Mark::Undecodable, pieces);
                tail
            }
            (ascii, _) => {
                push_ascii(ascii, pieces);
                tail
            }
        };
    }
}

/// The ASCII character that the bytes begin with in an overlong form, and the form's length.
fn overlong(bytes: &[u8]) -> Option<(u8, usize)> {
    let (first, rest) = bytes.split_first()?;
    let (more, bits) = match first {
        0xC0..=0xDF => (1, first & 0x1F),
        0xE0..=0xEF => (2, first & 0x0F),
        0xF0..=0xF7 => (3, first & 0x07),
        0xF8..=0xFB => (4, first & 0x03),
        0xFC..=0xFD => (5, first & 0x01),
        _ => return None,
    };
    let rest = rest.get(..more)?;
    let is_continued = rest.iter().all(|byte| (0x80..=0xBF).contains(byte));
    let value = rest.iter().fold(u32::from(bits), |value, byte| value << 6 | u32::from(byte & 0x3F));
    let character = u8::try_from(value).ok().filter(u8::is_ascii)?;
    is_continued.then_some((character, more + 1))
}

/// Adds a character, or begins the piece behind it.
fn push_ascii(character: u8, pieces: &mut Vec<Piece>) {
    match character {
        b'/' | b'\\' => begin(Mark::EncodedSlash, pieces),
        b';' => begin(Mark::Parameter, pieces),
        structural if is_structural(structural) => begin(Mark::Tail, pieces),
        other => push_text(char::from(other).encode_utf8(&mut [0; 4]), pieces),
    }
}

fn push_text(text: &str, pieces: &mut [Piece]) {
    if let Some(last) = pieces.last_mut() {
        last.text.push_str(text);
    }
}

/// Begins another piece.
pub(super) fn begin(mark: Mark, pieces: &mut Vec<Piece>) {
    pieces.push(Piece { mark, text: String::new() });
}
