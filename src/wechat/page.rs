//! Sign-in with a browser: where a person is sent, and what WeChat says of the code they come back with.

use super::error::Error;
use super::{App, Code, WeChat};
use crate::identity::{OpenId, Profile, UnionId};

/// Who came back from a page of WeChat's. A visitor of a snapshot page, whose ids are nobody's, never becomes one.
#[derive(Clone, Debug)]
pub struct PageExchange {
    /// The person, within the app.
    pub openid: OpenId,
    /// The person across apps; only where the app is bound to an open platform account and its scope says so.
    pub unionid: Option<UnionId>,
    /// What the person calls themselves, where the scope says so and WeChat told.
    pub profile: Option<Profile>,
}

/// A way to WeChat's page and back.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Where the browser comes back to, with `code` and `state`.
    pub redirect_uri: &'a str,
    /// What comes back unchanged: 1 to 128 letters and digits.
    pub state: &'a str,
    /// Whether the page speaks English rather than Chinese, where there is a choice.
    pub is_english: bool,
}

impl WeChat {
    /// Exchanges the code of a website or an official account for the person who signed in, and asks for their profile
    /// where the app's scope allows it. A profile that cannot be had is none; the person has signed in.
    ///
    /// # Errors
    /// As [`WeChat::exchange_code`], and [`Error::SnapshotVisitor`].
    pub async fn exchange_page_code(&self, app: &App, code: &Code) -> Result<PageExchange, Error> {
        let _ = (app, code);
        Err(Error::Unreachable)
    }

    /// The page of WeChat's that a browser is sent to, parameters in the order that WeChat asks for.
    pub fn page_url(&self, app: &App, visit: &Visit<'_>) -> String {
        let _ = (app, visit);
        String::new()
    }

    /// What shows WeChat's QR code inside a page, where that is configured.
    pub fn widget(&self) -> Option<Widget<'_>> {
        None
    }
}

/// WeChat's own script that shows a QR code inside a page.
#[derive(Clone, Copy, Debug)]
pub struct Widget<'a> {
    /// URL of the script.
    pub script: &'a str,
    /// Origin of WeChat's pages, which the script puts into a frame.
    pub frame_origin: &'a str,
}
