//! Pages for users: the sign-in page, the message page, and the page that asks before a session is
//! handed over, in Chinese and English. The operator can replace them.
//!
//! This module decides what a page looks like and what the browser may load for it. `sign_in`
//! decides what a page says and where a link leads.
//!
//! # Templates
//! `login.page.templates` names a folder with `layout.html`, `sign_in.html`, `message.html` and
//! `hand_over.html`, or some of them, in the language of Jinja 2. Every value is escaped, and a
//! variable that does not exist is an error when the folder is read.
//!
//! All pages get `lang` (`zh-CN` or `en`), `title` and `logo` (a `data:` URI) of `login.page` or
//! none, `icon` (a `data:` URI: the logo, or the gateway's own), `heading`, `sentence`, `text`, the
//! page's other words, and `copy`: `label`, `done` and `script` of a button that copies the address
//! of the page, or none.
//!
//! `sign_in.html` gets `choices`, a list of `title`, `kind` and `href`: the apps that the user can
//! sign in to in this browser, which are official accounts in WeChat (`is_in_wechat`) and websites
//! in other browsers. `elsewhere` lists the others. `widget` is what WeChat's script needs for the
//! first choice, or none: `script`, `appid`, `redirect_uri`, `state`, and the `nonce` that a
//! `script` element needs. Without a widget only `copy.script` runs. `open_in_wechat` is what a
//! phone shows first if the user can sign in in WeChat, or none.
//! `text` has `scan`, `go_on`, `no_qr_code`, `others`, `other_phone`, `qr_code` and `elsewhere`.
//!
//! `message.html` gets `notice` (the name of a [`Notice`] in `snake_case`), `tone` (`good`, `info`
//! or `trouble`), `retry` (a path or none), `is_reload` (whether a link with an empty `href` is
//! better than one to `retry`), `sign_out` (the values of a form that signs out: `path`,
//! `return_to` and `everywhere`, or none), `request_id` and `code` (the word of the error, or
//! none); `text` has `retry`, `sign_out` and `request_id`. Only `copy.script` runs.
//!
//! `hand_over.html` gets `form` (`path`, and the values of its hidden fields `t` and `return_to`:
//! `ticket` and `return_to`), and `text` with `go_on`. No script runs.
//!
//! Styles belong into `style` elements, whose text must not depend on data; an attribute `style`
//! has no effect. Pictures are `data:` URIs, or files of the same origin. Nothing else is loaded.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod language;
mod logo;
mod policy;
mod sample;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod view;

use bytes::Bytes;
use http::HeaderValue;
use minijinja::Value;
use serde::Serialize;
use tracing::warn;

pub use self::language::Language;
use self::policy::{Scripted, Scripts, Styles};
use self::template::{HAND_OVER, MESSAGE, SIGN_IN, Templates};
use self::view::Site;
use crate::config::{self, AppKind, Findings};
use crate::entropy::{self, Entropy, NoEntropy};

/// The pages of one configuration.
#[derive(Debug)]
pub struct Pages {
    site: Site,
    /// The operator's templates, then the built-in ones, which replace a page that fails to render.
    sets: Vec<TemplateSet>,
}

/// Templates that rendered every page with samples.
#[derive(Debug)]
struct TemplateSet {
    templates: Templates,
    styles: Styles,
}

/// A page, ready to be sent as `text/html; charset=utf-8`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The document.
    pub body: Bytes,
    /// What the browser may load. The document works with this policy only.
    pub content_security_policy: HeaderValue,
}

/// What the sign-in page offers.
#[derive(Clone, Copy, Debug)]
pub struct SignInPage<'a> {
    /// Every offered app, the preferred one first. At least one.
    pub choices: &'a [Choice<'a>],
    /// A QR code inside the page, of the first website that is offered.
    pub widget: Option<SignInWidget<'a>>,
    /// Whether the page is shown by WeChat's own browser.
    pub is_in_wechat: bool,
    /// Whether a phone shows the page.
    pub is_on_phone: bool,
}

/// An app that a user may sign in to.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Its name for users.
    pub title: &'a str,
    /// Its kind at WeChat.
    pub kind: AppKind,
    /// Path of the gateway that leads to WeChat's page.
    pub href: &'a str,
}

/// What WeChat's script for the QR code needs.
#[derive(Clone, Copy, Debug)]
pub struct SignInWidget<'a> {
    /// URL of the script.
    pub script: &'a str,
    /// Origin of the page that it puts into a frame.
    pub frame_origin: &'a str,
    /// The app's id.
    pub appid: &'a str,
    /// The URL that WeChat redirects the browser to.
    pub redirect_uri: &'a str,
    /// The state that WeChat sends back unchanged.
    pub state: &'a str,
}

/// What the message page says.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What happened.
    pub notice: Notice,
    /// What the user can do.
    pub action: Action<'a>,
    /// How long the user must wait before that, if it is known.
    pub wait_seconds: Option<u64>,
    /// What an operator finds the request by.
    pub request_id: &'a str,
    /// The word of the error in a document, if it has one.
    pub code: Option<&'a str>,
}

/// What a user can do on the message page.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Nothing.
    Nothing,
    /// Follow a link to a path of the gateway.
    Link(&'a str),
    /// Follow a link to the root of the origin.
    Home,
    /// Load the address of the page again. The browser knows it and the page does not contain it,
    /// because it may hold a code. Templates without support for it link to this path.
    Reload(&'a str),
    /// Send a form that signs the user out.
    SignOut(SignOut<'a>),
}

/// A form that signs a user out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SignOut<'a> {
    /// Path of the gateway that the form is sent to.
    pub path: &'a str,
    /// Path that the browser is redirected to after that. It is of the same origin, because the
    /// policy of the page allows a form nothing else.
    pub return_to: Option<&'a str>,
    /// Whether on every device.
    pub everywhere: bool,
}

impl<'a> Message<'a> {
    /// A message that asks for no wait.
    pub const fn new(notice: Notice, action: Action<'a>, request_id: &'a str) -> Self {
        Self { notice, action, wait_seconds: None, request_id, code: None }
    }
}

/// What the page says that asks before a session is handed over to this browser.
#[derive(Clone, Copy, Debug)]
pub struct HandOverPage<'a> {
    /// Why the user is asked.
    pub doubt: HandOverDoubt,
    /// Path of the gateway that the form is sent to.
    pub path: &'a str,
    /// The ticket.
    pub ticket: &'a str,
    /// The place that the browser goes to after that.
    pub return_to: &'a str,
}

/// Why a session is not handed over without a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverDoubt {
    /// Another user is signed in to this browser.
    OtherUser,
    /// A page of another site led the browser here: the session may be that of its owner.
    OtherSite,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The user signed out.
    SignedOut,
    /// The session of a program was handed over to the browser.
    HandedOver,
    /// The ticket of a hand-over was used, is too old, or never existed.
    TicketUnknown,
    /// The user wanted to sign out, and is still signed in.
    StillSignedIn,
    /// The user refused on the phone.
    Refused,
    /// The sign-in began too long ago, is already finished, or never began.
    Expired,
    /// WeChat does not accept the code, or accepted it before.
    CodeInvalid,
    /// The browser is not the one that began the sign-in, or it keeps no cookies.
    OtherBrowser,
    /// WeChat showed a snapshot of the page, whose visitor has no identity. The user must open the
    /// full page.
    SnapshotVisitor,
    /// Only an official account is offered, and its sign-in works in WeChat only.
    OpenInWeChat,
    /// WeChat or an operator blocks the user.
    UserBlocked,
    /// The user is signed in, and the route does not permit them.
    NotPermitted,
    /// The user tried too often.
    Throttled,
    /// WeChat or the store does not answer at the moment.
    Unavailable,
    /// WeChat does not accept the app.
    Misconfigured,
    /// There is nothing to sign in to.
    NothingToSignInTo,
    /// The request makes no sense.
    Malformed,
    /// The host of the request is not one of `login.origins`.
    OriginUnknown,
    /// The route needs a user who is signed in, and no browser can sign in to it.
    NotSignedIn,
    /// A page of another site sent the request.
    CrossSite,
    /// There is no such page.
    NotFound,
    /// The address is not for this method.
    MethodNotAllowed,
    /// The header is too large, usually because of cookies.
    HeaderTooLarge,
    /// The body is too large.
    TooLarge,
    /// The body did not arrive in time.
    TimedOut,
    /// No server answered, or not properly.
    BackendUnavailable,
    /// Too many requests are under way.
    Busy,
    /// The gateway failed.
    Internal,
}

impl Pages {
    /// Reads templates and logo, and renders each page once; a finding for each failure.
    pub fn build(config: &config::LoginPage, findings: &mut Findings) -> Option<Self> {
        let mut is_sound = true;
        let logo = config.logo.as_deref().and_then(|path| {
            let logo = logo::read(path, findings);
            is_sound &= logo.is_some();
            logo
        });
        let icon = logo.clone().unwrap_or_else(logo::built_in_icon);
        let site = Site {
            title: config.title.clone(),
            logo: logo.map(Value::from_safe_string),
            icon: Value::from_safe_string(icon),
        };
        let own = config.templates.as_deref().map(|folder| Templates::in_folder(folder, findings));
        let mut sets = Vec::new();
        for templates in own.into_iter().chain([Templates::delivered(findings)]) {
            match templates.and_then(|templates| TemplateSet::build(templates, &site, findings)) {
                Some(tried) => sets.push(tried),
                None => is_sound = false,
            }
        }
        is_sound.then_some(Self { site, sets })
    }

    /// Renders the sign-in page.
    ///
    /// # Errors
    /// [`NoEntropy`]: the page needs a nonce for its script.
    pub fn sign_in(
        &self,
        page: &SignInPage<'_>,
        language: Language,
        entropy: &dyn Entropy,
    ) -> Result<Page, NoEntropy> {
        let widget = view::shown_widget(page);
        let nonce = widget.map(|_| entropy::identifier(entropy)).transpose()?;
        let scripted = widget.zip(nonce.as_deref());
        let view = view::sign_in(&self.site, page, scripted, language);
        let scripted = scripted.map(|(widget, nonce)| Scripted { nonce, frame_origin: widget.frame_origin });
        Ok(self.page(SIGN_IN, &view, Scripts { widget: scripted, copies: view::copies(page) }))
    }

    /// Renders the message page.
    pub fn message(&self, message: &Message<'_>, language: Language) -> Page {
        let scripts = Scripts { widget: None, copies: message.notice.copies() };
        self.page(MESSAGE, &view::message(&self.site, message, language), scripts)
    }

    /// Renders the page that asks before a session is handed over.
    pub fn hand_over(&self, page: &HandOverPage<'_>, language: Language) -> Page {
        self.page(
            HAND_OVER,
            &view::hand_over(&self.site, page, language),
            Scripts { widget: None, copies: false },
        )
    }

    fn page(&self, template: &str, view: &Value, scripts: Scripts<'_>) -> Page {
        for TemplateSet { templates, styles } in &self.sets {
            match templates.render(template, view) {
                Ok(html) => {
                    return Page { body: html.into(), content_security_policy: styles.policy(scripts) };
                }
                // The details of the error may contain a value, such as a `state`.
                Err(error) => {
                    let place = error.name().unwrap_or(template);
                    let line = error.line().unwrap_or_default();
                    warn!(template, "template {place} failed in line {line}: {}", error.kind());
                }
            }
        }
        Page { body: Bytes::from_static(b"<!doctype html>"), content_security_policy: policy::NOTHING }
    }
}

impl TemplateSet {
    /// Renders every page with samples; a finding for the first mistake in each kind of page.
    fn build(templates: Templates, site: &Site, findings: &mut Findings) -> Option<Self> {
        let mut styles = Styles::default();
        let mut try_out = |template, view: Value, leads_to: &str| match templates.render(template, &view) {
            Ok(html) => {
                styles.add(&html);
                html.contains(leads_to) || templates.refuse_dead_end(template, findings)
            }
            Err(error) => {
                templates.refuse(template, &error, findings);
                false
            }
        };
        // The first mistake of a page is enough: the others usually have the same cause.
        let can_sign_in = sample::sign_ins().all(|(page, language)| {
            let widget = view::shown_widget(&page).map(|widget| (widget, sample::NONCE));
            let leads_to = view::works_here(&page).next().map_or("", |choice| choice.href);
            try_out(SIGN_IN, view::sign_in(site, &page, widget, language), leads_to)
        });
        let can_tell = sample::messages()
            .all(|(message, language)| try_out(MESSAGE, view::message(site, &message, language), ""));
        let can_ask = sample::hand_overs()
            .all(|(page, language)| try_out(HAND_OVER, view::hand_over(site, &page, language), page.path));
        (can_sign_in && can_tell && can_ask).then_some(Self { templates, styles })
    }
}
