//! D1, D2, D3, D5: where a sign-in leads afterwards.

use serde_json::json;

use crate::common::browser::Browser;
use crate::common::{Site, Tally, Visitor};

/// Places that look as if they were of the same origin, or are read so by some parser.
const ELSEWHERE: &[&str] = &[
    "//evil.example",
    "//evil.example/page",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "/\\/evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "/\x0b/evil.example",
    "/\x0c/evil.example",
    "/\x00/evil.example",
    "/\u{85}/evil.example",
    "/\u{a0}/evil.example",
    "/\u{2028}/evil.example",
    "/\u{200b}/evil.example",
    "/\u{feff}/evil.example",
    "/\u{ff0f}evil.example",
    "/\u{ff0e}\u{ff0e}/\u{ff0f}evil.example",
    "\u{200b}//evil.example",
    "/ /evil.example",
    "/\t/\t\\evil.example",
    "\t//evil.example",
    "\n//evil.example",
    " //evil.example",
    "\x01//evil.example",
    "/%09/evil.example",
    "/%0a/evil.example",
    "/%0d\\evil.example",
    "/%0b/evil.example",
    "/%2fevil.example",
    "/%5cevil.example",
    "%2f%2fevil.example",
    "%5c%5cevil.example",
    "/%252fevil.example",
    "/%5C%5Cevil.example/%252e%252e%252f",
    "/./\\evil.example",
    "/../\\evil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/a/..//evil.example",
    "/a/../\\evil.example",
    "/%2e%2e//evil.example",
    "/;//evil.example",
    "./\\evil.example",
    "..//evil.example",
    "https://evil.example",
    "HTTPS://EVIL.EXAMPLE",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "http:evil.example",
    "ht\ttps://evil.example",
    "https://{host}.evil.example",
    "https://evil{host}",
    "https://{host}@evil.example",
    "https://{host}:80@evil.example",
    "https://evil.example?{host}",
    "https://evil.example#{host}",
    "https://evil.example\\@{host}",
    "https://evil.example%00.{host}",
    "https://{host}%2eevil.example",
    "https://{host}\u{3002}evil.example",
    "https://{host}\u{ff0f}evil.example",
    "http://{host}:1/",
    "https://{host}/",
    "http://user@{host}/",
    "http://user:password@{host}/",
    "http://[::1]/",
    "http://0x7f000001/",
    "http://127.1/",
    "http://127.0.0.1.:80/",
    "javascript:alert(1)",
    "java\nscript:alert(1)",
    "javascript://{host}/%0aalert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:http://{host}/x",
    "about:blank",
    "weixin://dl/scan",
    "evil.example",
    "?//evil.example",
    "#//evil.example",
    "",
    " ",
    "/a\r\nSet-Cookie: evil=1",
    "/a\nLocation: https://evil.example",
    "/a\0b",
    "*",
];

/// Query strings in which the place stands otherwise than once and well.
const QUERIES: &[&str] = &[
    "return_to=/a&return_to=//evil.example",
    "return_to=//evil.example&return_to=/a",
    "return_to[]=//evil.example",
    "RETURN_TO=//evil.example",
    "return_to=%252f%252fevil.example",
    "return_to=%2525252f",
    "return_to=%",
    "return_to=%zz//evil.example",
    "return_to=%ff%fe",
    "return_to=%c0%af%c0%afevil.example",
    "return_to=/a%0d%0aSet-Cookie:%20evil=1",
    "rd=//evil.example",
    "redirect_uri=https://evil.example/",
    "return_to=/a&redirect_uri=https://evil.example/",
    "return_to=/a&state=abc",
    "return_to=/a;return_to=//evil.example",
];

/// Where a browser goes that is given this location, and that it stays.
#[track_caller]
fn assert_stays(location: &str, site: &Site, tried: &str) {
    let origin = site.origin();
    let path = location.strip_prefix(&origin).unwrap_or(location);
    assert!(path.starts_with('/'), "{tried:?} -> {location:?}");
    assert!(!path.starts_with("//") && !path.starts_with("/\\"), "{tried:?} -> {location:?}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{tried:?} -> {location:?}");
    assert!(!path.contains('\\'), "{tried:?} -> {location:?}");
}

#[test]
fn no_spelling_of_return_to_leads_elsewhere() {
    let site = Site::new();
    let host = format!("127.0.0.1:{}", site.port());
    let encode = |place: &str| {
        let place = place.replace("{host}", &host);
        form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &place).finish()
    };
    let queries: Vec<String> = ELSEWHERE
        .iter()
        .map(|place| encode(place))
        .chain(QUERIES.iter().map(|query| (*query).to_owned()))
        .collect();
    let mut signed_in = Visitor::at(site.world.address());
    signed_in.sign_in(&site.world.emulator, "site", "bob");
    let mut tally = Tally::default();
    let mut places = Vec::new();

    for query in &queries {
        let mut visitor = Visitor::at(site.world.address());
        let start = visitor.open(&format!("/auth/web/site/start?{query}"));
        tally.add(&*format!("start {}", start.status), 0);
        if start.status == 303 {
            let begun = crate::common::visitor::Begun::at(start.header("location").unwrap());
            assert_eq!(begun.redirect_uri, site.url("/auth/web/site/callback"), "{query}");
            let back = visitor.come_back(&site.world.emulator, &begun, "alice");
            assert_eq!(back.status, 303, "{query}: {}", back.text());
            places.push((query, back.header("location").unwrap().to_owned()));
        } else {
            assert!((400..500).contains(&start.status), "{query}: {}", start.status);
        }
        assert!(start.header("set-cookie").is_none_or(|cookie| !cookie.contains("evil")), "{query}");
        // Who is signed in already may be sent on at once.
        for visitor in [&mut Visitor::at(site.world.address()), &mut signed_in] {
            let page = visitor.open(&format!("/auth/login?{query}"));
            tally.add(&*format!("page {}", page.status), 0);
            places.extend(page.header("location").map(|place| (query, place.to_owned())));
            assert!(page.header("set-cookie").is_none_or(|cookie| !cookie.contains("evil")), "{query}");
        }
    }

    for (query, place) in &places {
        assert_stays(place, &site, query);
    }
    // And as a browser reads them, which has the last word.
    let browser = Browser::start();
    let tab = browser.open(&site.url("/pub/page"));
    let all: Vec<&str> = places.iter().map(|(_, place)| place.as_str()).collect();
    let read = tab.evaluate(&format!("{}.map(place => new URL(place, location.href).origin)", json!(all)));
    for (origin, (query, place)) in read.as_array().unwrap().iter().zip(&places) {
        assert_eq!(*origin, json!(site.origin()), "{query} -> {place}");
    }
    assert!(places.len() > 10, "hardly anything was tried: {}", places.len());
    tally.remark = format!("{} places, all here", places.len());
    tally.report("browser: return_to");
}

#[test]
fn page_that_a_person_wanted_is_reached_as_it_was_written() {
    let site = Site::new();
    for place in [
        "/",
        "/orders/7",
        "/orders/7?a=b&c=d%2Fe",
        "/%E5%B0%8F%E5%BA%97?q=%E5%B0%8F",
        "/a?next=//other.example",
        "/a?next=https://other.example/",
        "/~user/(x)*'!:@&=+$,",
    ] {
        let mut visitor = Visitor::at(site.world.address());
        let begun = visitor.begin("site", place);
        let back = visitor.come_back(&site.world.emulator, &begun, "alice");

        assert_eq!((back.status, back.header("location")), (303, Some(place)), "{}", back.text());
    }
}

#[test]
fn a_place_in_chinese_is_reached_escaped_or_not() {
    let site = Site::new();
    let escaped = "/%E5%B0%8F%E5%BA%97?q=%E5%B0%8F";
    for query in
        ["return_to=/小店?q=小", "return_to=/%E5%B0%8F%E5%BA%97?q=%E5%B0%8F", "return_to=/小店?q=%E5%B0%8F"]
    {
        let mut visitor = Visitor::at(site.world.address());
        let start = visitor.open(&format!("/auth/web/site/start?{query}"));
        let begun = crate::common::visitor::Begun::at(start.header("location").unwrap());

        let back = visitor.come_back(&site.world.emulator, &begun, "alice");

        assert_eq!((back.status, back.header("location")), (303, Some(escaped)), "{query}");
    }
}

#[test]
fn other_sites_are_led_back_to_only_where_their_exact_origin_is_listed() {
    let sites = "return_to: ['https://www.example.com', 'https://www.example.com:8443']\n  origins:";
    let site = Site::with(menshen::emulator::Config::default(), &[("origins:", sites)]);
    let reached = |place: &str| {
        let mut visitor = Visitor::at(site.world.address());
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", place).finish();
        let start = visitor.open(&format!("/auth/web/site/start?{query}"));
        let begun = crate::common::visitor::Begun::at(start.header("location")?);
        let back = visitor.come_back(&site.world.emulator, &begun, "alice");
        back.header("location").map(str::to_owned)
    };

    for place in ["https://www.example.com/a?b=c", "https://www.example.com:8443/"] {
        assert_eq!(reached(place).as_deref(), Some(place));
    }
    for place in [
        "http://www.example.com/",
        "https://www.example.com:444/",
        "https://example.com/",
        "https://a.www.example.com/",
        "https://www.example.com.evil.example/",
        "https://www.example.com@evil.example/",
        "https://badwww.example.com/",
        "//www.example.com/",
    ] {
        let reached = reached(place);
        assert!(reached.as_deref().is_none_or(|path| path == "/"), "{place} -> {reached:?}");
    }
}

/// D5: a credential is never part of an address.
#[test]
fn no_address_that_a_browser_is_sent_to_holds_a_credential() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    let begun = visitor.begin("site", "/page");
    let path = begun.callback(&site.world.emulator, "alice");

    let back = visitor.open(&path);

    assert_eq!(back.header("location"), Some("/page"));
    for value in visitor.cookies.values() {
        assert!(!begun.location.contains(value.as_str()), "a cookie in the address of WeChat's page");
        assert!(!back.text().contains(value.as_str()), "a cookie in a page");
    }
}

/// D3: a path that a browser would read as another host, and what our own redirects make of it.
#[test]
fn no_path_that_is_asked_for_becomes_a_way_elsewhere() {
    let site = Site::new();
    let (mut led, mut refused) = (0, 0);
    for target in [
        "//evil.example",
        "//evil.example/",
        "///evil.example",
        "//evil.example/..",
        "/.//evil.example",
        "/..//evil.example",
        "/a/..//evil.example",
        "/a/../..//evil.example",
        "/%2fevil.example",
        "/%2f%2fevil.example",
        "/%2F/evil.example",
        "/\\evil.example",
        "/\\\\evil.example/%252e%252e%252f",
        "/%5C%5Cevil.example/%252e%252e%252f",
        "/%5cevil.example",
        "/%09/evil.example",
        "/%0a/evil.example",
        "/%0d%0aLocation:%20https://evil.example",
        "/;//evil.example",
        "/page//evil.example",
        "/page?//evil.example",
        "/@evil.example",
        "/page#//evil.example",
        "/https://evil.example",
        "http://evil.example/",
        "https://evil.example/page",
        "evil.example",
        "*",
    ] {
        let mut visitor = Visitor::at(site.world.address());
        let answer = visitor.open(target);
        let Some(location) = answer.header("location") else {
            assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
            refused += 1;
            continue;
        };
        assert_eq!(answer.status, 303, "{target}");
        assert_stays(location, &site, target);
        assert!(location.starts_with("/auth/login?"), "{target} -> {location}");
        // And where the sign-in then leads.
        let query = location.split_once('?').unwrap().1;
        let place = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "return_to");
        let place = place.map_or_else(|| "/".to_owned(), |(_, place)| place.into_owned());
        let begun = visitor.begin("site", &place);
        let back = visitor.come_back(&site.world.emulator, &begun, "alice");
        assert_stays(back.header("location").unwrap(), &site, target);
        led += 1;
    }
    assert!(led >= 2 && refused >= 20, "{led} led on, {refused} refused");
    println!("paths: {led} led to the sign-in page of this origin, {refused} refused");
}
