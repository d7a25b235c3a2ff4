use super::{
    SHOP, build, complaints, folder, html, in_browser, policy, sign_in, with_templates, with_widget,
};
use crate::page::{Action, Language, Message, Notice};

const GONE: Message<'static> = Message::new(Notice::Expired, Action::Link("/auth/login"), "<req>");

#[test]
fn template_in_the_folder_replaces_the_built_in_one() {
    let (_guard, path) = folder(&[("message.html", b"<p>{{ notice }} {{ request_id }}</p>")]);

    let pages = build(&with_templates(&path));

    assert_eq!(html(&pages.message(&GONE, Language::Chinese)), "<p>expired &lt;req&gt;</p>");
    assert!(html(&sign_in(&pages, &in_browser(&[SHOP]), Language::Chinese)).contains("<h1>微信登录</h1>"));
}

#[test]
fn layout_in_the_folder_surrounds_the_built_in_pages() {
    let layout =
        b"<html><style>b{}</style>{% block style %}{% endblock %}{% block content %}{% endblock %}</html>";
    let (_guard, path) = folder(&[("layout.html", layout)]);

    let pages = build(&with_templates(&path));

    let page = pages.message(&GONE, Language::English);
    assert!(html(&page).starts_with("<html><style>b{}</style>"));
    assert!(html(&page).contains("<h1>This sign-in has expired</h1>"));
}

#[test]
fn style_in_a_template_is_allowed_and_style_in_data_is_not() {
    let source = b"<STYLE media=all>\r\nb { color: red }</STYLE>{{ request_id|safe }}";
    let (_guard, path) = folder(&[("message.html", source)]);
    let pages = build(&with_templates(&path));
    let injected = Message { request_id: "<style>b { color: blue }</style>", ..GONE };

    let page = pages.message(&injected, Language::English);

    assert!(html(&page).contains("blue"));
    // sha256 of "\nb { color: red }"
    assert!(
        policy(&page).contains("'sha256-MtJ/AkQUADPFn/6PtbasS5sdgQit6VjJDenxrjAyTjw='"),
        "{}",
        policy(&page)
    );
    assert_eq!(policy(&page), policy(&pages.message(&GONE, Language::English)));
}

#[test]
fn template_cannot_switch_escaping_off() {
    let table: [&[u8]; 4] = [
        b"{% autoescape false %}{{ request_id }}{% endautoescape %}",
        b"{% autoescape none %}{{ '' ~ request_id }}{% endautoescape %}",
        b"{% autoescape false %}{% set x %}{{ request_id }}{% endset %}{{ x }}{% endautoescape %}",
        b"{% macro show(x) %}{% autoescape false %}{{ x }}{% endautoescape %}{% endmacro %}{{ show(request_id) }}",
    ];
    for source in table {
        let (_guard, path) = folder(&[("message.html", source)]);

        let page = build(&with_templates(&path)).message(&GONE, Language::English);

        assert!(!html(&page).contains('<'), "{}: {}", String::from_utf8_lossy(source), html(&page));
    }
}

#[test]
fn widget_of_a_template_has_what_its_script_needs() {
    let source = br#"{% if widget %}<script nonce="{{ widget.nonce }}" src="{{ widget.script }}"></script>{% endif %}{{ choices[0].href if choices else "" }}"#;
    let (_guard, path) = folder(&[("sign_in.html", source)]);

    let page = sign_in(&build(&with_templates(&path)), &with_widget(&[SHOP]), Language::English);

    let nonce = &super::values(html(&page), "nonce")[0];
    assert!(policy(&page).contains(&format!("script-src 'nonce-{nonce}'")));
}

#[test]
fn template_that_cannot_be_used_is_refused_by_file_and_line() {
    let table: [(&str, &[u8], &str); 9] = [
        ("message.html", b"<p>\n{{ heading }\n", "message.html` line 2: syntax error: "),
        (
            "message.html",
            b"<p>\n\n{{ headline }}",
            "message.html` line 3: undefined value: `headline` is undefined",
        ),
        ("message.html", b"{% if headline %}{% endif %}", "message.html` line 1: undefined value"),
        (
            "message.html",
            b"{% if retry %}{% else %}{{ again }}{% endif %}",
            "message.html` line 1: undefined value",
        ),
        ("message.html", b"{{ text.heading }}", "message.html` line 1: undefined value"),
        (
            "message.html",
            b"{% if notice == 'internal' and lang == 'en' %}\n{{ x }}{% endif %}",
            "line 2: undefined",
        ),
        ("sign_in.html", b"\n{{ widget.nonce }}", "sign_in.html` line 2: "),
        ("sign_in.html", b"{% include 'head.html' %}", "sign_in.html` line 1: "),
        ("layout.html", b"\n{{ lang|upcase }}", "layout.html` line 2: unknown filter"),
    ];
    for (name, source, expected) in table {
        let (_guard, path) = folder(&[(name, source)]);

        let complaints = complaints(&with_templates(&path));

        let case = String::from_utf8_lossy(source);
        assert_eq!(complaints.len(), 1, "{case}: {complaints:?}");
        assert!(complaints[0].starts_with("login.page.templates: template `/"), "{}", complaints[0]);
        assert!(complaints[0].contains(expected), "{case}: {}", complaints[0]);
        assert!(complaints[0].contains("; "), "a hint: {}", complaints[0]);
    }
}

#[test]
fn template_without_its_required_links_is_refused() {
    const SIGN_IN: &str = "`, does not link to `choices[0].href`; a layout needs";
    const HAND_OVER: &str = "`, does not link to `form.path`; a layout needs";
    let table: [(&str, &[u8], &[&str]); 3] = [
        ("layout.html", b"<main></main>", &[SIGN_IN, HAND_OVER]),
        ("sign_in.html", b"<p>{{ heading }}</p>", &[SIGN_IN]),
        ("hand_over.html", b"<p>{{ heading }}</p>", &[HAND_OVER]),
    ];
    for (name, source, expected) in table {
        let (_guard, path) = folder(&[(name, source)]);

        let complaints = complaints(&with_templates(&path));

        assert_eq!(complaints.len(), expected.len(), "{name}: {complaints:?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(complaint.contains(expected), "{complaint}");
        }
    }
}

#[test]
fn errors_in_all_templates_are_reported_at_once() {
    let files: [(&str, &[u8]); 4] = [
        ("layout.html", b"{{"),
        ("sign_in.html", b"{% x %}"),
        ("message.htm", b""),
        ("message.html", b"\xff"),
    ];
    let (_guard, path) = folder(&files);

    let complaints = complaints(&with_templates(&path));

    assert_eq!(complaints.len(), 4, "{complaints:?}");
    assert!(
        complaints[0].contains("message.htm` is not the name of a template; did you mean `message.html`?")
    );
    assert!(complaints[1].contains("message.html` is not UTF-8; "));
    assert!(complaints[2].contains("layout.html` line 1: syntax error"));
    assert!(complaints[3].contains("sign_in.html` line 1: syntax error"));
}

#[test]
fn template_is_at_most_256_kib() {
    let mut source = vec![b' '; 256 * 1024];
    let (_largest, path) = folder(&[("message.html", &source)]);
    build(&with_templates(&path));
    source.push(b' ');
    let (_guard, path) = folder(&[("message.html", &source)]);

    assert!(complaints(&with_templates(&path))[0].contains("message.html` is larger than 256 KiB; "));
}

#[test]
fn folder_that_cannot_be_read_is_refused() {
    let (_guard, path) = folder(&[("file", b"")]);

    for name in ["missing", "file"] {
        let complaints = complaints(&with_templates(&path.join(name)));

        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains(&format!("/{name}` cannot be read: ")), "{}", complaints[0]);
    }
}

#[test]
fn folder_named_like_a_template_is_refused() {
    let (_guard, path) = folder(&[]);
    std::fs::create_dir(path.join("message.html")).unwrap();

    assert!(complaints(&with_templates(&path))[0].contains("message.html` is not a file; "));
}

#[test]
fn hidden_files_are_ignored() {
    let (_guard, path) = folder(&[(".message.html.swp", b"\xff")]);
    std::fs::create_dir(path.join("..data")).unwrap();

    build(&with_templates(&path));
}

#[test]
fn built_in_page_is_sent_if_the_operators_template_fails() {
    let (_guard, path) = folder(&[("message.html", b"{% if request_id == '<req>' %}{{ x }}{% endif %}")]);
    let pages = build(&with_templates(&path));

    let page = pages.message(&GONE, Language::English);

    assert!(html(&page).contains("<h1>This sign-in has expired</h1>"));
    assert!(policy(&page).contains("style-src"));
}
