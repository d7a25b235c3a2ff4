//! The client from its configuration.

use super::page::browser_apps;
use super::*;

#[test]
fn every_problem_of_a_configuration_is_reported() {
    type Change = fn(&mut config::WeChat, &mut BTreeMap<String, config::App>);
    let table: &[(&str, Change, &str)] = &[
        ("wechat.hosts", |c, _| c.hosts.clear(), "no host to call"),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["api.weixin.qq.com".into()],
            "not a URL: relative URL without a base",
        ),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["http://api.weixin.qq.com".into()],
            "`http://api.weixin.qq.com` would send the app's secret without encryption",
        ),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["http://localhost.evil.com".into()],
            "`http://localhost.evil.com` would send the app's secret without encryption",
        ),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["http://10.0.0.1".into()],
            "`http://10.0.0.1` would send the app's secret without encryption",
        ),
        (
            "wechat.hosts[1]",
            |c, _| c.hosts = vec!["https://a".into(), "ftp://a".into()],
            "scheme `ftp` is not supported",
        ),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["https://u:p@a".into()],
            "remove the user and the password",
        ),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["https://a/sns".into()],
            "`https://a/sns` has more than a scheme and a host",
        ),
        (
            "wechat.hosts[0]",
            |c, _| c.hosts = vec!["https://a?x".into()],
            "`https://a?x` has more than a scheme and a host",
        ),
        ("wechat.timeout", |c, _| c.timeout = config::Duration::from_secs(0), "`0s` is out of range"),
        (
            "wechat.connect_timeout",
            |c, _| c.connect_timeout = config::Duration::from_secs(0),
            "`0s` is out of range",
        ),
        (
            "wechat.breaker.open_for",
            |c, _| c.breaker.open_for = config::Duration::from_secs(86_401),
            "`86401s` is out of range",
        ),
        ("wechat.breaker.failures", |c, _| c.breaker.failures = 0, "`0` allows no call"),
        ("wechat.busy_retries", |c, _| c.busy_retries = 3, "`3` is too many"),
        ("wechat.max_in_flight", |c, _| c.max_in_flight = 0, "`0` is out of range"),
        (
            "wechat.max_in_flight",
            |c, _| c.max_in_flight = usize::MAX,
            "`18446744073709551615` is out of range",
        ),
        ("wechat.max_reply", |c, _| c.max_reply = ByteSize(0), "`0B` leaves no room for a reply"),
        (
            "wechat.ca_file",
            |c, _| c.ca_file = Some("Cargo.toml".into()),
            "file `Cargo.toml` holds no certificate in PEM",
        ),
        (
            "wechat.pages",
            |c, _| c.pages = "open.weixin.qq.com".into(),
            "not a URL: relative URL without a base",
        ),
        (
            "wechat.pages",
            |c, _| c.pages = "http://open.weixin.qq.com".into(),
            "`http://open.weixin.qq.com` would send users to WeChat without encryption",
        ),
        (
            "wechat.pages",
            |c, _| c.pages = "https://open.weixin.qq.com/connect".into(),
            "`https://open.weixin.qq.com/connect` has more than a scheme and a host",
        ),
        (
            "wechat.pages",
            |c, _| c.pages = "https://u@open.weixin.qq.com".into(),
            "remove the user and the password",
        ),
        (
            "wechat.pages",
            |c, _| c.pages = "https://open.example;script-src".into(),
            "the host has a character that is not allowed",
        ),
        ("wechat.pages", |c, _| c.pages = "weixin://open".into(), "scheme `weixin` is not supported"),
        (
            "wechat.widget",
            |c, _| c.widget = Some("/wxLogin.js".into()),
            "not a URL: relative URL without a base",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("http://res.wx.qq.com/wxLogin.js".into()),
            "`http://res.wx.qq.com/wxLogin.js` would let an attacker on the network change the script",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("data:text/javascript,alert(1)".into()),
            "scheme `data` is not supported",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("https://u:p@res.wx.qq.com/a.js".into()),
            "remove the user and the password",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("https://res.wx.qq.com/a.js#x".into()),
            "`https://res.wx.qq.com/a.js#x` has a fragment",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("https://res.wx.qq.com/a.js;script-src".into()),
            "it has a character that could end the policy of the page",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("https://res.wx.qq.com/a.js,b".into()),
            "it has a character that could end the policy of the page",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("https://res'x/a.js".into()),
            "it has a character that could end the policy of the page",
        ),
        (
            "wechat.widget",
            |c, _| c.widget = Some("https://*.wx.qq.com/a.js".into()),
            "it has a character that could end the policy of the page",
        ),
        (
            "apps.shop.scope",
            |_, apps| apps.get_mut("shop").unwrap().scope = Some(OAuthScope::Base),
            "a `mini_program` has no choice of scope",
        ),
        (
            "apps.shop.scope",
            |_, apps| {
                let shop = apps.get_mut("shop").unwrap();
                (shop.kind, shop.scope) = (AppKind::Website, Some(OAuthScope::UserInfo));
            },
            "a `website` has no choice of scope",
        ),
        (
            "apps.shop.browser_check",
            |_, apps| apps.get_mut("shop").unwrap().browser_check = BrowserCheck::Loose,
            "users do not sign in to a `mini_program` with a browser",
        ),
        (
            "apps.shop.appid",
            |_, apps| {
                apps.insert("shop".into(), app("wx 1"));
            },
            "`wx 1` is not an appid",
        ),
        (
            "apps.twin.appid",
            |_, apps| {
                apps.insert("twin".into(), app("wx4f4bc4dec97d474b"));
            },
            "`wx4f4bc4dec97d474b` is the appid of app `shop` too",
        ),
        (
            "apps.shop.secret",
            |_, apps| {
                apps.get_mut("shop").unwrap().secret = SecretSource::Inline(String::new());
            },
            "the secret is empty",
        ),
    ];
    for (path, change, reason) in table {
        let (mut config, mut apps) = (config_for(&["http://127.0.0.1:9"]), apps());
        change(&mut config, &mut apps);

        let (built, findings) = build(&config, &apps);

        let errors: Vec<_> =
            findings.iter().filter(|finding| finding.severity == config::Severity::Error).collect();
        assert!(built.is_none(), "{path}: {reason}");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!((errors[0].path.as_str(), errors[0].reason.as_str()), (*path, *reason));
    }
}

#[test]
fn plain_http_is_allowed_to_every_spelling_of_loopback() {
    for host in [
        "http://127.0.0.1:8081",
        "http://127.9.9.9",
        "http://127.1",
        "http://[::1]:80",
        "http://localhost:1/",
    ] {
        let (built, findings) = build(&config_for(&[host]), &apps());

        assert!(built.is_some(), "{host}: {findings:?}");
    }
}

#[test]
fn browser_apps_may_have_a_scope_and_a_loose_check() {
    let mut apps = browser_apps();
    for name in ["site", "base", "full"] {
        apps.get_mut(name).unwrap().browser_check = BrowserCheck::Loose;
    }

    let (built, findings) = build(&config_for(&["http://127.0.0.1:9"]), &apps);

    assert!(built.is_some() && !findings.has_errors(), "{findings:?}");
}

fn build(config: &config::WeChat, apps: &BTreeMap<String, config::App>) -> (Option<WeChat>, Findings) {
    let mut findings = Findings::default();
    let (clock, entropy) = (Arc::new(ManualClock::start_now()), Arc::new(SystemEntropy));
    let wechat = WeChat::build(config, apps, &Metrics::new().unwrap(), clock, entropy, &mut findings);
    (wechat, findings)
}
