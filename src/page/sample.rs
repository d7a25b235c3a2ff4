//! Pages to try templates out with, so that a mistake shows when they are read and not when somebody signs in.

use super::{Choice, Language, Message, Notice, SignIn, Widget};
use crate::config::AppKind;

pub(super) const NONCE: &str = "bm9uY2U";

/// `choices` has both kinds, of which a page shows some by where it is opened.
const CHOICES: [Choice<'static>; 6] = [
    website("小店", "/auth/web/sample-1/start"),
    account("小店公众号", "/auth/web/sample-2/start"),
    website("Back office", "/auth/web/sample-3/start"),
    account("Members", "/auth/web/sample-4/start"),
    website("仓库", "/auth/web/sample-5/start"),
    website("Reports", "/auth/web/sample-6/start"),
];

const WIDGET: Widget<'static> = Widget {
    script: "https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js",
    frame_origin: "https://open.weixin.qq.com",
    appid: "wxe000000000000001",
    redirect_uri: "https://shop.example.com/auth/web/sample-1/callback",
    state: "sample",
};

/// Every shape of the sign-in page.
pub(super) fn sign_ins() -> impl Iterator<Item = (SignIn<'static>, Language)> {
    // One website, one account, one of each, and several of each.
    let offers = [CHOICES.get(..1), CHOICES.get(1..2), CHOICES.get(..2), Some(&CHOICES[..])];
    offers.into_iter().flatten().flat_map(|choices| {
        [(None, false), (Some(WIDGET), false), (None, true)].into_iter().flat_map(
            move |(widget, is_in_wechat)| {
                Language::ALL.map(|language| (SignIn { choices, widget, is_in_wechat }, language))
            },
        )
    })
}

/// Every notice, with a way to try again and without.
pub(super) fn messages() -> impl Iterator<Item = (Message<'static>, Language)> {
    Notice::ALL.into_iter().flat_map(|notice| {
        [None, Some("/auth/login?return_to=%2F")].into_iter().flat_map(move |retry| {
            Language::ALL.map(|language| (Message { notice, retry, request_id: "sample" }, language))
        })
    })
}

const fn website(title: &'static str, href: &'static str) -> Choice<'static> {
    Choice { title, kind: AppKind::Website, href }
}

const fn account(title: &'static str, href: &'static str) -> Choice<'static> {
    Choice { title, kind: AppKind::OfficialAccount, href }
}
