//! Pages for a browser: WeChat's own, and one that replaces the phone.
//!
//! Text from outside enters a page only through [`escape`], and the policy of every page forbids
//! content from other servers.

mod consent;
mod phone;
mod qr_code;
mod website;

use http::{HeaderValue, StatusCode, header};

use super::Emulator;
use super::answer::Reply;
use super::request::Request;

/// The pages that WeChat itself has: they are logged, and faults apply to them.
pub(super) const PATHS: [&str; 4] = [WEBSITE, OFFICIAL_ACCOUNT, WIDGET, WIDGET_EN];

const WEBSITE: &str = "/connect/qrconnect";
const OFFICIAL_ACCOUNT: &str = "/connect/oauth2/authorize";
const WIDGET: &str = "/connect/zh_CN/htmledition/js/wxLogin.js";
const WIDGET_EN: &str = "/connect/en_US/htmledition/js/wxLogin.js";
/// The path that a page polls for what the phone did.
pub(super) const POLL: &str = "/connect/l/qrconnect";
/// The path that a QR code encodes.
const PHONE: &str = "/connect/confirm";
const QR_IMAGE: &str = "/connect/qrcode/";
const STYLE: &str = "/connect/emulator/style.css";
const SCRIPT: &str = "/connect/emulator/qrconnect.js";

impl Emulator {
    /// A page of WeChat's own; another path is `None`.
    pub(super) fn page(&self, request: &Request) -> Option<Reply> {
        Some(match request.path.as_str() {
            WEBSITE => self.website_page(request),
            OFFICIAL_ACCOUNT => self.official_account_page(request),
            WIDGET | WIDGET_EN => script(include_str!("wxLogin.js")),
            _ => return None,
        })
    }

    /// The pages' other resources; another path is `None`.
    pub(super) fn beside_page(&self, request: &Request) -> Option<Reply> {
        Some(match request.path.as_str() {
            PHONE => self.phone_page(request),
            STYLE => Reply::new(StatusCode::OK, "text/css; charset=utf-8", include_str!("style.css")),
            SCRIPT => script(include_str!("qrconnect.js")),
            path => qr_code::image(request, path.strip_prefix(QR_IMAGE)?),
        })
    }
}

/// A page before it is rendered.
#[derive(Debug, Default)]
struct Page {
    /// Plain text.
    title: &'static str,
    /// Markup for the end of the head.
    head: String,
    /// Markup.
    body: String,
    /// Whether other sites may show the page in a frame, as they do with the QR code.
    is_embeddable: bool,
}

impl Page {
    /// A page with one message.
    fn message(title: &'static str, text: &str) -> Self {
        let body = format!(
            r#"<main class="card"><p class="mark" aria-hidden="true">!</p><h1>{title}</h1><p class="text">{}</p></main>"#,
            escape(text)
        );
        Self { title, body, ..Self::default() }
    }

    fn into_reply(self) -> Reply {
        let Self { title, head, body, is_embeddable } = self;
        let html = format!(
            r#"<!doctype html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{STYLE}">
{head}</head>
<body>
{body}
<footer>Menshen · WeChat emulator</footer>
</body>
</html>
"#
        );
        let policy = if is_embeddable { POLICY_EMBEDDABLE } else { POLICY };
        Reply::new(StatusCode::OK, "text/html; charset=utf-8", html)
            .uncached()
            .with(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))
            .with(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
            .with(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }
}

const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const POLICY_EMBEDDABLE: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *";

/// Sends the browser elsewhere.
fn redirect(location: &str) -> Reply {
    let reply = Reply::new(StatusCode::FOUND, "text/html; charset=utf-8", "").uncached();
    match HeaderValue::from_str(location) {
        Ok(location) => reply.with(header::LOCATION, location),
        Err(_) => Page::message("无法跳转 Cannot redirect", location).into_reply(),
    }
}

fn script(text: &'static str) -> Reply {
    Reply::new(StatusCode::OK, "text/javascript; charset=utf-8", text)
}

/// Text as markup, in an element or in an attribute between double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A browser turns it into a replacement character, but only in some places.
            '\0' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A path with parameters, as markup for an attribute.
fn link<'a>(path: &str, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    escape(&format!("{path}?{query}"))
}

/// A person's picture: the first character of their name, since a real picture comes from another
/// server.
fn portrait(nickname: &str) -> String {
    let initial: String = nickname.chars().take(1).collect();
    format!(r#"<span class="portrait" aria-hidden="true">{}</span>"#, escape(&initial))
}
