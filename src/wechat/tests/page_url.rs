//! The URLs that a browser is sent to.

use super::page::browser_apps;
use super::*;

#[test]
fn a_browser_is_sent_to_the_page_of_the_apps_kind() {
    let visit = |is_english| Visit {
        redirect_uri: "https://shop.example.com:8443/auth/web/小店/callback?a=b&c=~d",
        state: "aZ09",
        is_english,
    };
    let redirect_uri =
        "https%3A%2F%2Fshop.example.com%3A8443%2Fauth%2Fweb%2F%E5%B0%8F%E5%BA%97%2Fcallback%3Fa%3Db%26c%3D~d";
    let account = |appid: &str, scope: &str| {
        format!(
            "https://open.weixin.qq.com/connect/oauth2/authorize?appid={appid}&redirect_uri={redirect_uri}&response_type=code&scope={scope}&state=aZ09#wechat_redirect"
        )
    };
    let site = |language: &str| {
        format!(
            "https://open.weixin.qq.com/connect/qrconnect?appid=wxe000000000000004&redirect_uri={redirect_uri}&response_type=code&scope=snsapi_login&state=aZ09&lang={language}#wechat_redirect"
        )
    };
    let harness = Harness::with_apps(&browser_apps(), &["http://127.0.0.1:9"], |_| {});
    let url = |name: &str, is_english| {
        harness.wechat.page_url(harness.wechat.app(name).unwrap(), &visit(is_english))
    };

    assert_eq!(url("site", false), Some(site("cn")));
    assert_eq!(url("site", true), Some(site("en")));
    for is_english in [false, true] {
        assert_eq!(url("base", is_english), Some(account("wxe000000000000005", "snsapi_base")));
        assert_eq!(url("full", is_english), Some(account("wxe000000000000006", "snsapi_userinfo")));
        assert_eq!(url("shop", is_english), None, "a mini program has no page");
    }
}

#[test]
fn parameters_cannot_change_the_rest_of_the_page_url() {
    let harness = Harness::with_apps(&browser_apps(), &["http://127.0.0.1:9"], |_| {});
    let visit = Visit { redirect_uri: "x&scope=y#z\r\n\" <+%\\\u{7f}", state: "a&b=c#d", is_english: false };

    let url = harness.wechat.page_url(harness.wechat.app("base").unwrap(), &visit).unwrap();

    assert!(
        url.ends_with(
            "&redirect_uri=x%26scope%3Dy%23z%0D%0A%22%20%3C%2B%25%5C%7F&response_type=code&scope=snsapi_base&state=a%26b%3Dc%23d#wechat_redirect"
        ),
        "{url}"
    );
}

#[test]
fn the_widget_follows_the_configuration() {
    let of = |change: fn(&mut config::WeChat)| {
        let harness = Harness::new(&["http://127.0.0.1:9"], change);
        harness.wechat.widget().map(|widget| (widget.script.to_owned(), widget.frame_origin.to_owned()))
    };
    let is = |script: &str, origin: &str| Some((script.to_owned(), origin.to_owned()));

    let script = "https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js";
    assert_eq!(of(|_| {}), is(script, "https://open.weixin.qq.com"));
    assert_eq!(of(|config| config.widget = None), None);
    assert_eq!(
        of(|config| {
            config.widget = Some("http://127.0.0.1:9900/wxLogin.js?v=1&w".into());
            config.pages = "HTTP://LOCALHOST:9900/".into();
        }),
        is("http://127.0.0.1:9900/wxLogin.js?v=1&w", "http://localhost:9900")
    );
}
