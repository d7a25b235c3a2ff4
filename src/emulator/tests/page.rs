//! Text from outside never becomes markup, and pages load nothing from other servers.

use super::super::{Effect, InjectedFault, User};
use super::authorization::Asked;
use super::*;

/// Every place that text from outside can reach, on every page.
#[tokio::test]
async fn text_from_outside_never_becomes_markup() {
    let evil = r#""'><script>alert(1)</script><img src=x onerror=alert(1)>&quot;"#;
    let mut config = Config::default();
    config.apps.iter_mut().for_each(|app| app.title = Some(evil.into()));
    config
        .users
        .insert(0, User { nickname: Some(evil.into()), caption: Some(evil.into()), ..User::new(evil) });
    config.users.insert(1, User { nickname: Some(evil.into()), ..User::new("bob") });
    let wechat = wechat_with(config);
    let site = wechat.get(&Asked::WEBSITE.target()).await.text().to_owned();
    let uuid = wechat.emulator.qr_codes()[0].uuid.clone();
    let evil_encoded = encoded(evil);
    let waiting = wechat.get(&format!("/connect/confirm?uuid={uuid}")).await.text().to_owned();
    wechat.emulator.scan(&uuid, evil).unwrap();

    let mut pages = vec![("website", site), ("phone, waiting", waiting)];
    for (what, target) in [
        ("phone, scanned", format!("/connect/confirm?uuid={uuid}")),
        ("phone, uuid", format!("/connect/confirm?uuid={evil_encoded}")),
        ("consent", Asked::OFFICIAL.target()),
        ("consent, wxid", format!("{}&wxid={evil_encoded}", Asked::OFFICIAL.target())),
        ("website, uuid", format!("{}&uuid={evil_encoded}", Asked::WEBSITE.target())),
        ("website, unknown parameter", format!("{}&{evil_encoded}={evil_encoded}", Asked::WEBSITE.target())),
        ("website, state", Asked { state: evil, ..Asked::WEBSITE }.target()),
        ("website, appid", Asked { appid: evil, ..Asked::WEBSITE }.target()),
        ("website, scope", Asked { scope: evil, ..Asked::WEBSITE }.on("qrconnect")),
        (
            "website, redirect_uri",
            Asked { redirect_uri: &format!("http://127.0.0.1/{evil}"), ..Asked::WEBSITE }.target(),
        ),
        ("official, state", Asked { state: evil, ..Asked::OFFICIAL }.target()),
    ] {
        pages.push((what, wechat.get_in_wechat(&target).await.text().to_owned()));
    }
    let picture = wechat.get(&format!("/connect/qrcode/{evil_encoded}")).await;
    assert_eq!(picture.status, 404);
    pages.push(("picture", picture.text().to_owned()));
    assert_eq!(pages.len(), 14);

    for (what, html) in &pages {
        assert!(!html.contains("<script>") && !html.contains("<img"), "{what}: {html}");
        assert!(!html.contains("alert(1)\""), "{what}: {html}");
        assert_eq!(
            html.matches("<script").count(),
            usize::from(html.contains("data-uuid")),
            "{what}: {html}"
        );
    }
    let escaped = "&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;";
    for what in ["website", "phone, waiting", "phone, scanned", "consent"] {
        let (_, html) = pages.iter().find(|(name, _)| name == &what).unwrap();
        assert!(html.contains(escaped), "{what}: {html}");
    }
}

#[tokio::test]
async fn pages_load_nothing_from_other_servers_and_are_not_cached() {
    let wechat = wechat();
    let website = wechat.get(&Asked::WEBSITE.target()).await;
    let uuid = wechat.emulator.qr_codes()[0].uuid.clone();
    let consent = wechat.get_in_wechat(&Asked::OFFICIAL.target()).await;
    let phone = wechat.get(&format!("/connect/confirm?uuid={uuid}")).await;
    let refused = wechat.get("/connect/qrconnect").await;

    for (page, may_be_framed) in [(&website, true), (&consent, false), (&phone, false), (&refused, true)] {
        let policy = &page.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(policy.contains("frame-ancestors *"), may_be_framed, "{policy}");
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        for reference in page.text().split("src=\"").skip(1).chain(page.text().split("<link ").skip(1)) {
            assert!(
                reference.starts_with("/connect/")
                    || reference.contains("href=\"/connect/")
                    || reference.starts_with("rel=\"icon\" href=\"data:"),
                "{reference}"
            );
        }
        assert!(!page.text().contains(" style=") && !page.text().contains(" onclick="));
    }
    for (path, content_type) in [
        ("/connect/emulator/style.css", "text/css; charset=utf-8"),
        ("/connect/emulator/qrconnect.js", "text/javascript; charset=utf-8"),
        ("/connect/zh_CN/htmledition/js/wxLogin.js", "text/javascript; charset=utf-8"),
        ("/connect/en_US/htmledition/js/wxLogin.js", "text/javascript; charset=utf-8"),
        (&format!("/connect/qrcode/{uuid}"), "image/svg+xml"),
    ] {
        let seen = wechat.get(path).await;
        assert_eq!((seen.status, seen.headers["content-type"].as_str()), (200, content_type), "{path}");
        assert!(
            website.text().contains(seen.text()) || !path.contains("qrcode/"),
            "the page shows the picture"
        );
    }
}

#[tokio::test]
async fn the_picture_leads_to_the_phone_on_the_same_host() {
    let wechat = wechat();
    wechat.get(&Asked::WEBSITE.target()).await;
    let uuid = wechat.emulator.qr_codes()[0].uuid.clone();

    let picture = wechat.get(&format!("/connect/qrcode/{uuid}")).await;

    let address = format!("http://api.weixin.qq.com/connect/confirm?uuid={uuid}");
    let code = qrcode::QrCode::with_error_correction_level(address, qrcode::EcLevel::M).unwrap();
    let dark = code.to_colors().into_iter().filter(|color| *color == qrcode::Color::Dark).count();
    assert_eq!(picture.text().matches("h1v1h-1z").count(), dark);
    assert!(picture.text().contains("M4 4h1v1h-1z"), "the first finder pattern begins after the quiet zone");
}

#[tokio::test]
async fn pages_are_logged_and_hit_by_faults_but_polls_are_not() {
    let wechat = wechat();
    let target = Asked::WEBSITE.target();
    wechat
        .emulator
        .inject(InjectedFault::new(Effect::BadGateway).app(WEBSITE).path("/connect/qrconnect").times(1));
    wechat.emulator.inject(
        InjectedFault::new(Effect::DropBefore).path("/connect/zh_CN/htmledition/js/wxLogin.js").times(1),
    );

    assert_eq!(wechat.get(&target).await.status, 502);
    assert!(wechat.try_send("GET", "/connect/zh_CN/htmledition/js/wxLogin.js", "").await.is_err());
    assert_eq!(wechat.get(&target).await.status, 200);
    wechat.get("/connect/l/qrconnect?uuid=none").await;
    wechat.get("/connect/confirm?uuid=none").await;
    assert_eq!(wechat.get("/connect/nothing").await.status, 404);

    let calls = wechat.emulator.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.path.as_str(), call.status, call.errcode)).collect();
    assert_eq!(
        seen,
        [
            ("/connect/qrconnect", Some(502), None),
            ("/connect/zh_CN/htmledition/js/wxLogin.js", None, None),
            ("/connect/qrconnect", Some(200), None),
            ("/connect/nothing", Some(404), None),
        ]
    );
    assert_eq!(calls[0].query["redirect_uri"], CALLBACK);
}

#[tokio::test]
async fn a_framed_page_obeys_the_style_sheet_that_the_site_gave() {
    let wechat = wechat();
    let target = |href: &str, framed: bool| {
        let href = form_urlencoded::byte_serialize(href.as_bytes()).collect::<String>();
        let framed = if framed { "&login_type=jssdk" } else { "" };
        format!("{}&href={href}{framed}", Asked::WEBSITE.target())
    };
    let css = "data:text/css;base64,LmltcG93ZXJCb3ggLnRpdGxle2Rpc3BsYXk6bm9uZX0=";
    for (href, framed, source) in [
        (css, true, Some("style-src 'self' data:;")),
        ("https://shop.example.com/qr.css?v=1", true, Some("style-src 'self' https://shop.example.com;")),
        (css, false, None),
        ("javascript:alert(1)", true, None),
        ("https://a;script-src *", true, None),
        ("data:text/html,x", true, None),
        ("//evil.example/x.css", true, None),
    ] {
        let page = wechat.get(&target(href, framed)).await;

        let policy = &page.headers["content-security-policy"];
        assert!(policy.contains(source.unwrap_or("style-src 'self';")), "{href}: {policy}");
        let sheets = page.text().matches("rel=\"stylesheet\"").count();
        assert_eq!(sheets, if source.is_some() { 2 } else { 1 }, "{href}");
    }
    let page = wechat.get(&target(css, true)).await;
    for class in ["impowerBox", "title", "qrcode", "info"] {
        assert!(page.text().contains(class), "WeChat's page has `{class}`");
    }
}

#[tokio::test]
async fn pages_name_the_app_by_its_title_and_each_person_by_what_they_do() {
    let mut config = Config::default();
    config.apps[3].name = Some("shop-web".into());
    config.apps[3].title = Some("小店 <1>".into());
    let wechat = wechat_with(config);

    let page = wechat.get(&Asked::WEBSITE.target()).await;
    let uuid = wechat.emulator.qr_codes()[0].uuid.clone();
    let phone = wechat.get(&format!("/connect/confirm?uuid={uuid}")).await;

    assert!(page.text().contains("<b>小店 &lt;1&gt;</b>"), "{}", page.text());
    for text in ["普通用户", "40226", "快照", "每个人都有 unionid"] {
        assert!(phone.text().contains(text), "{text}: {}", phone.text());
    }
    wechat.emulator.scan(&uuid, "mallory").unwrap();
    let confirm = wechat.get(&format!("/connect/confirm?uuid={uuid}")).await;
    assert!(confirm.text().contains("小店 &lt;1&gt;") && confirm.text().contains("40226"));
    assert!(!page.text().contains(">wxe0") && !confirm.text().contains(">wxe0"));
}
