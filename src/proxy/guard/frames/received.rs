//! The frames that a client of HTTP/2 sends: how many requests it opened and took back, and
//! trailers that have a pseudo-header field.
//!
//! The HTTP/2 library drops such a field silently, but RFC 9113 §8.1 calls the request malformed.
//! So the flag that the stream ends is removed from such trailers: the library resets a stream
//! whose trailers do not end it.

use super::header_block::HeaderBlocks;

/// Bytes of the preface; RFC 9113 §3.4.
const PREFACE: usize = 24;
/// Bytes of a frame's head; RFC 9113 §4.1.
pub(super) const HEAD: usize = 9;
/// Most bytes of trailers, with the heads of their frames. Longer ones are malformed.
const MAX_TRAILERS: usize = 16 * 1024;

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
/// The setting of the size of the table of header fields; RFC 9113 §6.5.2.
const HEADER_TABLE_SIZE: u16 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Reads the frames of one connection, in pieces of any length.
#[derive(Debug)]
pub(super) struct ReceivedFrames {
    place: FramePlace,
    last_stream: u32,
    /// Whether a header block opens a stream and goes on.
    is_opening: bool,
    opened: u64,
    /// Whether the library has a request that it was not asked for yet, and another one waits.
    has_unaccepted: bool,
    holds_request: bool,
    /// Whether the client has reset a stream. Then no request waits: the library counts those that
    /// were reset before they were accepted, and ends the connection of a flood of them.
    has_reset: bool,
    settings: Option<Settings>,
    table_size: Option<TableSize>,
    taken_back: u64,
    blocks: HeaderBlocks,
}

/// The size of the table of header fields that a client sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableSize {
    pub(super) size: u32,
    /// Whether no request came before.
    pub(super) is_first: bool,
}

/// The part of a SETTINGS frame that has arrived: each setting takes six bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    setting: [u8; 6],
    length: usize,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    stream: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum FramePlace {
    Preface { left: usize },
    FrameStart,
    Payload { left: usize, block: Option<BlockPart> },
}

/// The part of a header block that a frame has.
#[derive(Clone, Copy, Debug)]
struct BlockPart {
    /// Whether the length of the padding comes first.
    has_padding_length: bool,
    /// Bytes before the part: the priority.
    skipped: usize,
    /// Bytes after the part.
    padding: usize,
    /// Whether the block ends with the part.
    is_last: bool,
}

/// How much of a request's trailers has arrived.
enum Trailers {
    /// So many bytes, which are all of them.
    Whole(usize),
    Unfinished,
    TooLong,
}

impl ReceivedFrames {
    pub(super) const fn new(blocks: HeaderBlocks) -> Self {
        Self {
            place: FramePlace::Preface { left: PREFACE },
            last_stream: 0,
            is_opening: false,
            opened: 0,
            has_unaccepted: false,
            holds_request: false,
            has_reset: false,
            settings: None,
            table_size: None,
            taken_back: 0,
            blocks,
        }
    }

    /// The last stream that the client opened.
    pub(super) const fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Whether a request waits until the one before it was accepted, so that it is known which
    /// stream each one has.
    pub(super) const fn holds_request(&self) -> bool {
        self.holds_request
    }

    /// The library was asked for the request that it has.
    pub(super) const fn accept(&mut self) {
        self.has_unaccepted = false;
        self.holds_request = false;
    }

    /// The size of the table that the client has set since this was asked last.
    pub(super) const fn take_table_size(&mut self) -> Option<TableSize> {
        self.table_size.take()
    }

    /// How many requests the client opened.
    pub(super) const fn opened(&self) -> u64 {
        self.opened
    }

    /// How many streams the client reset.
    pub(super) const fn taken_back(&self) -> u64 {
        self.taken_back
    }

    /// Reads on, and changes malformed trailers. Returns how many bytes the library may have. The
    /// others are the beginning of a frame, and must be read again together with the next ones.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let count = match self.place {
                FramePlace::Preface { left } => {
                    let count = left.min(rest.len());
                    self.place = if left == count {
                        FramePlace::FrameStart
                    } else {
                        FramePlace::Preface { left: left - count }
                    };
                    count
                }
                FramePlace::FrameStart => self.begin_frame(rest),
                FramePlace::Payload { left, block } => {
                    let part = rest.get(..left.min(rest.len())).unwrap_or_default();
                    let count = part.len();
                    self.read_payload(part, left, block);
                    count
                }
            };
            if count == 0 {
                break;
            }
            at += count;
        }
        at
    }

    /// Reads the head of a frame, or the whole of a request's trailers. Returns how many bytes that
    /// were; 0 if more must arrive first.
    fn begin_frame(&mut self, bytes: &mut [u8]) -> usize {
        let Some(head) = FrameHead::parse(bytes) else { return 0 };
        if head.kind == HEADERS && head.stream <= self.last_stream {
            match trailers(bytes) {
                Trailers::Whole(length) => {
                    self.read_trailers(bytes.get_mut(..length).unwrap_or_default());
                    return length;
                }
                Trailers::Unfinished => return 0,
                Trailers::TooLong => refuse(bytes),
            }
        }
        self.taken_back += u64::from(head.kind == RST_STREAM);
        if head.kind == HEADERS && head.stream > self.last_stream {
            if self.has_unaccepted && !self.has_reset {
                self.holds_request = true;
                return 0;
            }
            self.last_stream = head.stream;
            self.is_opening = true;
        }
        self.has_reset |= head.kind == RST_STREAM;
        self.settings = (head.kind == SETTINGS && !head.has(ACK)).then(Settings::default);
        self.read_payload(&[], head.length, head.block_part());
        HEAD
    }

    /// Reads a part of a frame's payload, of which so many bytes were left.
    fn read_payload(&mut self, part: &[u8], left: usize, mut block: Option<BlockPart>) {
        let left = left - part.len();
        if let Some(block) = &mut block {
            let fragment = block.fragment(part, left);
            self.blocks.read(fragment);
            if left == 0 && block.is_last {
                self.blocks.end();
                let is_opened = std::mem::take(&mut self.is_opening);
                self.opened += u64::from(is_opened);
                self.has_unaccepted |= is_opened;
            }
        }
        if let Some(settings) = &mut self.settings
            && let Some(size) = settings.read(part)
        {
            self.table_size = Some(TableSize { size, is_first: self.last_stream == 0 });
        }
        self.place = if left == 0 { FramePlace::FrameStart } else { FramePlace::Payload { left, block } };
    }

    /// Reads whole trailers.
    fn read_trailers(&mut self, bytes: &mut [u8]) {
        let mut rest: &[u8] = bytes;
        while let Some(head) = FrameHead::parse(rest) {
            let payload = rest.get(HEAD..HEAD + head.length).unwrap_or_default();
            if let Some(mut block) = head.block_part() {
                self.blocks.read(block.fragment(payload, 0));
            }
            rest = rest.get(HEAD + head.length..).unwrap_or_default();
        }
        if self.blocks.end() {
            refuse(bytes);
        }
    }
}

impl Settings {
    /// Reads on. Returns the size of the table, if it is set.
    fn read(&mut self, part: &[u8]) -> Option<u32> {
        let mut size = None;
        for byte in part {
            if let Some(place) = self.setting.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
            if self.length == self.setting.len() {
                self.length = 0;
                let [high, low, value @ ..] = self.setting;
                if u16::from_be_bytes([high, low]) == HEADER_TABLE_SIZE {
                    size = Some(u32::from_be_bytes(value));
                }
            }
        }
        size
    }
}

impl FrameHead {
    /// Parses the head of a frame; `None` if not all of it has arrived.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, id @ ..] = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low),
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*id) & 0x7fff_ffff,
        })
    }

    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The part of a header block in the frame, RFC 9113 §6.2; `None` if it has none.
    fn block_part(self) -> Option<BlockPart> {
        let is_headers = self.kind == HEADERS;
        (is_headers || self.kind == CONTINUATION).then(|| BlockPart {
            has_padding_length: is_headers && self.has(PADDED),
            skipped: if is_headers && self.has(PRIORITY) { 5 } else { 0 },
            padding: 0,
            is_last: self.has(END_HEADERS),
        })
    }
}

impl BlockPart {
    /// The bytes of the block in a piece of the payload, after which so many bytes are left.
    fn fragment<'b>(&mut self, mut piece: &'b [u8], left: usize) -> &'b [u8] {
        if self.has_padding_length
            && let [length, rest @ ..] = piece
        {
            self.padding = usize::from(*length);
            self.has_padding_length = false;
            piece = rest;
        }
        let skipped = self.skipped.min(piece.len());
        self.skipped -= skipped;
        let piece = piece.get(skipped..).unwrap_or_default();
        let padding = self.padding.saturating_sub(left).min(piece.len());
        piece.get(..piece.len() - padding).unwrap_or_default()
    }
}

/// How much has arrived of trailers, which begin here.
fn trailers(bytes: &[u8]) -> Trailers {
    let mut length = 0;
    loop {
        let head = bytes.get(length..).and_then(FrameHead::parse);
        length += HEAD + head.map_or(0, |head| head.length);
        if length > MAX_TRAILERS {
            return Trailers::TooLong;
        }
        match head {
            Some(head) if head.has(END_HEADERS) && length <= bytes.len() => return Trailers::Whole(length),
            Some(head) if !head.has(END_HEADERS) && length <= bytes.len() => {}
            _ => return Trailers::Unfinished,
        }
    }
}

/// Removes from the head of trailers that the stream ends with them.
fn refuse(bytes: &mut [u8]) {
    if let Some(flags) = bytes.get_mut(4) {
        *flags &= !END_STREAM;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;
    const PREFACE_TEXT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The bytes that the library gets if these arrive in pieces of this length, and how many
    /// requests were opened.
    fn passed(bytes: &[u8], piece: usize) -> (Vec<u8>, u64) {
        let mut frames = ReceivedFrames::new(HeaderBlocks::default());
        let (mut passed, mut held) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            held.extend_from_slice(piece);
            loop {
                let count = frames.read(&mut held);
                passed.extend(held.drain(..count));
                if !frames.holds_request() {
                    break;
                }
                frames.accept();
            }
        }
        passed.extend(held);
        (passed, frames.opened())
    }

    /// Whether the trailers of a request are refused, as the flags of their frame say.
    fn is_refused(request: &[u8], trailers: &[Vec<u8>]) -> bool {
        let before = [PREFACE_TEXT, &frame(4, 0, 0, &[0; 6]), request, &frame(DATA, 0, 1, b"body")].concat();
        let bytes = [&before[..], &trailers.concat()].concat();
        let flags_at = before.len() + 4;
        let mut expected = None;
        for piece in [1, 2, 3, 7, 10, 64, bytes.len()] {
            let (passed, opened) = passed(&bytes, piece);
            assert_eq!((passed.len(), opened), (bytes.len(), 1), "in pieces of {piece}");
            let refused = passed[flags_at] & END_STREAM == 0;
            let mut unchanged = passed;
            unchanged[flags_at] |= END_STREAM;
            assert_eq!(unchanged, bytes, "in pieces of {piece}");
            assert_eq!(*expected.get_or_insert(refused), refused, "in pieces of {piece}");
        }
        expected.unwrap()
    }

    /// A request that adds `:path: /x` to the table, and then `a: b`.
    fn request() -> Vec<u8> {
        frame(HEADERS, END_HEADERS, 1, b"\x82\x86\x41\x01a\x44\x02/x\x40\x01a\x01b")
    }

    #[test]
    fn trailers_with_a_pseudo_header_field_do_not_end_their_stream() {
        let ends = END_HEADERS | END_STREAM;
        for (what, trailers, expected) in [
            ("a field", vec![frame(HEADERS, ends, 1, b"\x00\x01a\x01b")], false),
            ("none", vec![frame(HEADERS, ends, 1, b"")], false),
            ("a field that was added", vec![frame(HEADERS, ends, 1, b"\xbe")], false),
            ("a pseudo-header field", vec![frame(HEADERS, ends, 1, b"\x00\x05:path\x02/y")], true),
            ("one of the static table", vec![frame(HEADERS, ends, 1, b"\x00\x01a\x01b\x82")], true),
            ("one that was added", vec![frame(HEADERS, ends, 1, b"\xbf")], true),
            ("padded", vec![frame(HEADERS, ends | PADDED, 1, b"\x02\x00\x01a\x01b\x82\x82")], false),
            ("padded and one", vec![frame(HEADERS, ends | PADDED, 1, b"\x02\x82\x00\x00")], true),
            (
                "with a priority",
                vec![frame(HEADERS, ends | PRIORITY, 1, b"\x82\x82\x82\x82\x82\x00\x01a\x01b")],
                false,
            ),
            (
                "in several frames",
                vec![
                    frame(HEADERS, END_STREAM, 1, b"\x00\x05:p"),
                    frame(CONTINUATION, 0, 1, b"at"),
                    frame(CONTINUATION, END_HEADERS, 1, b"h\x02/y"),
                ],
                true,
            ),
            (
                "fields in several frames",
                vec![
                    frame(HEADERS, END_STREAM, 1, b"\x00\x01"),
                    frame(CONTINUATION, END_HEADERS, 1, b"a\x01b"),
                ],
                false,
            ),
        ] {
            assert_eq!(is_refused(&request(), &trailers), expected, "{what}");
        }
    }

    #[test]
    fn trailers_that_are_too_long_do_not_end_their_stream_and_are_not_kept() {
        let long = [&b"\x00\x01a\x7f\x80\x7d"[..], &[b'v'; 127 + 16_000]].concat();
        let frames =
            [frame(HEADERS, END_STREAM, 1, &long), frame(CONTINUATION, END_HEADERS, 1, &[0x82; 600])];
        assert!(is_refused(&request(), &frames));

        let mut received = ReceivedFrames::new(HeaderBlocks::default());
        let mut bytes =
            [PREFACE_TEXT, &request(), &frame(HEADERS, END_STREAM, 1, &[0x82; 20_000])[..100]].concat();
        assert_eq!(received.read(&mut bytes), bytes.len());
    }

    #[test]
    fn a_request_waits_until_the_one_before_it_was_accepted() {
        let (first, second) = (request(), frame(HEADERS, END_HEADERS, 3, b"\x82"));
        let body = frame(DATA, 0, 1, b"body");
        let mut bytes = [PREFACE_TEXT, &first, &body, &second].concat();
        let mut frames = ReceivedFrames::new(HeaderBlocks::default());

        let count = frames.read(&mut bytes);

        assert_eq!((count, frames.last_stream()), (bytes.len() - second.len(), 1));
        assert!(frames.holds_request());
        frames.accept();
        assert_eq!((frames.read(&mut bytes[count..]), frames.last_stream()), (second.len(), 3));
        // A flood of requests that are reset is the library's to count.
        let mut flood = [frame(RST_STREAM, 0, 3, &[0; 4]), frame(HEADERS, END_HEADERS, 5, b"\x82")].concat();
        assert_eq!((frames.read(&mut flood), frames.last_stream()), (flood.len(), 5));
    }

    #[test]
    fn the_size_of_the_table_is_noticed() {
        let settings = frame(SETTINGS, 0, 0, b"\0\x02\0\0\0\0\0\x01\0\0\0\x07");
        let acknowledged = frame(SETTINGS, ACK, 0, b"");
        let mut frames = ReceivedFrames::new(HeaderBlocks::default());
        let mut read = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            assert_eq!(frames.read(&mut bytes), bytes.len());
            frames.accept();
            frames.take_table_size()
        };
        let (start, end) = settings.split_at(HEAD + 8);

        assert_eq!(read(&[PREFACE_TEXT, start].concat()), None);
        assert_eq!(read(&[end, &acknowledged].concat()), Some(TableSize { size: 7, is_first: true }));
        assert_eq!(read(&request()), None);
        assert_eq!(read(&settings), Some(TableSize { size: 7, is_first: false }));
    }

    #[test]
    fn requests_are_counted_once_their_header_is_whole() {
        let bytes = [
            PREFACE_TEXT,
            &frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82"),
            &frame(HEADERS, END_STREAM, 3, b"\x82"),
            &frame(CONTINUATION, END_HEADERS, 3, b"\x84"),
            &frame(DATA, 0, 3, b"x"),
            &frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x00\x01a\x01b"),
            &frame(HEADERS, END_HEADERS, 5, b""),
            &frame(HEADERS, 0, 7, b"\x82"),
        ]
        .concat();
        for piece in [1, 5, bytes.len()] {
            assert_eq!(passed(&bytes, piece), (bytes.clone(), 3), "in pieces of {piece}");
        }
    }
}
