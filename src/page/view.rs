//! The values that templates get.

use std::borrow::Cow;

use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use super::policy::COPY_SCRIPT;
use super::text::{SignInWords, Situation};
use super::{Action, Choice, HandOverPage, Language, Message, Notice, SignInPage, SignInWidget, SignOut};
use crate::config::AppKind;

/// The values that every page gets.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Site {
    pub(super) title: Option<String>,
    /// A `data:` URI, marked as safe: it is Base64.
    pub(super) logo: Option<Value>,
    /// The same, or the gateway's own.
    pub(super) icon: Value,
}

#[derive(Debug, Serialize)]
struct SignInView<'a> {
    lang: &'static str,
    #[serde(flatten)]
    site: &'a Site,
    heading: &'static str,
    sentence: &'static str,
    choices: Vec<ChoiceView<'a>>,
    elsewhere: Vec<ChoiceView<'a>>,
    widget: Option<WidgetView<'a>>,
    is_in_wechat: bool,
    open_in_wechat: Option<&'static str>,
    copy: Option<CopyView>,
    text: SignInText,
}

/// A button that copies the address of the page.
#[derive(Debug, Serialize)]
struct CopyView {
    label: &'static str,
    done: &'static str,
    /// Marked as safe: it is a constant, and allowed by its hash.
    script: Value,
}

#[derive(Debug, Serialize)]
struct SignInText {
    #[serde(flatten)]
    words: SignInWords,
    elsewhere: &'static str,
}

#[derive(Debug, Serialize)]
struct ChoiceView<'a> {
    title: &'a str,
    kind: &'static str,
    href: &'a str,
}

#[derive(Debug, Serialize)]
struct WidgetView<'a> {
    script: &'a str,
    appid: &'a str,
    redirect_uri: &'a str,
    state: &'a str,
    nonce: &'a str,
}

#[derive(Debug, Serialize)]
struct MessageView<'a> {
    lang: &'static str,
    #[serde(flatten)]
    site: &'a Site,
    heading: &'static str,
    sentence: Cow<'static, str>,
    notice: &'static str,
    tone: &'static str,
    retry: Option<&'a str>,
    is_reload: bool,
    sign_out: Option<SignOut<'a>>,
    request_id: &'a str,
    code: Option<&'a str>,
    copy: Option<CopyView>,
    text: MessageText,
}

#[derive(Debug, Serialize)]
struct MessageText {
    retry: &'static str,
    sign_out: &'static str,
    request_id: &'static str,
}

#[derive(Debug, Serialize)]
struct HandOverView<'a> {
    lang: &'static str,
    #[serde(flatten)]
    site: &'a Site,
    heading: &'static str,
    sentence: &'static str,
    form: HandOverForm<'a>,
    text: HandOverText,
}

#[derive(Debug, Serialize)]
struct HandOverForm<'a> {
    path: &'a str,
    ticket: &'a str,
    return_to: &'a str,
}

#[derive(Debug, Serialize)]
struct HandOverText {
    go_on: &'static str,
}

/// The widget that a page shows: none in WeChat, because a phone cannot scan its own screen.
pub(super) fn shown_widget<'a>(page: &SignInPage<'a>) -> Option<SignInWidget<'a>> {
    page.widget.filter(|_| works_here(page).next().is_some() && !page.is_in_wechat)
}

/// The choices that work in the user's browser.
pub(super) fn works_here<'a>(page: &SignInPage<'a>) -> impl Iterator<Item = &'a Choice<'a>> {
    let here = if page.is_in_wechat { AppKind::OfficialAccount } else { AppKind::Website };
    page.choices.iter().filter(move |choice| choice.kind == here)
}

fn works_elsewhere<'a>(page: &SignInPage<'a>) -> impl Iterator<Item = &'a Choice<'a>> {
    let elsewhere = if page.is_in_wechat { AppKind::Website } else { AppKind::OfficialAccount };
    page.choices.iter().filter(move |choice| choice.kind == elsewhere)
}

/// Whether the user should open the page elsewhere, and gets a button that copies its address: a
/// phone, which cannot scan its own screen, or a browser in which nothing works.
pub(super) fn copies(page: &SignInPage<'_>) -> bool {
    works_here(page).next().is_none() || opens_in_wechat(page)
}

/// Whether a phone's user can sign in by opening the page in WeChat.
fn opens_in_wechat(page: &SignInPage<'_>) -> bool {
    page.is_on_phone && !page.is_in_wechat && works_elsewhere(page).next().is_some()
}

fn copy_view(language: Language) -> CopyView {
    let (label, done) = language.copy();
    CopyView { label, done, script: Value::from_safe_string(COPY_SCRIPT.to_owned()) }
}

/// The values of `sign_in.html`.
pub(super) fn sign_in(
    site: &Site,
    page: &SignInPage<'_>,
    widget: Option<(SignInWidget<'_>, &str)>,
    language: Language,
) -> Value {
    let words = language.sign_in(page.is_on_phone);
    let choices: Vec<_> = works_here(page).map(ChoiceView::from).collect();
    let situation = match (page.is_in_wechat, choices.len()) {
        (true, 0) => Situation::WeChatNeedsComputer,
        (true, count) => Situation::WeChat(count),
        (false, 0) => Situation::BrowserNeedsWeChat,
        (false, count) if page.is_on_phone => Situation::Phone(count),
        (false, count) => Situation::Browser(count),
    };
    Value::from(Serde(SignInView {
        lang: language.tag(),
        site,
        heading: words.heading,
        sentence: language.sentence(situation),
        choices,
        elsewhere: works_elsewhere(page).map(ChoiceView::from).collect(),
        widget: widget.map(|(widget, nonce)| WidgetView {
            script: widget.script,
            appid: widget.appid,
            redirect_uri: widget.redirect_uri,
            state: widget.state,
            nonce,
        }),
        is_in_wechat: page.is_in_wechat,
        open_in_wechat: (opens_in_wechat(page) && works_here(page).next().is_some())
            .then(|| language.sentence(Situation::BrowserNeedsWeChat)),
        copy: copies(page).then(|| copy_view(language)),
        text: SignInText { words, elsewhere: language.elsewhere(page.is_in_wechat) },
    }))
}

/// The values of `message.html`.
pub(super) fn message(site: &Site, message: &Message<'_>, language: Language) -> Value {
    let words = language.notice(message.notice);
    let sentence = match message.wait_seconds.filter(|_| message.notice == Notice::Throttled) {
        Some(seconds) => format!("{}{}", words.sentence, language.wait(seconds)).into(),
        None => words.sentence.into(),
    };
    let (retry, is_reload, sign_out) = match message.action {
        Action::Nothing => (None, false, None),
        Action::Link(path) => (Some(path), false, None),
        Action::Home => (Some("/"), false, None),
        Action::Reload(path) => (Some(path), true, None),
        Action::SignOut(form) => (None, false, Some(form)),
    };
    Value::from(Serde(MessageView {
        lang: language.tag(),
        site,
        heading: words.heading,
        sentence,
        notice: message.notice.as_str(),
        tone: message.notice.tone(),
        retry,
        is_reload,
        sign_out,
        request_id: message.request_id,
        code: message.code,
        copy: message.notice.copies().then(|| copy_view(language)),
        text: MessageText {
            retry: if matches!(message.action, Action::Home) { language.home() } else { words.retry },
            sign_out: language.sign_out(message.notice),
            request_id: language.request_id(),
        },
    }))
}

/// The values of `hand_over.html`.
pub(super) fn hand_over(site: &Site, page: &HandOverPage<'_>, language: Language) -> Value {
    let words = language.hand_over(page.doubt);
    let HandOverPage { path, ticket, return_to, .. } = *page;
    Value::from(Serde(HandOverView {
        lang: language.tag(),
        site,
        heading: words.heading,
        sentence: words.sentence,
        form: HandOverForm { path, ticket, return_to },
        text: HandOverText { go_on: words.retry },
    }))
}

impl<'a> From<&'a Choice<'a>> for ChoiceView<'a> {
    fn from(choice: &'a Choice<'a>) -> Self {
        Self { title: choice.title, kind: choice.kind.as_str(), href: choice.href }
    }
}
