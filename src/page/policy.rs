//! What the browser of a page may load: only what the page is made of.
//!
//! A style is allowed by its hash and a script by a nonce. A template's styles are the same in
//! every page, so their hashes are computed once, from trusted samples. A style that data brings
//! into a page has another hash, and the browser ignores it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::digest::sha256;

/// Hashes of the styles that templates put into their pages.
#[derive(Clone, Debug, Default)]
pub(super) struct Styles {
    sources: BTreeSet<String>,
}

/// What WeChat's widget needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scripted<'a> {
    pub(super) nonce: &'a str,
    pub(super) frame_origin: &'a str,
}

impl Styles {
    /// Adds every `style` element of a page.
    pub(super) fn add(&mut self, html: &str) {
        // Of the same length, so that what is found in one is found in the other.
        let lower = html.to_ascii_lowercase();
        let mut at = 0;
        while let Some((start, end)) = next_style(&lower, at) {
            if let Some(style) = html.get(start..end) {
                self.sources.insert(source(style));
            }
            at = end;
        }
    }

    /// The policy of a page; without a script there is no frame either.
    pub(super) fn policy(&self, scripted: Option<Scripted<'_>>) -> HeaderValue {
        let mut policy = "default-src 'none'; img-src data: 'self'; form-action 'self'; base-uri 'none'; \
                          frame-ancestors 'none'"
            .to_owned();
        if !self.sources.is_empty() {
            policy.push_str("; style-src");
            for source in &self.sources {
                policy.push(' ');
                policy.push_str(source);
            }
        }
        if let Some(Scripted { nonce, frame_origin }) = scripted {
            policy.push_str(&format!("; script-src 'nonce-{nonce}'"));
            if is_origin(frame_origin) {
                policy.push_str(&format!("; frame-src {frame_origin}"));
            }
        }
        HeaderValue::from_str(&policy).unwrap_or(NOTHING)
    }
}

/// The policy of a page without one of its own.
pub(super) const NOTHING: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Begin and end of the text of the next `style` element.
fn next_style(lower: &str, from: usize) -> Option<(usize, usize)> {
    const OPEN: &str = "<style";
    let open = from + lower.get(from..)?.find(OPEN)? + OPEN.len();
    let start = open + lower.get(open..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</style")?;
    Some((start, end))
}

fn source(style: &str) -> String {
    // A browser hashes the parsed text, in which each end of line is one character.
    let parsed = style.replace("\r\n", "\n").replace('\r', "\n");
    format!("'sha256-{}'", STANDARD.encode(sha256(&[parsed.as_bytes()])))
}

/// Whether a text is an origin and nothing that would add to a policy.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    ["http", "https"].contains(&scheme)
        && !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
}
