use super::*;
use crate::proxy::tests::Bench;

const ORIGIN: ClientOrigin<'_> =
    ClientOrigin { scheme: "https", authority: "shop.test:8443", sent_host: "shop.test:8443" };

/// What becomes of a field of an answer of `127.0.0.1:9000`.
fn mapped(name: &'static str, value: &str) -> String {
    let bench = Bench::new();
    let mut response = ResponseHeader::build(302, None).unwrap();
    response.insert_header(name, value).unwrap();
    assert!(leads_somewhere(&response.headers));

    map(&mut response, &bench.permit_on("/").upstream, ORIGIN).unwrap();

    response.headers[name].to_str().unwrap().to_owned()
}

#[test]
fn a_url_of_the_backend_itself_leads_to_where_the_client_came_from() {
    for (value, expected) in [
        ("http://127.0.0.1:9000/a?b#c", Some("https://shop.test:8443/a?b#c")),
        ("https://127.0.0.1:9000/a", Some("https://shop.test:8443/a")),
        ("HTTP://127.0.0.1:9000", Some("https://shop.test:8443")),
        ("http://127.0.0.1:9000?a", Some("https://shop.test:8443?a")),
        ("http://shop.test:9000/a", Some("https://shop.test:8443/a")),
        ("http://SHOP.test:9000/a", Some("https://shop.test:8443/a")),
        ("http://127.0.0.1:9001/a", None),
        ("http://127.0.0.1/a", None),
        ("http://127.0.0.2:9000/a", None),
        ("http://shop.test/a", None),
        ("http://shop.test:8443/a", None),
        ("http://127.0.0.1:9000@evil.test/", None),
        ("http://u@127.0.0.1:9000/", None),
        ("http://127.0.0.1:9000.evil.test/", None),
        ("//127.0.0.1:9000/a", None),
        ("/a?to=http://127.0.0.1:9000/", None),
        ("ftp://127.0.0.1:9000/", None),
        ("https://login.test/?back=http://127.0.0.1:9000/", None),
        ("", None),
    ] {
        for name in ["location", "content-location"] {
            assert_eq!(mapped(name, value), expected.unwrap_or(value), "{name}");
        }
        let refresh = |url: &str| format!("5; URL={url}");
        assert_eq!(mapped("refresh", &refresh(value)), refresh(expected.unwrap_or(value)));
    }
    assert_eq!(mapped("refresh", "5"), "5");
    assert_eq!(mapped("refresh", "0;url='http://127.0.0.1:9000/'"), "0;url='https://shop.test:8443/'");
}

#[test]
fn no_other_field_leads_somewhere() {
    let mut response = ResponseHeader::build(200, None).unwrap();
    response.insert_header("link", "<http://127.0.0.1:9000/>").unwrap();

    assert!(!leads_somewhere(&response.headers));
}
