//! Pages as a browser gets them.

mod language;
mod logo;
mod look;
mod message;
mod sign_in;
mod templates;

use std::path::{Path, PathBuf};

use super::{Choice, Language, Page, Pages, SignInPage, SignInWidget};
use crate::config::{AppKind, Findings, LoginPage};
use crate::entropy::SystemEntropy;

const WIDGET: SignInWidget<'static> = SignInWidget {
    script: "https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js",
    frame_origin: "https://open.weixin.qq.com",
    appid: "wxe000000000000001",
    redirect_uri: "https://shop.example.com/auth/web/shop/callback",
    state: "5tAt3",
};

const SHOP: Choice<'static> = website("小店", "/auth/web/shop/start");
const OFFICE: Choice<'static> = website("Back office", "/auth/web/office/start");
const ACCOUNT: Choice<'static> = account("小店公众号", "/auth/web/account/start");

const fn website(title: &'static str, href: &'static str) -> Choice<'static> {
    Choice { title, kind: AppKind::Website, href }
}

const fn account(title: &'static str, href: &'static str) -> Choice<'static> {
    Choice { title, kind: AppKind::OfficialAccount, href }
}

fn in_browser<'a>(choices: &'a [Choice<'a>]) -> SignInPage<'a> {
    SignInPage { choices, widget: None, is_in_wechat: false, is_on_phone: false }
}

fn with_widget<'a>(choices: &'a [Choice<'a>]) -> SignInPage<'a> {
    SignInPage { choices, widget: Some(WIDGET), is_in_wechat: false, is_on_phone: false }
}

fn in_wechat<'a>(choices: &'a [Choice<'a>]) -> SignInPage<'a> {
    SignInPage { choices, widget: Some(WIDGET), is_in_wechat: true, is_on_phone: true }
}

fn build(config: &LoginPage) -> Pages {
    let mut findings = Findings::default();
    let pages = Pages::build(config, &mut findings);
    pages.unwrap_or_else(|| panic!("{findings:?}"))
}

/// What is wrong with a configuration, a line each; there must be something.
fn complaints(config: &LoginPage) -> Vec<String> {
    let mut findings = Findings::default();
    let pages = Pages::build(config, &mut findings);
    assert_eq!(pages.is_some(), !findings.has_errors(), "{findings:?}");
    assert!(pages.is_none());
    findings.iter().map(ToString::to_string).collect()
}

fn sign_in(pages: &Pages, page: &SignInPage<'_>, language: Language) -> Page {
    pages.sign_in(page, language, &SystemEntropy).unwrap()
}

fn html(page: &Page) -> &str {
    std::str::from_utf8(&page.body).unwrap()
}

fn policy(page: &Page) -> &str {
    page.content_security_policy.to_str().unwrap()
}

/// A folder with files.
fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

fn with_templates(folder: &Path) -> LoginPage {
    LoginPage { templates: Some(folder.into()), ..LoginPage::default() }
}

/// Every start tag of a document, with its attributes as a browser reads them: for our own markup,
/// whose attributes are all in double quotes.
fn tags(html: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        rest = after;
        if !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let end = after.find(|c: char| c.is_whitespace() || c == '>' || c == '/').unwrap();
        let (name, mut inside) = after.split_at(end);
        let mut attributes = Vec::new();
        while !inside.trim_start().starts_with(['>', '/']) {
            let text = inside.trim_start();
            let end = text.find(|c: char| c.is_whitespace() || c == '=' || c == '>').unwrap();
            let (attribute, after) = text.split_at(end);
            inside = after;
            let value = match inside.strip_prefix("=\"") {
                Some(quoted) => {
                    let (value, after) = quoted.split_once('"').unwrap();
                    inside = after;
                    value.to_owned()
                }
                None => String::new(),
            };
            attributes.push((attribute.to_owned(), unescape(&value)));
        }
        // What is in these is no markup.
        rest = match name {
            "script" | "style" => inside.split_once(&format!("</{name}")).unwrap().1,
            _ => inside,
        };
        tags.push((name.to_owned(), attributes));
    }
    tags
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// Every value of an attribute, in the order of the document.
fn values(html: &str, attribute: &str) -> Vec<String> {
    let attributes = tags(html).into_iter().flat_map(|(_, attributes)| attributes);
    attributes.filter(|(name, _)| name == attribute).map(|(_, value)| value).collect()
}

/// Where the links of a page lead, for users to follow.
fn links(html: &str) -> Vec<String> {
    let links = tags(html).into_iter().filter(|(name, _)| name == "a");
    let attributes = links.flat_map(|(_, attributes)| attributes);
    attributes.filter(|(name, _)| name == "href").map(|(_, value)| value).collect()
}
