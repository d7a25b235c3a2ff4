use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{
    ACCOUNT, OFFICE, SHOP, WIDGET, build, html, in_browser, in_wechat, links, policy, sign_in, tags, values,
    website, with_widget,
};
use crate::config::LoginPage;
use crate::entropy::{Entropy, NoEntropy};
use crate::page::{Choice, Language, Page, Pages, SignInPage, SignInWidget};

pub(super) const HOSTILE: &[&str] = &[
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\" onmouseover=\"alert(1)",
    "</title><svg onload=alert(1)>",
    "</style><style>*{display:none}</style>",
    "--><b>",
    "&lt;script&gt;",
    "{{ 7 * 7 }}{% raw %}",
    "`${alert(1)}`",
    "\0<\0b\0>",
    "javascript:alert(1)",
    "\u{2028}\u{202e}x",
];

fn default_pages() -> Pages {
    build(&LoginPage { title: Some("小店".into()), ..LoginPage::default() })
}

fn nonce(page: &Page) -> String {
    let nonces = values(html(page), "nonce");
    assert_eq!(nonces.len(), 1);
    nonces[0].clone()
}

#[test]
fn sign_in_page_links_to_wechat_without_a_script() {
    for page in [in_browser(&[SHOP]), with_widget(&[SHOP])] {
        let page = sign_in(&default_pages(), &page, Language::English);

        let links: Vec<_> = tags(html(&page)).into_iter().filter(|(name, _)| name == "a").collect();
        let visible =
            links.iter().filter(|(_, attributes)| attributes.iter().all(|(name, _)| name != "hidden"));
        let hrefs: Vec<_> =
            visible.flat_map(|(_, attributes)| attributes).filter(|(name, _)| name == "href").collect();
        assert_eq!(hrefs.len(), 1);
        assert_eq!(hrefs[0].1, "/auth/web/shop/start");
    }
}

#[test]
fn every_usable_choice_is_a_link() {
    let all = [SHOP, ACCOUNT, OFFICE];
    let table: [(&str, SignInPage<'_>, &[&str]); 6] = [
        ("browser", in_browser(&all), &["/auth/web/shop/start", "/auth/web/office/start"]),
        (
            "widget",
            with_widget(&all),
            // A text link next to the QR code, and a button without one.
            &["/auth/web/shop/start", "/auth/web/shop/start", "/auth/web/office/start"],
        ),
        (
            "wechat",
            in_wechat(&all),
            &["/auth/web/account/start", "/auth/web/shop/start", "/auth/web/office/start"],
        ),
        ("account alone", in_browser(&[ACCOUNT]), &[]),
        ("account alone, with a widget by mistake", with_widget(&[ACCOUNT]), &[]),
        ("nothing", with_widget(&[]), &[]),
    ];
    for (case, page, expected) in table {
        let page = sign_in(&default_pages(), &page, Language::Chinese);

        assert_eq!(links(html(&page)), expected, "{case}");
    }
}

#[test]
fn page_says_what_to_do_if_no_choice_is_usable() {
    let pages = default_pages();

    let computer = sign_in(&pages, &in_wechat(&[SHOP]), Language::English);
    let wechat = sign_in(&pages, &in_browser(&[ACCOUNT]), Language::English);

    assert!(html(&computer).contains("A phone cannot scan its own screen."));
    assert!(html(&wechat).contains("Please open this page in WeChat"));
    for page in [computer, wechat] {
        assert!(html(&page).contains("id=\"copy\""));
        assert!(policy(&page).contains("; script-src 'sha256-"));
    }
}

#[test]
fn a_phone_is_first_told_to_open_the_page_in_wechat() {
    let pages = default_pages();
    let on_phone = |page: SignInPage<'static>| SignInPage { is_on_phone: true, ..page };
    for language in Language::ALL {
        for page in [on_phone(in_browser(&[SHOP, ACCOUNT])), on_phone(with_widget(&[SHOP, ACCOUNT]))] {
            let page = sign_in(&pages, &page, language);

            let html = html(&page);
            let (copy, scan) =
                (html.find("id=\"copy\"").unwrap(), html.find("/auth/web/shop/start").unwrap());
            assert!(copy < scan, "{html}");
            assert!(html.contains(language.sentence(crate::page::text::Situation::BrowserNeedsWeChat)));
            assert!(policy(&page).contains("; script-src 'sha256-"), "{}", policy(&page));
        }
        for page in [on_phone(with_widget(&[SHOP])), with_widget(&[SHOP, ACCOUNT])] {
            let page = sign_in(&pages, &page, language);

            assert!(!html(&page).contains("id=\"copy\""), "nothing to open in WeChat, or no phone");
        }
    }
}

#[test]
fn page_in_wechat_has_neither_qr_code_nor_script() {
    let page = sign_in(&default_pages(), &in_wechat(&[SHOP, ACCOUNT]), Language::Chinese);

    assert!(!html(&page).contains("<script"));
    assert!(!html(&page).contains("http-equiv"));
    assert!(!policy(&page).contains("script-src"));
    assert!(!policy(&page).contains("frame-src"));
}

#[test]
fn sign_in_page_is_escaped() {
    let shape = |page: &Page| -> Vec<_> {
        let tags = tags(html(page)).into_iter();
        tags.map(|(name, attributes)| {
            (name, attributes.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        })
        .collect()
    };
    for hostile in HOSTILE {
        let pages = build(&LoginPage { title: Some((*hostile).into()), ..LoginPage::default() });
        let choice = |from: Choice<'static>| Choice { title: hostile, href: hostile, ..from };
        let choices = [choice(SHOP), choice(OFFICE), choice(ACCOUNT)];
        let widget = SignInWidget {
            script: hostile,
            frame_origin: hostile,
            appid: hostile,
            redirect_uri: hostile,
            state: hostile,
        };
        let page = |widget| SignInPage {
            choices: &choices,
            widget: Some(widget),
            is_in_wechat: false,
            is_on_phone: false,
        };
        let plain = sign_in(&pages, &with_widget(&[SHOP, OFFICE, ACCOUNT]), Language::English);

        let attacked = sign_in(&pages, &page(widget), Language::English);

        assert_eq!(shape(&attacked), shape(&plain), "{hostile}");
        let shown = hostile.replace('\0', "\u{fffd}");
        for attribute in ["data-script", "data-appid", "data-redirect-uri", "data-state"] {
            assert_eq!(values(html(&attacked), attribute), [shown.as_str()], "{attribute}");
        }
        assert_eq!(links(html(&attacked)), vec![shown; 3]);
        assert_eq!(
            script(&attacked).replace(&nonce(&attacked), ""),
            script(&plain).replace(&nonce(&plain), "")
        );
        assert!(!policy(&attacked).contains("frame-src"), "{hostile}");
    }
}

fn script(page: &Page) -> &str {
    let (_, script) = html(page).split_once("<script").unwrap();
    script.split_once("</script>").unwrap().0
}

#[test]
fn widget_data_is_passed_in_attributes() {
    let page = sign_in(&default_pages(), &with_widget(&[SHOP]), Language::Chinese);

    for value in [WIDGET.script, WIDGET.appid, WIDGET.redirect_uri, WIDGET.state] {
        assert!(!script(&page).contains(value), "{value}");
    }
    assert_eq!(values(html(&page), "data-script"), [WIDGET.script]);
    assert_eq!(values(html(&page), "data-appid"), [WIDGET.appid]);
    assert_eq!(values(html(&page), "data-redirect-uri"), [WIDGET.redirect_uri]);
    assert_eq!(values(html(&page), "data-state"), [WIDGET.state]);
}

#[test]
fn policy_allows_this_pages_script_and_wechats_frame_alone() {
    let page = sign_in(&default_pages(), &with_widget(&[SHOP]), Language::Chinese);

    let directives: Vec<&str> = policy(&page).split("; ").collect();
    assert_eq!(directives[6], format!("script-src 'nonce-{}'", nonce(&page)));
    assert_eq!(directives[7], "frame-src https://open.weixin.qq.com");
    assert_eq!(directives.len(), 8);
    assert!(!policy(&page).contains("unsafe"));
}

#[test]
fn every_page_has_a_nonce_of_its_own() {
    let pages = default_pages();
    let nonces: std::collections::BTreeSet<_> =
        (0..50).map(|_| nonce(&sign_in(&pages, &with_widget(&[SHOP]), Language::Chinese))).collect();

    assert_eq!(nonces.len(), 50);
    assert!(nonces.iter().all(|nonce| nonce.len() == 22));
}

#[test]
fn origin_that_would_extend_the_policy_is_omitted() {
    let table = [
        "https://open.weixin.qq.com; script-src *",
        "https://open.weixin.qq.com https://evil.example",
        "https://a,b",
        "https://",
        "*",
        "data:",
        "https://a/b",
        "https://a\r\nx: y",
        "javascript://a",
    ];
    for frame_origin in table {
        let widget = Some(SignInWidget { frame_origin, ..WIDGET });
        let page = SignInPage { choices: &[SHOP], widget, is_in_wechat: false, is_on_phone: false };

        let page = sign_in(&default_pages(), &page, Language::Chinese);

        assert!(!policy(&page).contains("frame-src"), "{frame_origin}");
        assert!(policy(&page).ends_with(&format!("script-src 'nonce-{}'", nonce(&page))), "{frame_origin}");
    }
}

#[test]
fn every_style_is_allowed_by_its_hash() {
    let page = sign_in(&default_pages(), &with_widget(&[SHOP]), Language::Chinese);

    let (_, style) = html(&page).split_once("<style>").unwrap();
    let (style, rest) = style.split_once("</style>").unwrap();
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
    assert!(policy(&page).contains(&format!("'sha256-{hash}'")), "{}", policy(&page));
    assert!(!rest.contains("<style"));
    assert_eq!(values(html(&page), "style"), Vec::<String>::new());
}

#[test]
fn page_with_a_qr_code_reloads_before_its_state_expires() {
    let page = sign_in(&default_pages(), &with_widget(&[SHOP]), Language::Chinese);

    assert!(html(&page).contains(r#"<meta http-equiv="refresh" content="540">"#));
}

#[test]
fn page_uses_one_language() {
    for language in Language::ALL {
        let page = sign_in(&default_pages(), &with_widget(&[SHOP]), language);

        let other = Language::ALL.into_iter().find(|other| *other != language).unwrap();
        assert_eq!(values(html(&page), "lang"), [language.tag()]);
        assert!(html(&page).contains(&format!("<h1>{}</h1>", language.sign_in(false).heading)));
        assert!(!html(&page).contains(other.sign_in(false).heading));
    }
}

#[test]
fn page_is_at_most_16_kib() {
    let choices =
        vec![
            website("一个名字很长很长的网站应用", "/auth/web/a-long-name/start?return_to=%2Forders");
            8
        ];
    for language in Language::ALL {
        let page = sign_in(&default_pages(), &with_widget(&choices), language);

        assert!(page.body.len() <= 16 * 1024, "{}", page.body.len());
    }
}

#[derive(Debug)]
struct Dry;

impl Entropy for Dry {
    fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
        Err(NoEntropy)
    }
}

#[test]
fn page_with_a_script_needs_entropy_and_a_page_without_does_not() {
    let pages = default_pages();

    assert!(pages.sign_in(&with_widget(&[SHOP]), Language::Chinese, &Dry).is_err());
    assert!(pages.sign_in(&in_browser(&[SHOP]), Language::Chinese, &Dry).is_ok());
}
