use super::{build, html, policy, tags, values};
use crate::config::LoginPage;
use crate::page::{Language, Message, Notice};

fn message(notice: Notice, retry: Option<&str>, language: Language) -> String {
    let pages = build(&LoginPage { title: Some("小店".into()), ..LoginPage::default() });
    html(&pages.message(&Message { notice, retry, request_id: "req-1" }, language)).to_owned()
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
    assert_eq!(headings.len(), 30, "a sentence for each");
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
        Notice::Refused => 1,
        Notice::Expired => 2,
        Notice::CodeInvalid => 3,
        Notice::OtherBrowser => 4,
        Notice::SnapshotVisitor => 5,
        Notice::OpenInWeChat => 6,
        Notice::UserBlocked => 7,
        Notice::NotAdmitted => 8,
        Notice::Throttled => 9,
        Notice::Unavailable => 10,
        Notice::Misconfigured => 11,
        Notice::NothingToSignInTo => 12,
        Notice::Malformed => 13,
        Notice::Internal => 14,
    };
    assert!(Notice::ALL.into_iter().map(position).eq(0..15));
}

#[test]
fn page_without_a_way_to_try_again_has_no_link() {
    assert_eq!(values(&message(Notice::Expired, None, Language::English), "href"), Vec::<String>::new());
}

#[test]
fn message_cannot_be_broken_out_of() {
    for hostile in super::sign_in::HOSTILE {
        let pages = build(&LoginPage { title: Some((*hostile).into()), ..LoginPage::default() });
        let message = Message { notice: Notice::Expired, retry: Some(hostile), request_id: hostile };
        let plain = Message { notice: Notice::Expired, retry: Some("/"), request_id: "1" };

        let page = pages.message(&message, Language::English);

        let names = |html: &str| tags(html).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(html(&page)), names(html(&pages.message(&plain, Language::English))), "{hostile}");
        assert_eq!(values(html(&page), "href"), [hostile.replace('\0', "\u{fffd}")]);
    }
}

#[test]
fn message_runs_no_script_and_loads_nothing() {
    let pages = build(&LoginPage::default());
    let message = Message { notice: Notice::Expired, retry: Some("/auth/login"), request_id: "1" };

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
