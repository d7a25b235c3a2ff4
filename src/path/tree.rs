//! Values at paths: which one is nearest to a path, from the root on, in whole segments.

use std::collections::{HashMap, HashSet};
use std::ptr;

use super::ambiguous::AmbiguousPath;
use super::dot_segment::is_nothing;
use super::piece::{Mark, Piece};

/// Values at paths.
#[derive(Debug)]
pub struct PathTree<T> {
    root: Node<T>,
}

/// Not all readings of a path lead to the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingsDiffer;

#[derive(Debug)]
struct Node<T> {
    value: Option<T>,
    /// By the name of the segment, decoded.
    children: HashMap<Box<str>, Self>,
}

impl<T> PathTree<T> {
    /// The value at a path, decoded and without a slash at the end; `None` if it has none yet.
    pub fn entry(&mut self, path: &str) -> &mut Option<T> {
        let mut node = &mut self.root;
        for segment in path.split('/').skip(1) {
            node = node.children.entry(segment.into()).or_default();
        }
        &mut node.value
    }

    /// The value at the longest path that this one is at or below, in whole segments: `/api` never
    /// serves `/apix`. The path is decoded.
    pub fn find(&self, path: &str) -> Option<&T> {
        let mut node = &self.root;
        let mut found = node.value.as_ref();
        for segment in path.split('/').skip(1) {
            let Some(child) = node.children.get(segment) else { break };
            node = child;
            found = node.value.as_ref().or(found);
        }
        found
    }

    /// As [`PathTree::find`], for every way in which a backend may read the path.
    ///
    /// # Errors
    /// [`ReadingsDiffer`] if one of them finds another value, or none.
    pub fn find_in_every_reading(&self, path: &AmbiguousPath) -> Result<Option<&T>, ReadingsDiffer> {
        let mut found = FoundValue(None);
        for pieces in path.versions() {
            Walk::new(pieces, &self.root, &mut found).run()?;
        }
        Ok(found.0.flatten())
    }
}

impl<T> Default for PathTree<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { value: None, children: HashMap::new() }
    }
}

/// What every reading has found so far; the outer `None`: no reading has ended.
struct FoundValue<'t, T>(Option<Option<&'t T>>);

impl<'t, T> FoundValue<'t, T> {
    fn add(&mut self, value: Option<&'t T>) -> Result<(), ReadingsDiffer> {
        let known = *self.0.get_or_insert(value);
        let is_same = match (known, value) {
            (Some(known), Some(value)) => ptr::eq(known, value),
            (None, None) => true,
            _ => false,
        };
        if is_same { Ok(()) } else { Err(ReadingsDiffer) }
    }
}

/// All readings of one version of a path at once. A segment that keeps a mark is the name of no
/// node, for such a name has no route: that reading ends there. Readings that have come to the same
/// piece and node go on as one, so the time grows with the length of the path alone.
struct Walk<'t, 'p, T> {
    pieces: &'p [Piece],
    /// For each piece, the next one at or behind it that begins with a slash, and with a slash that
    /// is not escaped.
    next_slash: Vec<(Option<usize>, Option<usize>)>,
    waiting: Vec<Reading<'t, T>>,
    begun: HashSet<(usize, *const Node<T>, bool)>,
    found: &'p mut FoundValue<'t, T>,
}

/// Where readings are: before a segment.
struct Reading<'t, T> {
    /// The piece that the segment begins with.
    piece: usize,
    node: &'t Node<T>,
    /// The nearest value so far.
    value: Option<&'t T>,
    /// Whether no segment was read yet.
    is_at_start: bool,
}

impl<'t, 'p, T> Walk<'t, 'p, T> {
    fn new(pieces: &'p [Piece], root: &'t Node<T>, found: &'p mut FoundValue<'t, T>) -> Self {
        let mut next_slash = Vec::with_capacity(pieces.len());
        let (mut any, mut plain) = (None, None);
        for (position, piece) in pieces.iter().enumerate().rev() {
            if piece.mark.is_slash() {
                any = Some(position);
            }
            if piece.mark == Mark::Slash {
                plain = Some(position);
            }
            next_slash.push((any, plain));
        }
        next_slash.reverse();
        let start = Reading { piece: 0, node: root, value: root.value.as_ref(), is_at_start: true };
        Self { pieces, next_slash, waiting: vec![start], begun: HashSet::new(), found }
    }

    fn run(mut self) -> Result<(), ReadingsDiffer> {
        while let Some(reading) = self.waiting.pop() {
            self.read_segment(&reading)?;
        }
        Ok(())
    }

    fn read_segment(&mut self, reading: &Reading<'t, T>) -> Result<(), ReadingsDiffer> {
        let mut text = self.pieces.get(reading.piece).map(|piece| piece.text.clone()).unwrap_or_default();
        for at in reading.piece + 1.. {
            let Some(piece) = self.pieces.get(at) else { return self.end_path(reading, &text) };
            if piece.mark == Mark::Slash {
                return self.end_segment(reading, &text, at);
            }
            // Some backend keeps the mark in the segment.
            self.found.add(reading.value)?;
            match piece.mark {
                Mark::Slash => {}
                Mark::EncodedSlash => return self.end_segment(reading, &text, at),
                Mark::Tail => return self.end_path(reading, &text),
                Mark::Parameter => {
                    self.end_path(reading, &text)?;
                    return self.cut_to_slash(reading, &text, at);
                }
                Mark::Doubtful | Mark::Undecodable => {
                    self.end_path(reading, &text)?;
                    if piece.mark == Mark::Undecodable && may_be_a_child(reading.node, &text) {
                        return Err(ReadingsDiffer);
                    }
                    text.push_str(&piece.text);
                }
            }
        }
        Ok(())
    }

    /// The path ends with this segment.
    fn end_path(&mut self, reading: &Reading<'t, T>, text: &str) -> Result<(), ReadingsDiffer> {
        let child = reading.node.children.get(text);
        self.found.add(child.and_then(|child| child.value.as_ref()).or(reading.value))
    }

    /// The segment ends before this piece, and the next one begins with it.
    fn end_segment(&mut self, reading: &Reading<'t, T>, text: &str, at: usize) -> Result<(), ReadingsDiffer> {
        if is_nothing(text) {
            // Kept by some backends, and no name of a node; merged by others.
            self.found.add(reading.value)?;
            self.begin(Reading { piece: at, ..*reading })?;
            return if reading.is_at_start { self.skip_host(reading, at) } else { Ok(()) };
        }
        match reading.node.children.get(text) {
            None => self.found.add(reading.value),
            Some(node) => {
                let value = node.value.as_ref().or(reading.value);
                self.begin(Reading { piece: at, node, value, is_at_start: false })
            }
        }
    }

    /// The segment ends at a parameter, which goes on to the next slash.
    fn cut_to_slash(
        &mut self,
        reading: &Reading<'t, T>,
        text: &str,
        at: usize,
    ) -> Result<(), ReadingsDiffer> {
        let (any, plain) = self.next_slash.get(at).copied().unwrap_or_default();
        for next in [any, plain].into_iter().flatten() {
            self.end_segment(reading, text, next)?;
        }
        Ok(())
    }

    /// Two slashes at the start: what follows them is a host to a backend that parses the path as a
    /// URL. It may do so twice.
    fn skip_host(&mut self, reading: &Reading<'t, T>, host: usize) -> Result<(), ReadingsDiffer> {
        let (any, plain) = self.next_slash.get(host + 1).copied().unwrap_or_default();
        for next in [any, plain] {
            match next {
                Some(piece) => self.begin(Reading { piece, ..*reading })?,
                None => self.found.add(reading.value)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self, reading: Reading<'t, T>) -> Result<(), ReadingsDiffer> {
        if reading.node.children.is_empty() {
            // Whatever follows, there is nothing below.
            return self.found.add(reading.value);
        }
        if self.begun.insert((reading.piece, ptr::from_ref(reading.node), reading.is_at_start)) {
            self.waiting.push(reading);
        }
        Ok(())
    }
}

/// Whether bytes that are not UTF-8 may be, in some encoding, the rest of a name that begins with
/// this text.
fn may_be_a_child<T>(node: &Node<T>, text: &str) -> bool {
    node.children.keys().any(|name| !name.is_ascii() && name.starts_with(text))
}
