//! Paths of requests: their canonical form, and what backends make of those that have none.

mod ambiguous;
mod canonical;
mod character;
mod decoding;
mod dot_segment;
mod error;
mod folding;
mod piece;
mod spelling;
#[cfg(test)]
mod tests;
mod tree;

pub use self::ambiguous::AmbiguousPath;
pub use self::canonical::{canonicalise, decode};
pub use self::character::is_unreserved;
pub use self::error::PathError;
pub use self::spelling::{Spelling, Spellings};
pub use self::tree::{PathTree, ReadingsDiffer};
