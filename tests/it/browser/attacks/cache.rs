//! What caches may store of a page that was shown to a signed-in user.

use crate::common::{Backend, Reply, Response, Site, Visitor};

/// The emulator's accounts, and a backend that answers with the headers that the path names.
fn site() -> Site {
    Site::with_backend(Backend::with(|request| {
        let lines = match request.target() {
            "/says/max-age" => "Cache-Control: max-age=600\r\n",
            "/says/expires" => "Expires: Thu, 01 Jan 2032 00:00:00 GMT\r\n",
            _ => "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n",
        };
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok").into_bytes())
    }))
}

fn rules(response: &Response) -> Vec<&str> {
    assert_eq!(response.status, 200, "{}", response.text());
    let lines = response.headers.iter().filter(|(name, _)| name == "cache-control");
    lines.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn page_is_private_if_a_cookie_opened_it() {
    let site = site();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");

    assert_eq!(rules(&visitor.open("/page")), ["private, no-cache"]);
    assert_eq!(rules(&visitor.open("/opt")), ["private, no-cache"]);
    assert_eq!(rules(&visitor.open("/says/max-age")), ["private, max-age=600"]);
    assert_eq!(rules(&visitor.open("/says/expires")), ["private"]);
    assert_eq!(rules(&visitor.open("/pub")), Vec::<&str>::new(), "whoever asks gets the same");

    let bearer = site.world.bearer("alice");
    assert_eq!(rules(&site.world.get("/page", &bearer)), Vec::<&str>::new(), "RFC 9111 §3.5");
    assert_eq!(rules(&site.world.get("/opt", "")), Vec::<&str>::new());
}
