use super::{build, html, links, policy, tags, values};
use crate::config::LoginPage;
use crate::page::{Action, Language, Message, Notice, SignOut};

fn message(notice: Notice, retry: Option<&str>, language: Language) -> String {
    let pages = build(&LoginPage { title: Some("小店".into()), ..LoginPage::default() });
    let action = retry.map_or(Action::Nothing, Action::Link);
    html(&pages.message(&Message::new(notice, action, "req-1"), language)).to_owned()
}

#[test]
fn every_notice_has_a_page_in_both_languages() {
    let mut headings = std::collections::BTreeSet::new();
    for notice in Notice::ALL {
        for language in Language::ALL {
            let words = language.notice(notice);

            let page = message(notice, Some("/auth/login"), language);

            assert!(page.contains(&format!("<h1>{}</h1>", words.heading)), "{notice:?} {language:?}");
            assert!(page.contains(&format!("<p class=\"sentence\">{}</p>", words.sentence)), "{notice:?}");
            assert!(page.contains(&format!("href=\"/auth/login\">{}</a>", words.retry)), "{notice:?}");
            assert!(page.contains("<code>req-1</code>"), "{notice:?}");
            assert!(page.contains(&format!("<title>{} · 小店</title>", words.heading)), "{notice:?}");
            assert_eq!(values(&page, "lang"), [language.tag()]);
            headings.insert((language.tag(), words.sentence));
        }
    }
    assert_eq!(headings.len(), 56, "a sentence for each");
}

#[test]
fn chinese_text_is_chinese_and_english_text_is_english() {
    let is_chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
    for notice in Notice::ALL {
        assert!(Language::Chinese.notice(notice).sentence.chars().any(is_chinese), "{notice:?}");
        let english = Language::English.notice(notice).sentence.replace("使用完整服务", "");
        assert!(!english.chars().any(is_chinese), "{notice:?}");
    }
}

#[test]
fn list_of_notices_has_every_notice() {
    // A new notice does not compile here until it has its place in the list.
    let position = |notice: Notice| match notice {
        Notice::SignedOut => 0,
        Notice::HandedOver => 1,
        Notice::TicketUnknown => 2,
        Notice::StillSignedIn => 3,
        Notice::Refused => 4,
        Notice::Expired => 5,
        Notice::CodeInvalid => 6,
        Notice::OtherBrowser => 7,
        Notice::SnapshotVisitor => 8,
        Notice::OpenInWeChat => 9,
        Notice::UserBlocked => 10,
        Notice::NotPermitted => 11,
        Notice::Throttled => 12,
        Notice::Unavailable => 13,
        Notice::Misconfigured => 14,
        Notice::NothingToSignInTo => 15,
        Notice::Malformed => 16,
        Notice::OriginUnknown => 17,
        Notice::NotSignedIn => 18,
        Notice::CrossSite => 19,
        Notice::NotFound => 20,
        Notice::MethodNotAllowed => 21,
        Notice::HeaderTooLarge => 22,
        Notice::TooLarge => 23,
        Notice::TimedOut => 24,
        Notice::BackendUnavailable => 25,
        Notice::Busy => 26,
        Notice::Internal => 27,
    };
    assert!(Notice::ALL.into_iter().map(position).eq(0..28));
}

#[test]
fn page_without_a_way_to_try_again_has_no_link() {
    assert_eq!(links(&message(Notice::Expired, None, Language::English)), Vec::<String>::new());
}

#[test]
fn message_is_escaped() {
    for hostile in super::sign_in::HOSTILE {
        let pages = build(&LoginPage { title: Some((*hostile).into()), ..LoginPage::default() });
        let message = Message::new(Notice::Expired, Action::Link(hostile), hostile);
        let plain = Message::new(Notice::Expired, Action::Link("/"), "1");

        let page = pages.message(&message, Language::English);

        let names = |html: &str| tags(html).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(html(&page)), names(html(&pages.message(&plain, Language::English))), "{hostile}");
        assert_eq!(links(html(&page)), [hostile.replace('\0', "\u{fffd}")]);
    }
}

#[test]
fn message_runs_no_script_and_loads_nothing() {
    let pages = build(&LoginPage::default());
    let message = Message::new(Notice::Expired, Action::Link("/auth/login"), "1");

    let page = pages.message(&message, Language::English);

    assert!(!html(&page).contains("<script"));
    let directives: Vec<&str> = policy(&page).split("; ").collect();
    assert_eq!(
        directives[..5],
        [
            "default-src 'none'",
            "img-src data: 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'"
        ]
    );
    assert!(directives[5].starts_with("style-src 'sha256-"));
    assert_eq!(directives.len(), 6);
}

#[test]
fn retry_link_of_a_page_reloads_it_without_naming_its_address() {
    let pages = build(&LoginPage::default());
    let message = Message::new(Notice::Throttled, Action::Reload("/auth/start"), "1");

    let page = pages.message(&message, Language::English);

    assert_eq!(links(html(&page)), [""]);
    assert!(!html(&page).contains("/auth/start"), "for templates that know of no reload");
}

#[test]
fn wait_is_shown_in_minutes() {
    let pages = build(&LoginPage::default());
    for (seconds, chinese, english) in [
        (Some(1), "请等一分钟再试", "Wait a minute"),
        (Some(60), "请等一分钟再试", "Wait a minute"),
        (Some(61), "请等 2 分钟再试", "Wait 2 minutes"),
        (Some(900), "请等 15 分钟再试", "Wait 15 minutes"),
        (None, "次数有些多。</p>", "in a short time.</p>"),
    ] {
        for (language, words) in [(Language::Chinese, chinese), (Language::English, english)] {
            let message = Message::new(Notice::Throttled, Action::Nothing, "1");
            let page = pages.message(&Message { wait_seconds: seconds, ..message }, language);

            assert!(html(&page).contains(words), "{seconds:?}: {}", html(&page));
        }
    }
}

#[test]
fn sign_out_form_repeats_the_request_and_escapes_it() {
    let pages = build(&LoginPage::default());
    let page = |form| {
        let message = Message::new(Notice::NotPermitted, Action::SignOut(form), "1");
        html(&pages.message(&message, Language::English)).to_owned()
    };
    let plain = page(SignOut { path: "/auth/logout", return_to: None, everywhere: false });
    let full = page(SignOut { path: "/auth/logout", return_to: Some("/a?b=c"), everywhere: true });

    assert_eq!(values(&plain, "method"), ["post"]);
    assert_eq!(values(&plain, "action"), ["/auth/logout"]);
    assert!(plain.contains("<button class=\"button\">Sign out to use another account</button>"), "{plain}");
    assert!(!plain.contains("<input") && links(&plain).is_empty(), "{plain}");
    assert_eq!(values(&full, "name")[3..], ["return_to", "everywhere"], "after those of the head");
    assert!(values(&full, "value").contains(&"true".to_owned()), "{full}");
    for hostile in super::sign_in::HOSTILE {
        let page = page(SignOut { path: hostile, return_to: Some(hostile), everywhere: true });

        let names = |html: &str| tags(html).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&page), names(&full), "{hostile}");
    }
}

#[test]
fn a_page_that_names_the_home_page_links_to_it() {
    for notice in Notice::ALL {
        let zh = Language::Chinese.notice(notice).sentence.contains("首页");
        let en = Language::English.notice(notice).sentence.contains("home page");

        assert_eq!((zh, en), (notice.leads_home(), notice.leads_home()), "{notice:?}");
    }
    let pages = build(&LoginPage::default());
    for (language, words) in [(Language::Chinese, "回到首页"), (Language::English, "Go to the home page")]
    {
        let page = pages.message(&Message::new(Notice::NotFound, Action::Home, "1"), language);

        assert!(html(&page).contains(&format!("href=\"/\">{words}</a>")), "{}", html(&page));
    }
}

#[test]
fn a_page_that_asks_to_copy_the_address_has_a_button_that_does() {
    let pages = build(&LoginPage::default());
    for notice in Notice::ALL {
        let page = pages.message(&Message::new(notice, Action::Nothing, "1"), Language::English);

        let asks = Language::English.notice(notice).sentence.contains("opy the address");
        assert_eq!(html(&page).contains("id=\"copy\""), asks, "{notice:?}");
        assert_eq!(html(&page).contains("<script>"), asks, "{notice:?}");
        assert_eq!(policy(&page).contains("script-src 'sha256-"), asks, "{notice:?}");
    }
}

#[test]
fn every_page_brings_its_icon() {
    let pages = build(&LoginPage::default());
    let message = pages.message(&Message::new(Notice::NotFound, Action::Home, "1"), Language::English);
    let choices = [super::SHOP];
    let sign_in = super::sign_in(&pages, &super::in_browser(&choices), Language::English);
    for page in [message, sign_in] {
        let icons = tags(html(&page)).into_iter().filter(|(name, _)| name == "link").collect::<Vec<_>>();
        assert_eq!(icons.len(), 1);
        assert!(values(html(&page), "href")[0].starts_with("data:image/svg+xml;base64,"));
    }
}
