//! A tab: what a person sees in it, and does with it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Browser, PATIENCE};
use crate::common::now;

/// A tab; it is closed with its browser.
pub struct Tab<'a> {
    browser: &'a Browser,
    session: String,
}

impl<'a> Tab<'a> {
    pub(super) fn new(browser: &'a Browser) -> Self {
        let target = json!({ "url": "about:blank", "newWindow": true });
        let target = browser.order(None, "Target.createTarget", target);
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.order(None, "Target.attachToTarget", attach);
        Self { browser, session: attached["sessionId"].as_str().unwrap().to_owned() }
    }

    /// Types an address into the address bar, and waits until its page is there.
    pub fn go(&self, url: &str) {
        let answer = self.order("Page.navigate", json!({ "url": url }));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.wait("the page is there", |_| self.is_complete());
    }

    /// The button that goes one page back.
    pub fn back(&self) {
        let mut history = self.order("Page.getNavigationHistory", json!({}));
        let current = history["currentIndex"].as_u64().unwrap() as usize;
        assert!(current > 0, "there is nothing to go back to: {history}");
        let entry = history["entries"][current - 1]["id"].take();
        self.order("Page.navigateToHistoryEntry", json!({ "entryId": entry }));
    }

    /// The addresses that the back button knows, oldest first.
    pub fn history(&self) -> Vec<String> {
        let history = self.order("Page.getNavigationHistory", json!({}));
        let entries = history["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["url"].as_str().unwrap().to_owned()).collect()
    }

    /// What the address bar shows.
    pub fn url(&self) -> String {
        self.text_of("location.href")
    }

    /// What the page says, as a person reads it.
    pub fn text(&self) -> String {
        self.text_of("document.body ? document.body.innerText : ''")
    }

    /// The address that a link leads to.
    pub fn href(&self, selector: &str) -> String {
        self.wait_for(selector);
        self.text_of(&format!("document.querySelector({}).href", json!(selector)))
    }

    /// Whether the page has such an element, seen or not.
    pub fn has(&self, selector: &str) -> bool {
        self.evaluate(&format!("document.querySelector({}) !== null", json!(selector))) == json!(true)
    }

    /// Presses the mouse on the first such element that is seen, once there is one.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.wait(&format!("{selector} is pressed"), |tab| tab.is_complete() && tab.try_click(selector));
    }

    /// Presses the mouse on an element; whether it was there, and felt it. A browser drops what
    /// comes before a new page was drawn for the first time.
    fn try_click(&self, selector: &str) -> bool {
        let place = self.evaluate(&format!(
            "(() => {{
                const isSeen = element => element.checkVisibility() && element.getClientRects().length > 0;
                const element = [...document.querySelectorAll({})].find(isSeen);
                if (!element) return null;
                window.pressedByTest = element;
                element.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                const box = element.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()",
            json!(selector)
        ));
        if place.is_null() {
            return false;
        }
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.order("Input.dispatchMouseEvent", event);
        }
        // What is pressed has the focus, or has led to another page, which knows nothing of it.
        let script = "!window.pressedByTest || document.activeElement === window.pressedByTest";
        self.evaluate(script) != json!(false)
    }

    /// Waits for an element.
    pub fn wait_for(&self, selector: &str) {
        self.wait(selector, |tab| tab.has(selector));
    }

    /// Waits until the address begins so, and the page is there.
    pub fn wait_for_url(&self, beginning: &str) {
        self.wait(beginning, |tab| tab.url().starts_with(beginning) && tab.is_complete());
    }

    /// Waits until the page says so.
    pub fn wait_for_text(&self, text: &str) {
        self.wait(text, |tab| tab.text().contains(text));
    }

    /// What a script in the page comes to; a promise is waited for.
    pub fn evaluate(&self, script: &str) -> Value {
        let order = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        // The page may be leaving this very moment, and its scripts with it.
        let answer = self.browser.try_order(Some(&self.session), "Runtime.evaluate", order);
        let mut answer = answer.unwrap_or_default();
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer}");
        answer["result"]["value"].take()
    }

    /// Turns scripts off in the pages to come.
    pub fn disable_scripts(&self) {
        self.order("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    }

    /// Calls itself so from now on.
    pub fn set_user_agent(&self, user_agent: &str) {
        self.order("Network.setUserAgentOverride", json!({ "userAgent": user_agent }));
    }

    /// Prefers dark pages from now on.
    pub fn prefer_dark(&self) {
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.order("Emulation.setEmulatedMedia", dark);
    }

    /// The size of the page, in CSS pixels, from now on.
    pub fn set_size(&self, width: u32, height: u32) {
        let is_phone = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.order("Emulation.setDeviceMetricsOverride", size);
    }

    /// Writes what is seen to a PNG file.
    pub fn screenshot(&self, file: &Path) {
        let answer = self.order("Page.captureScreenshot", json!({ "format": "png" }));
        let png = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, png).unwrap();
    }

    /// Waits until something is true of the tab; fails the test with what it shows instead.
    #[track_caller]
    pub fn wait(&self, what: &str, mut is_true: impl FnMut(&Self) -> bool) {
        let deadline = now() + PATIENCE;
        while !is_true(self) {
            if now() > deadline {
                panic!("did not happen in {PATIENCE:?}: {what}\nat {}:\n{}", self.url(), self.text());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn is_complete(&self) -> bool {
        self.evaluate("document.readyState") == json!("complete")
    }

    fn text_of(&self, script: &str) -> String {
        self.evaluate(script).as_str().unwrap_or_default().to_owned()
    }

    fn order(&self, method: &str, parameters: Value) -> Value {
        let mut answer = Value::Null;
        self.wait(method, |tab| {
            match tab.browser.try_order(Some(&tab.session), method, parameters.clone()) {
                Ok(given) => {
                    answer = given;
                    true
                }
                // One page has left, and the next is not there yet.
                Err(error) if error.contains("Not attached to an active page") => false,
                Err(error) => panic!("{method}: {error}"),
            }
        });
        answer
    }
}
