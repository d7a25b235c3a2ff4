//! What the browser of a page may load: only what the page is made of.
//!
//! A style is allowed by its hash. Of scripts, WeChat's widget is allowed by a nonce, and the one
//! that copies the address by its hash. A template's styles are the same in every page, so their
//! hashes are computed once, from trusted samples. A style that data brings into a page has another
//! hash, and the browser ignores it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::digest::sha256;

/// Hashes of the styles that templates put into their pages.
#[derive(Clone, Debug, Default)]
pub(super) struct Styles {
    sources: BTreeSet<String>,
}

/// The script of the button that copies the address of a page.
pub(super) const COPY_SCRIPT: &str = include_str!("templates/copy.js");

static COPY_SOURCE: LazyLock<String> = LazyLock::new(|| source(COPY_SCRIPT));

/// The scripts of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scripts<'a> {
    pub(super) widget: Option<Scripted<'a>>,
    /// Whether a button copies the address.
    pub(super) copies: bool,
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

    /// The policy of a page; without the widget there is no frame either.
    pub(super) fn policy(&self, scripts: Scripts<'_>) -> HeaderValue {
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
        if scripts.copies || scripts.widget.is_some() {
            policy.push_str("; script-src");
        }
        if scripts.copies {
            policy.push(' ');
            policy.push_str(&COPY_SOURCE);
        }
        if let Some(Scripted { nonce, frame_origin }) = scripts.widget {
            policy.push_str(&format!(" 'nonce-{nonce}'"));
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
