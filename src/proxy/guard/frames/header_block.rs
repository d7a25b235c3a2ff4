//! Whether a header block of HTTP/2 has a pseudo-header field, RFC 9113 §8.3.
//!
//! Reads of a block only what this takes: of HPACK's table, RFC 7541 §2.3, which of its entries are
//! pseudo-header fields. The HTTP/2 library, which reads the same bytes afterwards, ends the
//! connection if they are no header block; so nothing is checked here.

/// Entries of HPACK's static table that are pseudo-header fields; RFC 7541, appendix A.
const STATIC_PSEUDO: std::ops::RangeInclusive<u32> = 1..=14;
/// The first entry of the dynamic table. The last one that was added comes first.
const FIRST_DYNAMIC: u32 = 62;
/// The code of `:` in HPACK's Huffman code, seven bits; RFC 7541, appendix B.
const HUFFMAN_COLON: u8 = 0b101_1100;

/// Reads the header blocks of one connection, in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct HeaderBlocks {
    /// Which of the last 128 added entries are pseudo-header fields; bit 0 is the last one. The
    /// table holds no more: it has 4096 bytes, and an entry takes 32 at least.
    table: u128,
    step: HeaderStep,
    has_pseudo: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeaderStep {
    /// It begins a field.
    #[default]
    Field,
    /// An integer that goes on.
    Integer { of: IntegerOf, value: u32, shift: u32 },
    /// It begins a text.
    Text(Text),
    /// The first byte of a name of this length.
    Name { is_added: bool, is_huffman: bool, length: u32 },
    /// So many bytes, at least one, tell nothing. Then a value, or the next field.
    Skip { left: u32, then: Option<Text> },
}

/// What an integer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IntegerOf {
    /// An entry of the table, which is the field.
    Field,
    /// An entry of the table, which has the field's name; 0: a text has it.
    Name {
        is_added: bool,
    },
    TableSize,
    Length {
        text: Text,
        is_huffman: bool,
    },
}

/// A text of a field that may be added to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name { is_added: bool },
    Value { is_added: bool, is_pseudo: bool },
}

impl HeaderBlocks {
    /// Reads on.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if let HeaderStep::Skip { left, then } = self.step {
                let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.step = skip(left - u32::try_from(skipped).unwrap_or(left), then);
            } else {
                self.step = self.next(*byte);
                bytes = rest;
            }
        }
    }

    /// Ends a block; whether it had a pseudo-header field.
    pub(super) fn end(&mut self) -> bool {
        self.step = HeaderStep::Field;
        std::mem::take(&mut self.has_pseudo)
    }

    /// The step after a byte; RFC 7541 §6.
    fn next(&mut self, byte: u8) -> HeaderStep {
        match self.step {
            HeaderStep::Field => match byte {
                0x80.. => self.begin_integer(IntegerOf::Field, byte, 7),
                0x40.. => self.begin_integer(IntegerOf::Name { is_added: true }, byte, 6),
                0x20.. => self.begin_integer(IntegerOf::TableSize, byte, 5),
                _ => self.begin_integer(IntegerOf::Name { is_added: false }, byte, 4),
            },
            HeaderStep::Integer { of, value, shift } => {
                let more = u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(u32::MAX);
                let value = value.saturating_add(more);
                if byte & 0x80 == 0 {
                    self.end_integer(of, value)
                } else {
                    HeaderStep::Integer { of, value, shift: shift + 7 }
                }
            }
            HeaderStep::Text(text) => {
                let is_huffman = byte & 0x80 != 0;
                self.begin_integer(IntegerOf::Length { text, is_huffman }, byte, 7)
            }
            HeaderStep::Name { is_added, is_huffman, length } => {
                let is_pseudo = if is_huffman { byte >> 1 == HUFFMAN_COLON } else { byte == b':' };
                skip(length - 1, Some(Text::Value { is_added, is_pseudo }))
            }
            skip @ HeaderStep::Skip { .. } => skip,
        }
    }

    /// Begins an integer in the last bits of a byte; RFC 7541 §5.1.
    fn begin_integer(&mut self, of: IntegerOf, byte: u8, bits: u8) -> HeaderStep {
        let most = (1 << bits) - 1;
        match byte & most {
            value if value == most => HeaderStep::Integer { of, value: u32::from(value), shift: 0 },
            value => self.end_integer(of, u32::from(value)),
        }
    }

    fn end_integer(&mut self, of: IntegerOf, value: u32) -> HeaderStep {
        match of {
            IntegerOf::Field => {
                self.has_pseudo |= self.is_pseudo(value);
                HeaderStep::Field
            }
            IntegerOf::TableSize => HeaderStep::Field,
            IntegerOf::Name { is_added } if value == 0 => HeaderStep::Text(Text::Name { is_added }),
            IntegerOf::Name { is_added } => {
                HeaderStep::Text(Text::Value { is_added, is_pseudo: self.is_pseudo(value) })
            }
            IntegerOf::Length { text: Text::Name { is_added }, is_huffman } => match value {
                0 => HeaderStep::Text(Text::Value { is_added, is_pseudo: false }),
                length => HeaderStep::Name { is_added, is_huffman, length },
            },
            IntegerOf::Length { text: Text::Value { is_added, is_pseudo }, .. } => {
                self.has_pseudo |= is_pseudo;
                if is_added {
                    self.table = self.table << 1 | u128::from(is_pseudo);
                }
                skip(value, None)
            }
        }
    }

    fn is_pseudo(&self, entry: u32) -> bool {
        match entry.checked_sub(FIRST_DYNAMIC) {
            Some(age) => self.table.checked_shr(age).is_some_and(|table| table & 1 == 1),
            None => STATIC_PSEUDO.contains(&entry),
        }
    }
}

fn skip(left: u32, then: Option<Text>) -> HeaderStep {
    match (left, then) {
        (0, Some(text)) => HeaderStep::Text(text),
        (0, None) => HeaderStep::Field,
        (left, then) => HeaderStep::Skip { left, then },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(blocks: &mut HeaderBlocks, bytes: &[u8]) -> bool {
        blocks.read(bytes);
        blocks.end()
    }

    #[test]
    fn a_pseudo_header_field_is_seen_in_each_form() {
        for (what, bytes, expected) in [
            ("an entry of the static table, :method GET", &b"\x82"[..], true),
            ("the last one, :status 500", b"\x8e", true),
            ("accept-charset, which comes next", b"\x8f", false),
            ("a value to the name :path", b"\x04\x02/x", true),
            ("a value to the name of a cookie", b"\x0f\x11\x01a", false),
            ("a name as it is", b"\x00\x05:path\x02/x", true),
            ("another name as it is", b"\x00\x04path\x03:/x", false),
            ("never indexed", b"\x10\x05:path\x02/x", true),
            ("added to the table", b"\x40\x05:path\x02/x", true),
            ("a name in Huffman code, :path", b"\x00\x84\xb9\x58\xd3\x3f\x02/x", true),
            (
                "a name in Huffman code, www.example.com",
                b"\x00\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x00",
                false,
            ),
            ("after a long value", &[&b"\x00\x01a\x7f\x81\x01"[..], &[b'v'; 256], b"\x82"].concat(), true),
            ("after a change of the table's size", b"\x3f\xe1\x1f\x82", true),
            ("an empty name", b"\x00\x00\x01:", false),
            ("nothing", b"", false),
        ] {
            assert_eq!(block(&mut HeaderBlocks::default(), bytes), expected, "{what}");
        }
    }

    #[test]
    fn an_entry_that_was_added_is_known_by_its_age() {
        let mut blocks = HeaderBlocks::default();

        assert!(block(&mut blocks, b"\x40\x05:path\x02/x\x40\x01a\x01b\x44\x02/y\x40\x01c\x01d"));

        for (entry, expected) in [(62, false), (63, true), (64, false), (65, true), (66, false), (200, false)]
        {
            let indexed = if entry < 127 { vec![0x80 | entry] } else { vec![0xff, entry - 127] };
            assert_eq!(block(&mut blocks, &indexed), expected, "{entry}");
        }
        // Literal fields with these names.
        assert!(block(&mut blocks, b"\x0f\x30\x01v"));
        assert!(!block(&mut blocks, b"\x0f\x2f\x01v"));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"\x82\x84\x40\x00\x01\x05:a\x3f\x7f"[..])], 0..80),
            cut in 0_usize..80,
        ) {
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let (mut whole, mut pieces) = (HeaderBlocks::default(), HeaderBlocks::default());

            whole.read(&bytes);
            pieces.read(first);
            pieces.read(second);

            prop_assert_eq!((whole.table, whole.step, whole.has_pseudo), (pieces.table, pieces.step, pieces.has_pseudo));
        }
    }
}
