//! Sample pages that templates are tried with, so that a mistake is found when they are read and
//! not when a user signs in.

use super::{
    Action, Choice, HandOverDoubt, HandOverPage, Language, Message, Notice, SignInPage, SignInWidget, SignOut,
};
use crate::config::AppKind;

pub(super) const NONCE: &str = "bm9uY2U";

/// Both kinds. A page shows one of them, depending on the browser.
const CHOICES: [Choice<'static>; 6] = [
    website("小店", "/auth/web/sample-1/start"),
    account("小店公众号", "/auth/web/sample-2/start"),
    website("Back office", "/auth/web/sample-3/start"),
    account("Members", "/auth/web/sample-4/start"),
    website("仓库", "/auth/web/sample-5/start"),
    website("Reports", "/auth/web/sample-6/start"),
];

const WIDGET: SignInWidget<'static> = SignInWidget {
    script: "https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js",
    frame_origin: "https://open.weixin.qq.com",
    appid: "wxe000000000000001",
    redirect_uri: "https://shop.example.com/auth/web/sample-1/callback",
    state: "sample",
};

/// Every shape of the sign-in page.
pub(super) fn sign_ins() -> impl Iterator<Item = (SignInPage<'static>, Language)> {
    // One website, one account, one of each, and several of each.
    let offers = [CHOICES.get(..1), CHOICES.get(1..2), CHOICES.get(..2), Some(&CHOICES[..])];
    offers.into_iter().flatten().flat_map(|choices| {
        let browsers = [
            (None, false, false),
            (Some(WIDGET), false, false),
            (None, false, true),
            (Some(WIDGET), false, true),
            (None, true, true),
        ];
        browsers.into_iter().flat_map(move |(widget, is_in_wechat, is_on_phone)| {
            let page = SignInPage { choices, widget, is_in_wechat, is_on_phone };
            Language::ALL.map(|language| (page, language))
        })
    })
}

/// Every notice, with everything that a person might do.
pub(super) fn messages() -> impl Iterator<Item = (Message<'static>, Language)> {
    Notice::ALL.into_iter().flat_map(|notice| {
        ACTIONS.into_iter().flat_map(move |action| {
            Language::ALL.map(|language| (Message::new(notice, action, "sample"), language))
        })
    })
}

/// Every question before a session is handed over.
pub(super) fn hand_overs() -> impl Iterator<Item = (HandOverPage<'static>, Language)> {
    HandOverDoubt::ALL.into_iter().flat_map(|doubt| {
        let page =
            HandOverPage { doubt, path: "/auth/ticket/confirm", ticket: "sample", return_to: "/orders" };
        Language::ALL.map(|language| (page, language))
    })
}

const ACTIONS: [Action<'static>; 6] = [
    Action::Nothing,
    Action::Home,
    Action::Link("/auth/login?return_to=%2F"),
    Action::Reload("/auth/login?return_to=%2F"),
    Action::SignOut(SignOut { path: "/auth/logout", return_to: None, everywhere: false }),
    Action::SignOut(SignOut { path: "/auth/logout", return_to: Some("/a"), everywhere: true }),
];

const fn website(title: &'static str, href: &'static str) -> Choice<'static> {
    Choice { title, kind: AppKind::Website, href }
}

const fn account(title: &'static str, href: &'static str) -> Choice<'static> {
    Choice { title, kind: AppKind::OfficialAccount, href }
}
