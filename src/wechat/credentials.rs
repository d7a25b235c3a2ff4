//! Whether an appid and a secret can be those of an app at WeChat.

use crate::config::{Findings, SecretSource, WeChat, placeholder};

/// Characters of WeChat's secrets.
const SECRET_DIGITS: usize = 32;
/// Characters of an appid after `wx`.
const APPID_DIGITS: usize = 16;

/// Whether every host is WeChat itself: an emulator has appids and secrets of its own.
pub(super) fn are_of_wechat(config: &WeChat) -> bool {
    config.hosts.iter().all(|host| {
        let host = host.trim_end_matches('/');
        host.starts_with("https://") && host.ends_with(".weixin.qq.com")
    })
}

/// Refuses an appid that WeChat gives to no app.
pub(super) fn check_appid(key: &str, appid: &str, findings: &mut Findings) {
    let is_appid = |text: &str| {
        text.strip_prefix("wx").is_some_and(|digits| {
            digits.len() == APPID_DIGITS
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    if is_appid(appid) {
        return;
    }
    let lower = appid.to_ascii_lowercase();
    let hint = match lower.as_str() {
        _ if is_appid(&lower) => format!("write `{lower}`"),
        _ if appid.starts_with("gh_") => {
            "this is the original id (原始ID); WeChat's console shows the AppID beside it".to_owned()
        }
        _ if appid.starts_with("ww") => {
            "this is an id of WeCom (企业微信), which is another product".to_owned()
        }
        _ => format!("copy it from WeChat's console: `wx` and {APPID_DIGITS} hexadecimal digits"),
    };
    let shown = appid.escape_debug();
    findings.error(key, format!("`{shown}` is not an appid of WeChat")).hint(hint);
}

/// Refuses a secret that cannot be one. `is_wechat` is whether it is for WeChat itself. No message
/// shows it.
pub(super) fn check_secret(
    key: &str,
    source: &SecretSource,
    secret: &str,
    is_wechat: bool,
    findings: &mut Findings,
) {
    let from = match source {
        SecretSource::Inline(_) => "this".to_owned(),
        SecretSource::Env(source) => format!("the text in `{}`", source.env),
        SecretSource::File(source) => format!("the text in `{}`", source.file.display()),
    };
    let bare = secret.trim().trim_matches(['"', '\'']);
    let is_secret =
        |text: &str| text.len() == SECRET_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_path = ["/", "./", "../", "~/"].iter().any(|start| secret.starts_with(start));
    if is_secret(secret) {
    } else if is_path && source.is_inline() {
        findings.error(key, "this looks like a path, not like a secret").hint("write `{ file: PATH }`");
    } else if is_path {
        findings
            .error(key, format!("{from} looks like a path, not like a secret"))
            .hint("put the secret itself there");
    } else if let Some(reason) = placeholder(secret) {
        findings.error(key, format!("{from} {reason}")).hint("put the secret there");
    } else if is_wechat && is_secret(bare) {
        findings.error(key, format!("{from} has quotes or blanks around the secret")).hint("remove them");
    } else if is_wechat {
        findings
            .warning(
                key,
                format!(
                    "{from} is not an app secret of WeChat, which has {SECRET_DIGITS} hexadecimal digits"
                ),
            )
            .hint("copy the AppSecret from WeChat's console");
    }
}
