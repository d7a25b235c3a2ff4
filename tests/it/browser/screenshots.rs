//! Pictures of the pages, for people to look at: `screenshots` in cargo's target folder.

use serde_json::json;

use crate::common::browser::{self, Browser};
use crate::common::{Site, Visitor};

#[test]
fn pages_fit_a_phone_and_a_desktop_in_both_languages() {
    let site = Site::new();
    let folder = browser::screenshots();
    let mut taken = 0;
    for (language, languages) in [("zh", "zh-CN,zh"), ("en", "en-US,en")] {
        let browser = Browser::speaking(languages);
        for (width, height) in [(390, 844), (1280, 800)] {
            for page in ["sign-in", "message"] {
                let tab = browser.open("about:blank");
                tab.set_size(width, height);
                if page == "sign-in" {
                    tab.go(&site.url("/orders/7"));
                    site.next_qr_code();
                    tab.wait("the frame is there", |tab| tab.evaluate("frames.length") == json!(1));
                } else {
                    let begun = Visitor::at(site.world.address()).begin("site", "/orders/7");
                    tab.go(&site.url(&begun.callback(&site.world.emulator, "alice")));
                }
                let fits = tab.evaluate("document.documentElement.scrollWidth <= innerWidth");
                assert_eq!(fits, json!(true), "{page} {language} {width}: {}", tab.text());
                tab.screenshot(&folder.join(format!("{page}-{language}-{width}x{height}.png")));
                taken += 1;
            }
        }
    }
    assert_eq!(taken, 8);
}
