//! Pages for people: to sign in, and to be told what happened. In Chinese and English, replaceable by the operator.
//!
//! It decides what a page looks like and what its browser may load. What is to be said, and where a link leads, is the
//! login's.

mod language;

use bytes::Bytes;
use http::HeaderValue;

pub use self::language::Language;
use crate::config::{self, AppKind, Findings};
use crate::entropy::{Entropy, NoEntropy};

/// The pages of one configuration.
#[derive(Debug)]
pub struct Pages {}

/// A page, ready to be sent as `text/html; charset=utf-8`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The document.
    pub body: Bytes,
    /// What its browser may load; the document works with no other.
    pub content_security_policy: HeaderValue,
}

/// What a person may sign in with.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// Every app on offer, the preferred one first. At least one.
    pub choices: &'a [Choice<'a>],
    /// A QR code inside the page, of the first website on offer.
    pub widget: Option<Widget<'a>>,
    /// Whether the page is shown by WeChat's own browser.
    pub is_in_wechat: bool,
}

/// An app that a person may sign in to.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// What people know it as.
    pub title: &'a str,
    /// What it is at WeChat.
    pub kind: AppKind,
    /// Path of the gateway that leads to WeChat's page.
    pub href: &'a str,
}

/// What WeChat's script is told.
#[derive(Clone, Copy, Debug)]
pub struct Widget<'a> {
    /// URL of the script.
    pub script: &'a str,
    /// Origin of the page that it puts into a frame.
    pub frame_origin: &'a str,
    /// The app's id.
    pub appid: &'a str,
    /// Where the browser comes back to.
    pub redirect_uri: &'a str,
    /// What comes back unchanged.
    pub state: &'a str,
}

/// Something a person is told.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What happened.
    pub notice: Notice,
    /// Path of the gateway where the person can try again.
    pub retry: Option<&'a str>,
    /// What an operator finds the request by.
    pub request_id: &'a str,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The person signed out.
    SignedOut,
    /// The person said no on the phone.
    Refused,
    /// The sign-in was begun too long ago, was finished already, or was never begun.
    Expired,
    /// WeChat does not take the code, or took it before.
    CodeInvalid,
    /// The browser is not the one that began, or keeps no cookies.
    OtherBrowser,
    /// A visitor of a snapshot page, who is nobody: the full page must be opened.
    SnapshotVisitor,
    /// Only an official account is on offer, which is signed in to inside WeChat.
    OpenInWeChat,
    /// WeChat blocks the person.
    UserBlocked,
    /// Too many tries.
    Throttled,
    /// WeChat or the store does not answer at the moment.
    Unavailable,
    /// WeChat does not accept the app.
    Misconfigured,
    /// There is nothing to sign in to.
    NothingToSignInTo,
    /// The request makes no sense.
    Malformed,
    /// The gateway failed.
    Internal,
}

impl Pages {
    /// Reads templates and logo, and renders each page once; a finding for all that fails.
    pub fn build(config: &config::LoginPage, findings: &mut Findings) -> Option<Self> {
        let _ = (config, findings);
        Some(Self {})
    }

    /// The page to sign in with.
    ///
    /// # Errors
    /// [`NoEntropy`], which its scripts cannot do without.
    pub fn sign_in(
        &self,
        page: &SignIn<'_>,
        language: Language,
        entropy: &dyn Entropy,
    ) -> Result<Page, NoEntropy> {
        let _ = (page, language, entropy);
        Ok(Page {
            body: Bytes::new(),
            content_security_policy: HeaderValue::from_static("default-src 'none'"),
        })
    }

    /// A page that says what happened.
    pub fn message(&self, message: &Message<'_>, language: Language) -> Page {
        let _ = (message, language);
        Page { body: Bytes::new(), content_security_policy: HeaderValue::from_static("default-src 'none'") }
    }
}
