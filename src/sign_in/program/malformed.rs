//! The mistakes in a body.

/// A body that does not say what its endpoint needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.description())]
pub(in crate::sign_in) enum MalformedBody {
    Empty,
    NotAnObject,
    FieldTwice,
    NotText,
    CodeMissing,
    NotACode,
    RefreshTokenMissing,
    NotARefresh,
    EverywhereNotBoolean,
    EverywhereByRefreshToken,
    TicketMissing,
    SealedDataMissing,
}

impl MalformedBody {
    /// The mistake, for the developer of the client.
    pub(in crate::sign_in) const fn description(self) -> &'static str {
        match self {
            Self::Empty => "the body is empty",
            Self::NotAnObject => "the body is not one JSON object, although its Content-Type says JSON",
            Self::FieldTwice => "a field occurs twice in the body",
            Self::NotText => "a field that must be a string is none",
            Self::CodeMissing => "`code` is missing: send the code that wx.login gave",
            Self::NotACode => "`code` is not one that wx.login gives: 1 to 128 letters, digits, `-` or `_`",
            Self::RefreshTokenMissing => {
                "`refresh_token` is missing: send the one that came with the access token"
            }
            Self::NotARefresh => "`grant_type` may be left out, or must be `refresh_token`",
            Self::EverywhereNotBoolean => "`everywhere` must be true or false",
            Self::EverywhereByRefreshToken => {
                "`everywhere` needs an access token: a refresh token can only end its own session"
            }
            Self::SealedDataMissing => "`encryptedData` or `iv` is missing: send both as WeChat gave them",
            Self::TicketMissing => "`t` is missing: send the form of the page",
        }
    }
}
