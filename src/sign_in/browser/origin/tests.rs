use http::Request;

use super::*;

fn build(list: &[&str]) -> (Origins, Findings) {
    let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
    let mut findings = Findings::default();
    let origins = Origins::build(&list, &mut findings);
    (origins, findings)
}

fn texts(findings: &Findings) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn origin_is_scheme_host_and_port_as_browsers_write_them() {
    for text in [
        "https://shop.example.com",
        "https://shop.example.com:8443",
        "https://xn--fiq228c.example",
        "https://192.0.2.1",
        "https://[2001:db8::1]:444",
        "http://localhost",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ] {
        let (origins, findings) = build(&[text]);

        assert_eq!(texts(&findings), Vec::<String>::new(), "{text}");
        assert_eq!(origins.0[0].as_str(), text);
    }
}

#[test]
fn invalid_origin_is_a_finding_that_says_what_to_write() {
    const NOT: &str = "is not an origin; write a scheme and a host, such as `https://shop.example.com`";
    let not = |text: &str| format!("`{text}` {NOT}");
    let write = |text: &str, written: &str| {
        format!("`{text}` is not an origin as browsers write it; write `{written}`")
    };
    let clear = |text: &str| {
        format!(
            "`{text}` sends sessions without encryption; write `https://`; `http://` is for loopback only"
        )
    };
    let user =
        "remove the user and the password; write a scheme and a host, such as `https://shop.example.com`";
    for (text, reason) in [
        ("", not("")),
        ("shop.example.com", not("shop.example.com")),
        ("*", not("*")),
        ("https://", not("https://")),
        ("https://*.example.com", not("https://*.example.com")),
        ("https://a.example;script-src", not("https://a.example;script-src")),
        ("https://a.example'x", not(r"https://a.example\'x")),
        ("https://a.example,b.example", not("https://a.example,b.example")),
        ("https://shop.example.com.", not("https://shop.example.com.")),
        ("https://shop.example.com:99999", not("https://shop.example.com:99999")),
        ("ftp://shop.example.com", not("ftp://shop.example.com")),
        ("file:///etc/passwd", not("file:///etc/passwd")),
        ("javascript:alert(1)", not("javascript:alert(1)")),
        ("https://shop.example.com/", write("https://shop.example.com/", "https://shop.example.com")),
        ("https://shop.example.com/app", write("https://shop.example.com/app", "https://shop.example.com")),
        ("https://shop.example.com?a", write("https://shop.example.com?a", "https://shop.example.com")),
        ("https://shop.example.com#a", write("https://shop.example.com#a", "https://shop.example.com")),
        ("https://shop.example.com:443", write("https://shop.example.com:443", "https://shop.example.com")),
        ("https://Shop.example.com", write("https://Shop.example.com", "https://shop.example.com")),
        ("HTTPS://shop.example.com", write("HTTPS://shop.example.com", "https://shop.example.com")),
        ("https:shop.example.com", write("https:shop.example.com", "https://shop.example.com")),
        ("https:\\\\shop.example.com", write(r"https:\\\\shop.example.com", "https://shop.example.com")),
        (" https://shop.example.com", write(" https://shop.example.com", "https://shop.example.com")),
        ("https://shop.\nexample.com", write(r"https://shop.\nexample.com", "https://shop.example.com")),
        ("https://中文.example", write("https://中文.example", "https://xn--fiq228c.example")),
        ("http://127.1:8080", write("http://127.1:8080", "http://127.0.0.1:8080")),
        ("http://shop.example.com", clear("http://shop.example.com")),
        ("http://localhost.example.com", clear("http://localhost.example.com")),
        ("http://10.0.0.1", clear("http://10.0.0.1")),
        ("https://me:hunter2@shop.example.com", user.to_owned()),
        ("https://me@shop.example.com", user.to_owned()),
    ] {
        let (origins, findings) = build(&[text]);
        assert_eq!(texts(&findings), [format!("login.origins[0]: {reason}")], "{text}");
        assert!(findings.has_errors() && origins.is_empty(), "{text}");

        let mut findings = Findings::default();
        assert_eq!(build_return_to(&[text.to_owned()], &mut findings), [], "{text}");
        assert_eq!(texts(&findings), [format!("login.return_to[0]: {reason}")], "{text}");
    }
}

#[test]
fn ambiguous_origins_are_a_finding() {
    for (first, second, is_found) in [
        ("https://a.example", "https://a.example", true),
        ("https://localhost", "http://localhost", true),
        ("https://localhost:8443", "http://localhost:8443", true),
        ("https://localhost:80", "http://localhost", true),
        ("https://a.example", "https://a.example:8443", false),
        ("https://a.example", "https://b.example", false),
        ("https://localhost", "http://localhost:8080", false),
    ] {
        let (_, findings) = build(&["https://other.example", first, second]);

        assert_eq!(findings.has_errors(), is_found, "{first} {second}: {findings:?}");
        assert!(findings.iter().all(|finding| finding.path == "login.origins[2]"), "{findings:?}");
    }
}

/// The origin selected for a request of HTTP/1 with this `Host`.
fn selected(origins: &Origins, host: &str) -> Option<String> {
    let request = Request::get("/").header("host", host).body(()).unwrap();
    origins.of(&request.into_parts().0).map(|origin| origin.as_str().to_owned())
}

#[test]
fn only_the_requests_authority_selects_an_origin() {
    let (origins, findings) = build(&[
        "https://shop.example.com",
        "https://shop.example.com:8443",
        "http://localhost:8080",
        "http://127.0.0.1",
        "https://[2001:db8::1]",
    ]);
    assert!(!findings.has_errors(), "{findings:?}");
    for (host, expected) in [
        ("shop.example.com", Some("https://shop.example.com")),
        ("shop.example.com:443", Some("https://shop.example.com")),
        ("SHOP.Example.COM", Some("https://shop.example.com")),
        ("shop.example.com.", Some("https://shop.example.com")),
        ("shop.example.com.:8443", Some("https://shop.example.com:8443")),
        ("localhost:8080", Some("http://localhost:8080")),
        ("127.0.0.1", Some("http://127.0.0.1")),
        ("127.0.0.1:80", Some("http://127.0.0.1")),
        ("[2001:db8::1]", Some("https://[2001:db8::1]")),
        ("[2001:DB8::1]:443", Some("https://[2001:db8::1]")),
        ("shop.example.com:80", None),
        ("shop.example.com:8444", None),
        ("shop.example.com..", None),
        ("shop.example.com:", None),
        ("shop.example.com:+443", None),
        ("shop.example.com:443:443", None),
        ("shop.example.com:99999", None),
        ("shop.example.com:443@evil.example", None),
        ("me@shop.example.com", None),
        ("shop.example.com/", None),
        ("shop.example.com, evil.example", None),
        ("shop.example.com.evil.example", None),
        ("evil-shop.example.com", None),
        ("example.com", None),
        ("localhost", None),
        ("127.1", None),
        ("[2001:db8::1", None),
        ("[2001:db8::1]x", None),
        ("2001:db8::1", None),
        ("", None),
    ] {
        assert_eq!(selected(&origins, host).as_deref(), expected, "{host}");
    }
}

#[test]
fn http2_authority_selects_the_origin_and_must_match_the_host_header() {
    let (origins, _) = build(&["https://a.example", "https://b.example"]);
    let of = |uri: &str, hosts: &[&str]| {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let request = request.body(()).unwrap().into_parts().0;
        origins.of(&request).map(|origin| origin.as_str().to_owned())
    };

    assert_eq!(of("https://a.example/", &[]).as_deref(), Some("https://a.example"));
    assert_eq!(of("https://a.example/", &["A.example"]).as_deref(), Some("https://a.example"));
    // The scheme that a client or a proxy writes selects nothing.
    assert_eq!(of("http://b.example/", &[]).as_deref(), Some("https://b.example"));
    assert_eq!(of("https://a.example/", &["b.example"]), None);
    assert_eq!(of("/", &["a.example", "a.example"]), None);
    assert_eq!(of("/", &[]), None);
}

#[test]
fn forwarded_host_headers_are_ignored() {
    let (origins, _) = build(&["https://a.example", "https://b.example"]);
    let request = Request::get("/")
        .header("host", "a.example")
        .header("x-forwarded-host", "b.example")
        .header("x-forwarded-proto", "http")
        .header("x-forwarded-port", "8443")
        .header("x-original-host", "b.example")
        .header("forwarded", "host=b.example;proto=http")
        .body(())
        .unwrap();

    assert_eq!(origins.of(&request.into_parts().0).unwrap().as_str(), "https://a.example");
}
