//! Paths of requests: their canonical form.

mod canonical;
mod character;
mod dot_segment;
mod error;
mod folding;

pub use self::canonical::{canonicalise, decode};
pub use self::character::is_unreserved;
pub use self::error::PathError;
