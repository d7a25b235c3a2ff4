use std::path::PathBuf;

use super::{ACCOUNT, OFFICE, SHOP, in_browser, in_wechat, sign_in, website, with_widget};
use crate::config::{FilePath, Findings, LoginPage};
use crate::page::{Action, Choice, Language, Message, Notice, Pages, SignInPage, SignInWidget, SignOut};

const LONG: Choice<'static> = website(
    "一个名字特别特别长的网站应用，长得一行放不下 — Verylongwordwithoutanyspaceinitwhatsoeverreally",
    "/auth/web/long/start",
);

/// Writes pages to look at into the folder that `PAGES` names, with the templates as they are on
/// disk.
#[test]
#[ignore = "for people to look at"]
fn write_pages() {
    let Some(folder) = std::env::var_os("PAGES").map(PathBuf::from) else { return };
    let script = std::env::var("WIDGET_SCRIPT").unwrap_or_else(|_| "http://127.0.0.1:1/wxLogin.js".into());
    let origin = std::env::var("WIDGET_ORIGIN").unwrap_or_else(|_| "http://127.0.0.1:1".into());
    // A website of the emulator's.
    let widget = SignInWidget {
        script: &script,
        frame_origin: &origin,
        appid: "wxe000000000000004",
        redirect_uri: "http://127.0.0.1:8080/auth/web/shop/callback",
        ..super::WIDGET
    };
    let four = [SHOP, OFFICE, ACCOUNT, website("仓库", "/auth/web/store/start"), LONG];
    let widget_of = |choices| SignInPage { widget: Some(widget), ..with_widget(choices) };
    let pages: [(&str, SignInPage<'_>); 9] = [
        ("one", in_browser(&[SHOP])),
        ("widget", widget_of(&[SHOP])),
        ("widget-account", widget_of(&[SHOP, ACCOUNT])),
        ("widget-four", widget_of(&four)),
        ("four", in_browser(&four)),
        ("account", in_browser(&[ACCOUNT])),
        ("wechat", in_wechat(&[ACCOUNT])),
        ("wechat-four", in_wechat(&four)),
        ("wechat-website", in_wechat(&[SHOP])),
    ];
    let templates = Some("src/page/templates".into());
    let named =
        |title: &str| LoginPage { title: Some(title.into()), logo: None, templates: templates.clone() };
    let sites = [
        ("plain", LoginPage { title: None, ..named("") }),
        ("titled", named("小店 Shop")),
        ("long", named(LONG.title)),
    ];
    for (site, mut config) in sites {
        config.logo = std::env::var_os("LOGO").map(FilePath::from).filter(|_| site == "titled");
        let mut findings = Findings::default();
        let built = Pages::build(&config, &mut findings).unwrap_or_else(|| panic!("{findings:?}"));
        for language in Language::ALL {
            let write = |name: &str, page: crate::page::Page| {
                let path = folder.join(format!("{site}-{name}-{}.html", language.tag()));
                // What the header would say, as far as a document can say it.
                let policy = super::policy(&page).replace("frame-ancestors 'none'; ", "");
                let meta = format!(r#"<head><meta http-equiv="Content-Security-Policy" content="{policy}">"#);
                std::fs::write(path, super::html(&page).replacen("<head>", &meta, 1)).unwrap();
            };
            for (name, page) in &pages {
                write(name, sign_in(&built, page, language));
            }
            for notice in Notice::ALL {
                let form = SignOut { path: "/auth/logout", return_to: None, everywhere: false };
                let action = match notice {
                    Notice::NothingToSignInTo => Action::Nothing,
                    Notice::StillSignedIn | Notice::NotPermitted => Action::SignOut(form),
                    _ => Action::Link("/auth/login"),
                };
                let message = Message::new(notice, action, "01K9M3V8Z0Q4W6X1");
                let message = Message { wait_seconds: Some(900), ..message };
                write(notice.as_str(), built.message(&message, language));
            }
        }
    }
}
