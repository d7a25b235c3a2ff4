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
    /// The style sheet that the site gave for its frame.
    style: Option<ForeignStyle>,
}

/// A style sheet of another server, or a `data:` URI of one.
#[derive(Debug)]
struct ForeignStyle {
    href: String,
    /// What the policy of the page names it by.
    source: String,
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
        let Self { title, head, body, is_embeddable, style } = self;
        let (foreign, source) = match style {
            Some(ForeignStyle { href, source }) => {
                (format!("<link rel=\"stylesheet\" href=\"{}\">\n", escape(&href)), format!(" {source}"))
            }
            None => (String::new(), String::new()),
        };
        let html = format!(
            r#"<!doctype html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{ICON}">
<link rel="stylesheet" href="{STYLE}">
{foreign}{head}</head>
<body>
{body}
<footer>Menshen · WeChat emulator</footer>
</body>
</html>
"#
        );
        let policy = if is_embeddable { POLICY_EMBEDDABLE } else { POLICY };
        let policy = policy.replace("style-src 'self'", &format!("style-src 'self'{source}"));
        let policy = HeaderValue::from_str(&policy).unwrap_or(NOTHING);
        Reply::new(StatusCode::OK, "text/html; charset=utf-8", html)
            .uncached()
            .with(header::CONTENT_SECURITY_POLICY, policy)
            .with(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
            .with(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }
}

/// The policy of a page whose own is no header value.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'");
/// A speech bubble. Without an icon, a browser asks for `/favicon.ico`.
const ICON: &str = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAzMiAzMiI+PHBhdGggZmlsbD0iIzA3YzE2MCIgZD0iTTE2IDRjNy43IDAgMTQgNS4yIDE0IDExLjVTMjMuNyAyNyAxNiAyN2MtMS42IDAtMy4yLS4yLTQuNi0uN0w1IDI5bDEuNy00LjhDMy44IDIyLjEgMiAxOSAyIDE1LjUgMiA5LjIgOC4zIDQgMTYgNHoiLz48L3N2Zz4K";
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const POLICY_EMBEDDABLE: &str = "default-src 'none'; style-src 'self'; img-src data:; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *";

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

impl ForeignStyle {
    /// What WeChat's widget passes on as `href`: an `https` URL, or a `data:` URI of CSS; here also
    /// an `http` URL, since tests have no TLS. Others are ignored.
    fn parse(href: &str) -> Option<Self> {
        if href.starts_with("data:text/css") {
            return Some(Self { href: href.to_owned(), source: "data:".to_owned() });
        }
        let (scheme, rest) =
            href.split_once("://").filter(|(scheme, _)| ["https", "http"].contains(scheme))?;
        let authority = rest.split(['/', '?', '#']).next()?;
        // Nothing that would end the directive of the policy.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte);
        let is_sound = !authority.is_empty() && authority.bytes().all(is_plain);
        is_sound.then(|| Self { href: href.to_owned(), source: format!("{scheme}://{authority}") })
    }
}

/// A person, with what the person does.
fn person(nickname: &str, caption: &str) -> String {
    format!(
        r#"{}<span class="who"><bdi>{}</bdi><small>{}</small></span>"#,
        portrait(nickname),
        escape(nickname),
        escape(caption)
    )
}

/// A person's picture: the first character of their name, since a real picture comes from another
/// server.
fn portrait(nickname: &str) -> String {
    let initial: String = nickname.chars().take(1).collect();
    format!(r#"<span class="portrait" aria-hidden="true">{}</span>"#, escape(&initial))
}
