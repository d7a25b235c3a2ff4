//! Why a path that backends read in more than one way is refused.

use std::fmt;

use crate::path::{Spelling, Spellings};

/// Why a path that backends read in more than one way is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRefusal {
    /// Every reading leads to this route, which does not allow all of the spellings.
    NotAllowed {
        /// Its position in the configuration.
        route: usize,
        /// What it does not allow.
        missing: Spellings,
    },
    /// The readings lead to different routes, or one of them leads to no route, or to an endpoint
    /// of the gateway. No route may allow such a path.
    ReadingsDiffer(Spellings),
}

/// What the client is told. It names what an operator would have to write.
impl fmt::Display for PathRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { route, missing } => {
                let names: Vec<String> = missing.iter().map(quoted).collect();
                let names = names.join(" and ");
                write!(
                    f,
                    "the path has {missing}, which backends read in different ways: to accept it, add {names} to `routes[{route}].paths.allow`"
                )
            }
            Self::ReadingsDiffer(spellings) => write!(
                f,
                "the path has {spellings}, and not all backends read it as a path of the same route: `routes[].paths.allow` cannot change that"
            ),
        }
    }
}

fn quoted(spelling: Spelling) -> String {
    format!("`{}`", spelling.name())
}
