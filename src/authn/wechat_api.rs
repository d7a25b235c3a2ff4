//! Which calls of WeChat's API a program of the business may make.

use std::collections::BTreeMap;

use crate::config::{self, AppKind, Findings, InternalPermission, Rate};
use crate::wechat::{ApiPath, RefusedApiPath};

/// Which calls of WeChat's API a program of the business may make.
#[derive(Debug)]
pub struct WeChatApiAccess {
    apps: Vec<String>,
    default_app: Option<String>,
    paths: Vec<ApiPath>,
    rate: Rate,
}

impl WeChatApiAccess {
    /// Checks the section of a client.
    pub(super) fn build(
        client: &config::InternalClient,
        apps: &BTreeMap<String, config::App>,
        at: &str,
        findings: &mut Findings,
    ) -> Option<Self> {
        let is_permitted = client.may.contains(&InternalPermission::WechatApi);
        let Some(config) = &client.wechat_api else {
            if is_permitted {
                findings
                    .error(format!("{at}.may"), "`wechat_api` needs the section `wechat_api` of the client")
                    .hint("write `wechat_api: { apps: [shop], paths: [/wxa/msg_sec_check] }`");
            }
            return None;
        };
        let at = format!("{at}.wechat_api");
        if !is_permitted {
            findings
                .error(&*at, "`may` of the client does not have `wechat_api`")
                .hint("add `wechat_api` to `may`, or remove the section");
        }
        check_apps(config, apps, &at, findings);
        let mut paths = Vec::with_capacity(config.paths.len());
        for (index, text) in config.paths.iter().enumerate() {
            match ApiPath::parse(text) {
                Ok(path) => paths.push(path),
                Err(refused) => {
                    let hint = match refused {
                        RefusedApiPath::NotPlain => "write a path such as `/wxa/msg_sec_check`",
                        RefusedApiPath::OfCredentials => "remove it: nobody calls it through the gateway",
                    };
                    let text = text.escape_debug();
                    findings.error(format!("{at}.paths[{index}]"), format!("`{text}`: {refused}")).hint(hint);
                }
            }
        }
        if config.paths.is_empty() {
            findings
                .warning(format!("{at}.paths"), "the client calls nothing: it has no path")
                .hint("write the prefixes of the paths that it calls");
        }
        let only = if let [only] = &*config.apps { Some(only.clone()) } else { None };
        let default_app = config.default_app.clone().or(only);
        Some(Self { apps: config.apps.clone(), default_app, paths, rate: config.rate })
    }

    /// The app of this name, if the client may call for it.
    pub fn app(&self, name: &str) -> Option<&str> {
        self.apps.iter().map(String::as_str).find(|app| *app == name)
    }

    /// The app that is meant if a request names none.
    pub fn default_app(&self) -> Option<&str> {
        self.default_app.as_deref()
    }

    /// The prefixes of what the client may call.
    pub fn paths(&self) -> impl Iterator<Item = &ApiPath> {
        self.paths.iter()
    }

    /// How often the client may call each prefix.
    pub const fn rate(&self) -> Rate {
        self.rate
    }
}

fn check_apps(
    config: &config::WeChatApiAccess,
    apps: &BTreeMap<String, config::App>,
    at: &str,
    findings: &mut Findings,
) {
    if config.apps.is_empty() {
        findings.error(format!("{at}.apps"), "the client calls for no app").hint("name at least one app");
    }
    for (index, name) in config.apps.iter().enumerate() {
        let at = format!("{at}.apps[{index}]");
        match apps.get(name) {
            None => {
                findings
                    .error(at, format!("app `{name}` is not configured"))
                    .hint("write the name of an app under `apps`");
            }
            Some(app) if matches!(app.kind, AppKind::Website | AppKind::Mobile) => {
                let kind = app.kind.as_str();
                findings
                    .error(at, format!("app `{name}` is a `{kind}`, for which WeChat gives no access token"))
                    .hint("name a `mini_program` or an `official_account`");
            }
            Some(_) => {}
        }
    }
    if let Some(name) = &config.default_app
        && !config.apps.contains(name)
    {
        findings
            .error(format!("{at}.default_app"), format!("`{name}` is not in `apps` of the client"))
            .hint("add it to `apps`, or name another one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppTokenApi, BrowserCheck, SecretSource};

    fn app(kind: AppKind) -> config::App {
        config::App {
            kind,
            appid: "wx1".into(),
            secret: SecretSource::Inline("s".into()),
            title: None,
            scope: None,
            browser_check: BrowserCheck::default(),
            code_login: false,
            unknown_unionid: None,
            app_token: AppTokenApi::default(),
            hand_over: None,
        }
    }

    fn built(apps: &[&str], default_app: Option<&str>, paths: &[&str]) -> (Option<WeChatApiAccess>, String) {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let access = config::WeChatApiAccess {
            apps: owned(apps),
            default_app: default_app.map(str::to_owned),
            paths: owned(paths),
            rate: Rate::per_minute(1),
        };
        let client = config::InternalClient {
            name: "crm".into(),
            token: SecretSource::Inline("crm-token-0123456789".into()),
            may: vec![InternalPermission::WechatApi],
            wechat_api: Some(access),
        };
        let known = BTreeMap::from([
            ("shop".to_owned(), app(AppKind::MiniProgram)),
            ("news".to_owned(), app(AppKind::OfficialAccount)),
            ("site".to_owned(), app(AppKind::Website)),
        ]);
        let mut findings = Findings::default();
        let access = WeChatApiAccess::build(&client, &known, "client", &mut findings);
        (access, findings.iter().map(|finding| format!("{finding}\n")).collect())
    }

    #[test]
    fn the_only_app_is_the_default_one() {
        let default = |apps, named| built(apps, named, &["/wxa"]).0.unwrap().default_app().map(str::to_owned);

        assert_eq!(default(&["shop"], None).as_deref(), Some("shop"));
        assert_eq!(default(&["shop", "news"], None), None);
        assert_eq!(default(&["shop", "news"], Some("news")).as_deref(), Some("news"));
        assert_eq!(built(&["shop"], None, &["/wxa"]).1, "");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (apps, default_app, paths, expected) in [
            (&[][..], None, &["/wxa"][..], "client.wechat_api.apps: the client calls for no app"),
            (&["other"], None, &["/wxa"], "client.wechat_api.apps[0]: app `other` is not configured"),
            (&["site"], None, &["/wxa"], "client.wechat_api.apps[0]: app `site` is a `website`"),
            (&["shop"], Some("news"), &["/wxa"], "client.wechat_api.default_app: `news` is not in"),
            (&["shop"], None, &["/wxa", "/"], "client.wechat_api.paths[1]: "),
            (&["shop"], None, &["wxa"], "client.wechat_api.paths[0]: "),
            (&["shop"], None, &["/wxa/"], "client.wechat_api.paths[0]: "),
            (&["shop"], None, &["/wxa/*"], "client.wechat_api.paths[0]: "),
            (&["shop"], None, &["/sns/oauth2"], "client.wechat_api.paths[0]: "),
            (&["shop"], None, &["/cgi-bin/token"], "client.wechat_api.paths[0]: "),
            (&["shop"], None, &["/CGI-BIN/Stable_Token"], "client.wechat_api.paths[0]: "),
            (&["shop"], None, &[], "client.wechat_api.paths: the client calls nothing"),
        ] {
            let (_, said) = built(apps, default_app, paths);

            assert!(said.contains(expected), "{said}");
        }
    }
}
