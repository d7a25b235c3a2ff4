//! Spellings of paths that backends read in more than one way, by name.

use std::fmt;

/// A spelling that backends read in more than one way. A route may accept it by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `;`. Servlet containers cut the parameter behind it, or all that follows.
    Semicolon,
    /// `//`. Some backends merge slashes; some read a host behind two slashes at the start.
    EmptySegment,
    /// `%2F`. A separator to backends that decode first, a part of the segment to others.
    EncodedSlash,
    /// `%23`, `%3F`, `%3B`: `#`, `?` and `;` to backends that parse what they decoded once more.
    EncodedReserved,
    /// Characters beyond ASCII without escapes. Some backends read UTF-8, others Latin-1.
    RawUtf8,
    /// Escapes that are not UTF-8, such as those of GBK.
    LegacyEscapes,
}

impl Spelling {
    /// All of them, in the order of the configuration.
    pub const ALL: [Self; 6] = [
        Self::Semicolon,
        Self::EmptySegment,
        Self::EncodedSlash,
        Self::EncodedReserved,
        Self::RawUtf8,
        Self::LegacyEscapes,
    ];

    /// Its name in `routes[].paths.allow`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Semicolon => "semicolon",
            Self::EmptySegment => "empty_segment",
            Self::EncodedSlash => "encoded_slash",
            Self::EncodedReserved => "encoded_reserved",
            Self::RawUtf8 => "raw_utf8",
            Self::LegacyEscapes => "legacy_escapes",
        }
    }

    /// What a path has that is spelled like this.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Semicolon => "a `;`",
            Self::EmptySegment => "an empty segment (`//`)",
            Self::EncodedSlash => "a `%2F`",
            Self::EncodedReserved => "a `%23`, `%3F` or `%3B`",
            Self::RawUtf8 => "a character beyond ASCII that is not escaped",
            Self::LegacyEscapes => "escapes that are not UTF-8",
        }
    }
}

/// A set of spellings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spellings(u8);

impl Spellings {
    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a spelling.
    pub fn insert(&mut self, spelling: Spelling) {
        self.0 |= bit(spelling);
    }

    /// Those of this set that the other one lacks.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Its members, in the order of the configuration.
    pub fn iter(self) -> impl Iterator<Item = Spelling> {
        Spelling::ALL.into_iter().filter(move |spelling| self.0 & bit(*spelling) != 0)
    }
}

impl FromIterator<Spelling> for Spellings {
    fn from_iter<I: IntoIterator<Item = Spelling>>(spellings: I) -> Self {
        let mut set = Self::default();
        spellings.into_iter().for_each(|spelling| set.insert(spelling));
        set
    }
}

const fn bit(spelling: Spelling) -> u8 {
    1 << spelling as u8
}

/// What a path has: `a `;` and a `%2F``.
impl fmt::Display for Spellings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, spelling) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { " and " };
            write!(f, "{separator}{}", spelling.description())?;
        }
        Ok(())
    }
}
