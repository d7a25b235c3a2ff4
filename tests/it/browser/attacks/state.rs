//! D6, D7, D8, D10: `state`, which ties the way back to the browser that left.

use std::collections::BTreeSet;
use std::time::Duration;

use menshen::emulator::Config;

use super::assert_not_signed_in;
use crate::common::site::{BROWSER, SESSION};
use crate::common::{Site, Tally, Visitor};

#[test]
fn callback_without_the_state_of_this_browser_opens_no_session() {
    let site = Site::new();
    let emulator = &site.world.emulator;
    let at = "/auth/web/site/callback";
    let mut tally = Tally::default();
    let mut refuse = |visitor: &mut Visitor, path: &str| {
        let answer = visitor.open(path);
        assert_not_signed_in(&answer, path);
        assert!(matches!(answer.status, 400 | 403), "{path}: {}", answer.status);
        tally.add(answer.status, 0);
    };

    let mut visitor = Visitor::at(site.world.address());
    let begun = visitor.begin("site", "/page");
    let code = begun.code(emulator, "alice");
    let other = Visitor::at(site.world.address()).begin("site", "/page");
    let state = &begun.state;
    let (last, shorter) = (state.chars().last().unwrap(), &state[..state.len() - 1]);
    for query in [
        format!("code={code}"),
        format!("code={code}&state="),
        format!("code={code}&state={state}&state={state}"),
        format!("code={code}&state={state}&state={}", other.state),
        format!("code={code}&state={}", other.state),
        format!("code={code}&state={shorter}"),
        format!("code={code}&state={state}{last}"),
        format!("code={code}&state={}", state.to_ascii_uppercase()),
        format!("code={code}&state={}", "a".repeat(43)),
        format!("code={code}&state={}", "a".repeat(129)),
        format!("code={code}&state={}", "a".repeat(6000)),
        format!("code={code}&state={state}%00"),
        format!("code={code}&state=%20{state}"),
        format!("code={code}&state={state}|https://evil.example/"),
        format!("code={code}&state=https%3A%2F%2Fevil.example%2F"),
        format!("code={code}&STATE={state}"),
        format!("code={code}&state[]={state}"),
        String::new(),
        "code=&state=".to_owned(),
    ] {
        refuse(&mut visitor, &format!("{at}?{query}"));
    }
    // One app's state is none of another.
    refuse(&mut visitor, &begun.callback_with(&code).replace("/site/", "/account/"));
    assert_eq!(site.exchanges(), 0, "WeChat was asked");
    // None of this spent it.
    assert_eq!(visitor.open(&begun.callback_with(&code)).status, 303);
    tally.report("browser: states");
}

#[test]
fn callback_in_another_browser_opens_no_session() {
    let site = Site::new();
    let emulator = &site.world.emulator;
    let mut attacker = Visitor::at(site.world.address());
    let begun = attacker.begin("site", "/page");
    let path = begun.callback(emulator, "mallory's account");

    let mut without_cookies = Visitor::at(site.world.address());
    assert_not_signed_in(&without_cookies.open(&path), "no cookie");
    let mut with_another = Visitor::at(site.world.address());
    with_another.begin("site", "/page");
    assert_not_signed_in(&with_another.open(&path), "the cookie of another browser");
    for value in ["", "x", &"A".repeat(43), &"A".repeat(64)] {
        let mut with_made_up = Visitor::at(site.world.address());
        with_made_up.cookies.insert(BROWSER.to_owned(), value.to_owned());
        assert_not_signed_in(&with_made_up.open(&path), value);
    }

    assert_eq!(site.exchanges(), 0);
    assert_eq!(attacker.open(&path).status, 303, "whoever began may go on");
}

#[test]
fn loose_app_accepts_a_browser_without_cookies_but_not_with_another_cookie() {
    let site = Site::with(Config::default(), &[("title: 小店", "title: 小店, browser_check: loose")]);
    let emulator = &site.world.emulator;
    let begun = Visitor::at(site.world.address()).begin("site", "/page");
    let path = begun.callback(emulator, "alice");

    let mut with_another = Visitor::at(site.world.address());
    with_another.begin("site", "/page");
    assert_not_signed_in(&with_another.open(&path), "the cookie of another browser");
    let mut without = Visitor::at(site.world.address());
    assert_eq!(without.open(&path).status, 303);

    assert!(without.cookies.contains_key(SESSION));
    let mut third = Visitor::at(site.world.address());
    let elsewhere = third.send("GET", &path, "User-Agent: another\r\nAccept: text/html\r\n", "");
    assert_not_signed_in(&elsewhere, "the same once more, in another browser");
}

#[test]
fn state_is_good_for_ten_minutes() {
    let site = Site::new();
    for (seconds, status) in [(590, 303), (601, 403)] {
        let mut visitor = Visitor::at(site.world.address());
        let begun = visitor.begin("site", "/page");
        site.world.clock.advance(Duration::from_secs(seconds));
        // The code is fresh: it is the state that is old.
        let path = begun.callback(&site.world.emulator, "alice");
        let exchanges = site.exchanges();

        let answer = visitor.open(&path);

        assert_eq!(answer.status, status, "{seconds} s: {}", answer.text());
        assert_eq!(site.exchanges() - exchanges, usize::from(status == 303));
    }
}

/// D8: `state` is random and gives no access.
#[test]
fn state_is_random_letters_and_digits_and_no_credential() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    let states: BTreeSet<String> = (0..200).map(|_| visitor.begin("site", "/page").state).collect();
    visitor.sign_in(&site.world.emulator, "site", "alice");

    assert_eq!(states.len(), 200);
    for state in &states {
        assert!((22..=128).contains(&state.len()), "{state}");
        assert!(state.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{state}");
        for value in visitor.cookies.values() {
            assert!(!value.contains(state.as_str()) && !state.contains(value.as_str()));
        }
    }
    let bearer = format!("Authorization: Bearer {}\r\n", states.first().unwrap());
    assert_eq!(site.world.get("/page", &bearer).status, 401);
}

/// D10: any number of tabs, and no cookie for each.
#[test]
fn twenty_tabs_finish_in_any_order_with_one_cookie_between_them() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    let begun: Vec<_> = (0..20).map(|tab| visitor.begin("site", &format!("/tab/{tab}"))).collect();
    assert_eq!(visitor.cookies.keys().collect::<Vec<_>>(), [BROWSER]);

    for (tab, begun) in begun.iter().enumerate().rev() {
        let answer = visitor.come_back(&site.world.emulator, begun, "alice");
        assert_eq!(answer.header("location"), Some(format!("/tab/{tab}").as_str()), "{}", answer.text());
        assert_eq!(visitor.open("/page").status, 200, "{tab}");
    }
    assert_eq!(visitor.cookies.len(), 2);
}
