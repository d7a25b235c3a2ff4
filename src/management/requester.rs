//! Who asked for something, as the logs name them.

use std::fmt;
use std::net::IpAddr;

/// Who asked for something: an operator, or a program of the business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The door that the request came through.
    pub door: Door,
    /// The name in the logs. A program has its name in the configuration, an operator the user id
    /// of their process, such as `uid:0`.
    pub name: String,
    /// The address, if the request came over a network.
    pub address: Option<IpAddr>,
}

/// A door that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket of the operators.
    Control,
    /// The listener of the programs of the business.
    Internal,
}

impl Door {
    /// The word in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.door {
            Door::Control => f.write_str("an operator"),
            Door::Internal => write!(f, "the client `{}`", self.name),
        }
    }
}
