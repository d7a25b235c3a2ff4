//! Who is sent to the sign-in page, and who is not.

use super::*;

fn invited(harness: &Harness, headers: &[(&str, &str)], target: &str, apps: &[&str]) -> Option<SignInAnswer> {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let apps: Vec<Arc<str>> = apps.iter().map(|app| (*app).into()).collect();
    harness.login.sign_in_redirect(&parts, &apps)
}

#[tokio::test]
async fn page_navigation_is_redirected_to_the_sign_in_page_and_back() {
    let harness = harness([]).await;
    for (target, location) in [
        ("/", "/auth/login?return_to=%2F&app=site&app=account"),
        ("/a/b?c=d&app=x", "/auth/login?return_to=%2Fa%2Fb%3Fc%3Dd%26app%3Dx&app=site&app=account"),
        ("/%E4%BD%A0", "/auth/login?return_to=%2F%25E4%25BD%25A0&app=site&app=account"),
        (&format!("/{}", "a".repeat(4000)), "/auth/login?app=site&app=account"),
    ] {
        let headers = [("host", HOST), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

        let answer = invited(&harness, &headers, target, &["site", "account"]).expect("an invitation");

        assert_eq!(answer.response.status(), StatusCode::SEE_OTHER);
        assert_eq!(header(&answer, "location"), Some(location));
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(set_cookies(&answer).len(), 0);
    }
}

#[tokio::test]
async fn only_page_navigation_is_redirected_to_sign_in() {
    let harness = harness([]).await;
    let host = ("host", HOST);
    let (navigate, document) = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"));
    let html = ("accept", "text/html,*/*;q=0.8");
    let table: &[(&[(&str, &str)], bool)] = &[
        (&[host, navigate, document], true),
        (&[host, navigate], true),
        (&[host, html], true),
        (&[host, ("accept", "application/json"), ("accept", "Text/HTML;q=0.1")], true),
        (&[host, document, html], true),
        (&[host, html, ("x-requested-with", "XMLHttpRequest")], false),
        (&[host, html, ("x-requested-with", "com.tencent.mm")], true),
        (&[host], false),
        (&[host, ("accept", "*/*")], false),
        (&[host, ("accept", "application/json")], false),
        (&[host, ("accept", "application/xhtml+xml")], false),
        (&[host, ("sec-fetch-mode", "cors"), html], false),
        (&[host, ("sec-fetch-mode", "Navigate"), html], false),
        (&[host, ("sec-fetch-mode", ""), html], false),
        (&[host, navigate, navigate, html], false),
        (&[host, navigate, document, html, ("sec-purpose", "prefetch")], false),
        (&[host, navigate, document, html, ("sec-purpose", "prefetch;prerender")], false),
        (&[host, navigate, ("sec-fetch-dest", "iframe"), html], false),
        (&[host, navigate, document, document, html], false),
        (&[host, ("sec-fetch-dest", "empty"), html], false),
        (&[host, navigate, ("sec-fetch-dest", "empty")], true),
        (&[host, navigate, ("sec-fetch-dest", "empty"), document], false),
        (&[("host", "evil.example"), navigate, document], false),
        (&[host, host, navigate, document], false),
        (&[navigate, document], false),
    ];
    for (headers, is_invited) in table {
        let answer = invited(&harness, headers, "/", &["site"]);

        assert_eq!(answer.is_some(), *is_invited, "{headers:?}");
    }
    assert!(invited(&harness, &[host, navigate, document], "/", &[]).is_none(), "nothing is on offer");
    for method in ["HEAD", "POST", "OPTIONS"] {
        let request =
            Request::builder().method(method).uri("/").header("host", HOST).header("accept", "text/html");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert!(harness.login.sign_in_redirect(&parts, &["site".into()]).is_none(), "{method}");
    }
}

#[tokio::test]
async fn denied_user_may_sign_out_and_sign_in_as_another_user() {
    let harness = harness([]).await;
    let cookie = format!("{SESSION}={}", "A".repeat(64));
    let form = |return_to| Action::SignOut(SignOut { path: "/auth/logout", return_to, everywhere: false });
    let (blocked, not_admitted) = (PageDenial::Blocked, PageDenial::NotPermitted);
    for (why, notice, outcome) in
        [(blocked, Notice::UserBlocked, "user_blocked"), (not_admitted, Notice::NotPermitted, "not_admitted")]
    {
        for (cookie, agent, target, action) in [
            (Some(&*cookie), "Firefox", "/orders/7?a=b", form(Some("/orders/7?a=b"))),
            // The way on leads to WeChat at once, and the page's policy would stop it.
            (Some(&*cookie), "MicroMessenger/8.0.49", "/orders/7", form(None)),
            (Some(&*cookie), "Firefox", "//evil.example/", form(None)),
            (None, "Firefox", "/orders/7", Action::Nothing),
        ] {
            let mut request = Request::builder().uri(target).header("host", HOST).header("user-agent", agent);
            request = request.header("accept", "text/html");
            if let Some(cookie) = cookie {
                request = request.header("cookie", cookie);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();

            let answer = harness.login.denial_page(why, &parts, &["site".into()], "req-1").expect("a page");

            assert_eq!(
                assert_notice_page_with(&harness, &answer, notice, action),
                (403, outcome),
                "{target} {agent}"
            );
        }
    }
}
