//! What a code takes from the limits before it is exchanged.

use super::error::SignInError;
use crate::identity::{OpenId, Subject};
use crate::throttle::LoginCharge;

/// What a code took from the limits.
pub(super) struct CodeCharge {
    pub(super) taken: LoginCharge,
    /// The user that the code must be of, if it took from the limit of this user.
    pub(super) only_user: Option<Subject>,
}

impl CodeCharge {
    /// Checks that the code is of the user whose limit it took from: otherwise a client with one
    /// good credential could try the codes of everybody.
    pub(super) fn check_user(&self, openid: &OpenId) -> Result<(), SignInError> {
        match &self.only_user {
            Some(only) if only.openid != *openid => Err(SignInError::CodeOfAnotherUser),
            _ => Ok(()),
        }
    }
}
