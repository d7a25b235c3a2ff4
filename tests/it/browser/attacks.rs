//! What attackers try against a sign-in with a browser, on the wire. Letters and numbers are those
//! of the list of attacks that the gateway is held against: D1 to D16 of docs/threat-model.md.

mod cache;
mod callback;
mod cookies;
mod origin;
mod profile;
mod return_to;
mod state;
mod unasked;

use crate::common::site::SESSION;
use crate::common::{Response, Site};

/// Fails the test where an answer opened a session.
#[track_caller]
fn assert_not_signed_in(response: &Response, tried: &str) {
    let session = format!("{SESSION}=");
    let set: Vec<&str> =
        set_cookies(response).into_iter().filter(|line| line.starts_with(&session)).collect();
    let opened: Vec<&&str> = set.iter().filter(|line| !line.starts_with(&format!("{session};"))).collect();
    assert!(opened.is_empty(), "{tried}: {opened:?}");
    assert!(matches!(response.status, 400..=599), "{tried}: {}", response.status);
}

fn set_cookies(response: &Response) -> Vec<&str> {
    let cookies = response.headers.iter().filter(|(name, _)| name == "set-cookie");
    cookies.map(|(_, value)| value.as_str()).collect()
}

/// How many sign-ins of an app ended so.
fn outcomes(site: &Site, flow: &str, outcome: &str) -> f64 {
    site.world
        .metric(&format!(r#"menshen_logins_total{{flow="{flow}",outcome="{outcome}",provider="wechat"}}"#))
}
