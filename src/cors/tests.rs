use super::*;
use crate::config::{self, Findings};

const KNOWN: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
const SERVED: [Method; 2] = [Method::GET, Method::PUT];

/// A section as a file says it, built.
fn build(yaml: &str) -> (Option<CorsPolicy>, Vec<String>) {
    let section: config::Cors = serde_saphyr::from_str(yaml).unwrap();
    let mut findings = Findings::default();
    let policy = CorsPolicy::build(&section, "cors", &KNOWN, &SERVED, &mut findings);
    assert_eq!(policy.is_none(), findings.has_errors(), "{yaml}");
    (policy, findings.iter().map(ToString::to_string).collect())
}

fn policy(yaml: &str) -> CorsPolicy {
    let (policy, findings) = build(yaml);
    policy.unwrap_or_else(|| panic!("{findings:?}"))
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn shown(fields: impl Iterator<Item = AnswerField>) -> Vec<String> {
    let strip = |name: &'static str| name.strip_prefix("Access-Control-").unwrap();
    fields.map(|(name, value)| format!("{}: {}", strip(name), value.to_str().unwrap())).collect()
}

#[test]
fn origins_are_compared_as_browsers_write_them_however_the_file_does() {
    for (written, by_browser) in [
        ("https://h5.example.com", "https://h5.example.com"),
        ("https://H5.Example.COM", "https://h5.example.com"),
        ("HTTPS://h5.example.com", "https://h5.example.com"),
        ("https://h5.example.com:443", "https://h5.example.com"),
        ("https://h5.example.com:8443", "https://h5.example.com:8443"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
        ("https://[2001:DB8::1]:444", "https://[2001:db8::1]:444"),
        ("https://中文.example", "https://xn--fiq228c.example"),
        ("https://xn--fiq228c.example", "https://xn--fiq228c.example"),
    ] {
        let policy = policy(&format!("origins: ['{written}']"));

        let permitted = policy.permitted_origin(&headers(&[("origin", by_browser)])).cloned();
        assert_eq!(permitted.unwrap(), by_browser, "{written}");
    }
}

#[test]
fn what_is_no_origin_is_refused_with_what_to_write() {
    const EXAMPLE: &str = "write scheme, host and port, such as `https://h5.example.com`";
    let not = |text: &str| format!("`{text}` is not an origin; {EXAMPLE}");
    let null = "`null` is the origin of every sandboxed frame and local file, of any site; serve the page over `https://`, and write its origin";
    let pattern = |text: &str| {
        format!("`{text}` is a pattern: one lost subdomain would be enough to use it; name each origin")
    };
    let more = |text: &str| format!("`{text}` is more than an origin; write `https://h5.example.com`");
    for (text, reason) in [
        ("null", null.to_owned()),
        ("Null", null.to_owned()),
        ("https://*.example.com", pattern("https://*.example.com")),
        ("https://*", pattern("https://*")),
        ("*.example.com", pattern("*.example.com")),
        ("https://h5.example.com/", more("https://h5.example.com/")),
        ("https://h5.example.com/app", more("https://h5.example.com/app")),
        ("https://h5.example.com:443/", more("https://h5.example.com:443/")),
        ("https://h5.example.com?a", more("https://h5.example.com?a")),
        ("https://h5.example.com#a", more("https://h5.example.com#a")),
        ("h5.example.com", not("h5.example.com")),
        ("", not("")),
        ("https:h5.example.com", not("https:h5.example.com")),
        ("https://", not("https://")),
        ("https://h5.example.com.", not("https://h5.example.com.")),
        ("https://h5.example.com:99999", not("https://h5.example.com:99999")),
        ("https://a.example, https://b.example", not("https://a.example, https://b.example")),
        ("https://a.example;b", not("https://a.example;b")),
        (r"https:\\h5.example.com", not(r"https:\\\\h5.example.com")),
        (" https://h5.example.com", not(" https://h5.example.com")),
        ("capacitor://localhost", not("capacitor://localhost")),
        ("file:///etc/passwd", not("file:///etc/passwd")),
        ("https://me:hunter2@h5.example.com", format!("remove the user and the password; {EXAMPLE}")),
    ] {
        let (_, findings) = build(&format!("origins: ['{text}']"));

        assert_eq!(findings, [format!("cors.origins[0]: {reason}")], "{text}");
    }
}

#[test]
fn contradictions_of_a_section_are_found() {
    const EVERYONE: &str = "would let pages of every";
    for (yaml, expected) in [
        ("origins: []", "cors.origins: no origin is listed"),
        ("origins: ['*']\ncredentials: true", EVERYONE),
        ("origins: ['https://a.example', '*']\ncredentials: true", EVERYONE),
        ("origins: ['https://a.example', '*']", "cors.origins[1]: `*` already means every origin"),
        (
            "origins: ['https://a.example', 'https://A.example:443']",
            "cors.origins[1]: `https://A.example:443` is listed twice",
        ),
        ("origins: ['https://a.example']\nheaders: ['*']\ncredentials: true", EVERYONE),
        ("origins: ['https://a.example']\nexpose_headers: ['*']\ncredentials: true", EVERYONE),
        (
            "origins: ['https://a.example']\nheaders: ['*', X-A]",
            "cors.headers[0]: `*` already means every header",
        ),
        ("origins: ['https://a.example']\nheaders: [X-A, x-a]", "cors.headers[1]: `x-a` is listed twice"),
        (
            "origins: ['https://a.example']\nheaders: ['X A']",
            "cors.headers[0]: `X A` is not the name of a header",
        ),
        (
            "origins: ['https://a.example']\nexpose_headers: ['']",
            "cors.expose_headers[0]: `` is not the name",
        ),
        ("origins: ['https://a.example']\nmethods: ['*']", "cors.methods[0]: `*` is not a method"),
        ("origins: ['https://a.example']\nmethods: [put]", "did you mean `PUT`?"),
        ("origins: ['https://a.example']\nmethods: [GET, GET]", "cors.methods[1]: `GET` is listed twice"),
        ("origins: ['https://a.example']\nmax_age: 25h", "cors.max_age: `25h` is too long"),
        ("origins: ['http://192.168.1.5:5173']", "cors.origins[0]: everyone on the network can change"),
    ] {
        let (_, findings) = build(yaml);

        assert_eq!(findings.len(), 1, "{yaml}: {findings:?}");
        assert!(findings[0].contains(expected), "{yaml}: {findings:?}");
    }
}

#[test]
fn page_reads_an_answer_if_its_request_has_one_origin_and_it_is_listed() {
    let listed = policy("origins: ['https://a.example', 'https://b.example:8443']\ncredentials: true");
    let every = policy("origins: ['*']");
    for (lines, of_listed, of_every) in [
        (&[][..], None, Some("*")),
        (&["https://a.example"], Some("https://a.example"), Some("*")),
        (&["https://b.example:8443"], Some("https://b.example:8443"), Some("*")),
        (&["https://b.example"], None, Some("*")),
        (&["http://a.example"], None, Some("*")),
        (&["https://A.example"], None, Some("*")),
        (&["https://a.example/"], None, Some("*")),
        (&["https://a.example:443"], None, Some("*")),
        (&["https://x.a.example"], None, Some("*")),
        (&["https://a.example.evil"], None, Some("*")),
        (&["https://evil-a.example"], None, Some("*")),
        (&["null"], None, Some("*")),
        (&[""], None, Some("*")),
        (&["\u{ff}"], None, Some("*")),
        (&["https://a.example https://b.example:8443"], None, Some("*")),
        (&["https://a.example", "https://a.example"], None, Some("*")),
        (&["https://a.example", "https://evil.example"], None, Some("*")),
    ] {
        let lines: Vec<(&str, &str)> = lines.iter().map(|value| ("origin", *value)).collect();
        let request = headers(&lines);

        let found = |policy: &CorsPolicy| {
            policy.permitted_origin(&request).map(|origin| origin.to_str().unwrap().to_owned())
        };
        assert_eq!(found(&listed).as_deref(), of_listed, "{lines:?}");
        assert_eq!(found(&every).as_deref(), of_every, "{lines:?}");
        assert_eq!(listed.permits_credentials(&request), of_listed.is_some(), "{lines:?}");
        assert!(!every.permits_credentials(&request), "{lines:?}");
        if of_listed.is_none() {
            assert_eq!(shown(listed.fields(&request)), Vec::<String>::new(), "{lines:?}");
            assert_eq!(shown(listed.gateway_fields(&request)), Vec::<String>::new(), "{lines:?}");
            assert_eq!(shown(listed.preflight_fields(&request)), Vec::<String>::new(), "{lines:?}");
        }
    }
}

#[test]
fn each_kind_of_answer_has_the_fields_that_fetch_reads_on_it() {
    const OWN: &str = "Retry-After, X-Request-Id, WWW-Authenticate, RateLimit, RateLimit-Policy";
    let a = headers(&[("origin", "https://a.example")]);

    let plain = policy("origins: ['https://a.example']");
    assert_eq!(shown(plain.fields(&a)), ["Allow-Origin: https://a.example"]);
    let own = format!("Expose-Headers: {OWN}");
    assert_eq!(shown(plain.gateway_fields(&a)), ["Allow-Origin: https://a.example", &own]);
    assert_eq!(
        shown(plain.preflight_fields(&a)),
        [
            "Allow-Origin: https://a.example",
            "Allow-Methods: GET, PUT",
            "Allow-Headers: Authorization, Content-Type",
            "Max-Age: 600",
        ]
    );

    let full = policy(
        "origins: ['https://a.example']\nmethods: [DELETE]\nheaders: [X-A]\nexpose_headers: [X-Total, retry-after]\ncredentials: true\nmax_age: 0s",
    );
    let both = ["Allow-Origin: https://a.example", "Allow-Credentials: true"];
    assert_eq!(shown(full.fields(&a)), [&both[..], &["Expose-Headers: X-Total, retry-after"]].concat());
    let own =
        "Expose-Headers: X-Total, retry-after, X-Request-Id, WWW-Authenticate, RateLimit, RateLimit-Policy";
    assert_eq!(shown(full.gateway_fields(&a)), [&both[..], &[own]].concat());
    assert_eq!(
        shown(full.preflight_fields(&a)),
        [&both[..], &["Allow-Methods: DELETE", "Allow-Headers: X-A", "Max-Age: 0"]].concat()
    );

    let every = policy("origins: ['*']\nheaders: ['*']\nexpose_headers: ['*']");
    assert_eq!(shown(every.fields(&a)), ["Allow-Origin: *", "Expose-Headers: *"]);
    let preflight = shown(every.preflight_fields(&a));
    assert_eq!(preflight[2], "Allow-Headers: *, Authorization", "`*` does not stand for it");
    let none = policy("origins: ['https://a.example']\nheaders: []");
    assert!(shown(none.preflight_fields(&a)).iter().all(|field| !field.starts_with("Allow-Headers")));
}

#[test]
fn preflight_is_judged_as_the_browser_will() {
    let listed = policy("origins: ['https://a.example']\nmethods: [PUT]\nheaders: [Authorization, X-A]");
    let every = policy("origins: ['*']\nmethods: [PUT]\nheaders: ['*']");
    let (origin, method, header) =
        (Err(PreflightError::Origin), Err(PreflightError::Method), Err(PreflightError::Header));
    for (name, asked_method, asked_headers, of_listed, of_every) in [
        ("https://a.example", "PUT", &[][..], Ok(()), Ok(())),
        ("https://a.example", "PUT", &["authorization,x-a"], Ok(()), Ok(())),
        ("https://a.example", "PUT", &["Authorization", " X-A , "], Ok(()), Ok(())),
        ("https://a.example", "PUT", &[""], Ok(()), Ok(())),
        ("https://a.example", "PUT", &["x-b"], header, Ok(())),
        ("https://a.example", "PUT", &["x-a", "x-b"], header, Ok(())),
        ("https://a.example", "DELETE", &["x-b"], method, method),
        ("https://a.example", "put", &[], method, method),
        ("https://a.example", "POST", &["x-a"], Ok(()), Ok(())),
        ("https://a.example", "GET", &[], Ok(()), Ok(())),
        ("https://b.example", "DELETE", &["x-b"], origin, method),
        ("null", "PUT", &[], origin, Ok(())),
    ] {
        let lines = asked_headers.iter().map(|line| ("access-control-request-headers", *line));
        let asked = [("origin", name), ("access-control-request-method", asked_method)];
        let request = headers(&asked.into_iter().chain(lines).collect::<Vec<_>>());
        let method = requested_method(&request).unwrap();

        let case = format!("{name} {asked_method} {asked_headers:?}");
        assert!(is_preflight(&Method::OPTIONS, &request), "{case}");
        assert!(!is_preflight(&Method::GET, &request), "{case}");
        assert_eq!(listed.judge_preflight(&request, Some(&method)), of_listed, "{case}");
        assert_eq!(every.judge_preflight(&request, Some(&method)), of_every, "{case}");
    }
}

#[test]
fn preflight_with_two_origins_or_methods_is_refused() {
    let policies = [policy("origins: ['https://a.example']"), policy("origins: ['*']")];
    let origin = ("origin", "https://a.example");
    let method = ("access-control-request-method", "PUT");
    for (lines, expected) in [
        (&[origin, origin, method][..], PreflightError::Origin),
        (&[origin, method, method], PreflightError::Method),
        (&[origin, ("access-control-request-method", "P T")], PreflightError::Method),
        (&[origin, ("access-control-request-method", "")], PreflightError::Method),
    ] {
        let request = headers(lines);
        for policy in &policies {
            let asked = requested_method(&request);
            assert_eq!(policy.judge_preflight(&request, asked.as_ref()), Err(expected), "{lines:?}");
            let is_origin_good = expected != PreflightError::Origin;
            assert_eq!(policy.preflight_fields(&request).next().is_some(), is_origin_good, "{lines:?}");
        }
    }
    assert!(!is_preflight(&Method::OPTIONS, &headers(&[origin])));
    assert!(!is_preflight(&Method::OPTIONS, &headers(&[method])));
}

#[test]
fn headers_of_the_backend_are_replaced_except_what_it_says_in_answer_to_a_preflight() {
    for (name, of_answer, of_preflight) in [
        ("access-control-allow-origin", true, true),
        ("access-control-allow-credentials", true, true),
        ("access-control-allow-private-network", true, true),
        ("access-control-allow-local-network", true, true),
        ("access-control-expose-headers", true, true),
        ("access-control-allow-methods", true, false),
        ("access-control-allow-headers", true, false),
        ("access-control-max-age", true, false),
        ("timing-allow-origin", false, false),
        ("cross-origin-resource-policy", false, false),
        ("vary", false, false),
    ] {
        let parsed = HeaderName::from_static(name);
        assert_eq!(is_replaced(&parsed, false), of_answer, "{name}");
        assert_eq!(is_replaced(&parsed, true), of_preflight, "{name}");
    }
}
