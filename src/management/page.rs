//! The pages about sessions and people: their paths and methods.

use http::Method;

use super::answer::ManagementAnswer;
use crate::config::InternalPermission;

/// A page about sessions or people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementPage {
    /// Lists the sessions of a person.
    Sessions,
    /// Ends sessions.
    RevokeSessions,
    /// Blocks a person.
    Block,
    /// Lifts a block.
    Unblock,
    /// Lists the blocked people.
    Blocked,
    /// Binds a person to a user.
    Bind,
    /// Ends a binding.
    Unbind,
    /// Shows the user that a person is bound to.
    Bound,
    /// Shows the hash that stands for a person in the logs.
    Hash,
    /// Lists who is bound to a user, or to any.
    Bindings,
    /// Shows what the store knows about a person.
    Person,
    /// Erases a person.
    Erase,
}

impl ManagementPage {
    /// The page at a path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/sessions" => Some(Self::Sessions),
            "/sessions/revoke" => Some(Self::RevokeSessions),
            "/people/block" => Some(Self::Block),
            "/people/unblock" => Some(Self::Unblock),
            "/people/blocked" => Some(Self::Blocked),
            "/people/bind" => Some(Self::Bind),
            "/people/unbind" => Some(Self::Unbind),
            "/people/bound" => Some(Self::Bound),
            "/people/hash" => Some(Self::Hash),
            "/people/bindings" => Some(Self::Bindings),
            "/people/show" => Some(Self::Person),
            "/people/erase" => Some(Self::Erase),
            _ => None,
        }
    }

    /// What a program of the business must be permitted to ask for the page.
    pub const fn permission(self) -> InternalPermission {
        match self {
            Self::Sessions | Self::RevokeSessions => InternalPermission::Sessions,
            Self::Block | Self::Unblock | Self::Blocked | Self::Hash | Self::Person | Self::Erase => {
                InternalPermission::People
            }
            Self::Bind | Self::Unbind | Self::Bound | Self::Bindings => InternalPermission::Bind,
        }
    }

    /// Whether the page changes something: it needs POST and a JSON body.
    pub(super) const fn is_change(self) -> bool {
        matches!(
            self,
            Self::RevokeSessions | Self::Block | Self::Unblock | Self::Bind | Self::Unbind | Self::Erase
        )
    }

    pub(super) fn check_method(self, method: &Method) -> Result<(), ManagementAnswer> {
        if self.is_change() {
            return if method == Method::POST {
                Ok(())
            } else {
                Err(ManagementAnswer::method_not_allowed("POST"))
            };
        }
        match *method {
            Method::GET | Method::HEAD => Ok(()),
            _ => Err(ManagementAnswer::method_not_allowed("GET, HEAD")),
        }
    }
}
