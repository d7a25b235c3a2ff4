use super::*;

const APPS: &str = "
    shop: { kind: mini_program, appid: wx1, secret: s }
    site: { kind: website, appid: wx2, secret: s }
    mp: { kind: official_account, appid: wx3, secret: s }";

fn table(yaml: &str) -> Result<RouteTable, Vec<String>> {
    let routes: Vec<config::Route> = serde_saphyr::from_str(yaml).unwrap();
    let apps: BTreeMap<String, config::App> = serde_saphyr::from_str(APPS).unwrap();
    let upstreams: BTreeMap<String, config::Upstream> =
        serde_saphyr::from_str("api: { servers: ['127.0.0.1:1'] }\nother: { servers: ['127.0.0.1:2'] }\ngrpc: { servers: ['127.0.0.1:3'], protocol: http2 }")
            .unwrap();
    let mut findings = Findings::default();
    let table = RouteTable::build(&routes, &apps, &upstreams, &BTreeMap::new(), &mut findings);
    table.ok_or_else(|| findings.iter().map(ToString::to_string).collect())
}

fn found(table: &RouteTable, host: &str, path: &str, method: Method) -> String {
    table.find(host, path, &method).map_or_else(|none| format!("{none:?}"), |route| route.name.to_string())
}

#[test]
fn the_longest_path_on_a_segment_boundary_wins() {
    let table = table(
        "
        - { name: all, path: /, access: public, upstream: api }
        - { name: api, path: /api, access: authenticated, upstream: api }
        - { name: v1, path: /api/v1/, access: authenticated, upstream: api }",
    )
    .unwrap();

    for (path, name) in [
        ("/", "all"),
        ("/apix", "all"),
        ("/API", "all"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/v1x", "api"),
        ("/api/v1", "v1"),
        ("/api/v1/", "v1"),
        ("/api/v1/x/y", "v1"),
        ("/api/*", "api"),
    ] {
        assert_eq!(found(&table, "h", path, Method::GET), name, "{path}");
    }
}

#[test]
fn a_route_to_an_upstream_of_http_2_has_no_websocket() {
    let of = |upstream: &str, websocket: bool| {
        table(&format!("- {{ path: /ws, access: public, upstream: {upstream}, websocket: {websocket} }}"))
    };

    let findings = of("grpc", true).unwrap_err();

    assert!(findings[0].contains("routes[0].websocket: upstream `grpc` speaks HTTP/2"), "{findings:?}");
    assert!(of("grpc", false).is_ok() && of("api", true).is_ok());
}

#[test]
fn a_path_is_matched_as_a_backend_decodes_it() {
    let table = table(
        "
        - { name: all, path: /, access: public, upstream: api }
        - { name: me, path: /@me, access: authenticated, upstream: api }
        - { name: action, path: '/a:b!c', access: authenticated, upstream: api }
        - { name: space, path: '/a%20b', access: authenticated, upstream: api }
        - { name: accent, path: '/caf%C3%A9', access: authenticated, upstream: api }",
    )
    .unwrap();

    for (path, name) in [
        ("/@me", "me"),
        ("/%40me/x", "me"),
        ("/a%3Ab%21c", "action"),
        ("/a:b%21c/x", "action"),
        ("/a%20b", "space"),
        ("/caf%C3%A9/x", "accent"),
        ("/a+b", "all"),
    ] {
        assert_eq!(found(&table, "h", path, Method::GET), name, "{path}");
    }
}

#[test]
fn two_spellings_of_one_path_are_one_path() {
    let findings = table(
        "
        - { name: plain, path: /@me, access: public, upstream: api }
        - { name: escaped, path: '/%40me', access: authenticated, upstream: api }",
    )
    .unwrap_err();

    assert!(findings.iter().any(|finding| finding.contains("route `plain` already serves")), "{findings:?}");
}

#[test]
fn named_host_is_served_by_its_own_routes_only() {
    let table = table(
        "
        - { name: any, path: /, access: public, upstream: api }
        - { name: admin, hosts: [admin.example.com], path: /x, access: authenticated, upstream: api }
        - { name: wild, hosts: ['*.example.com'], path: /, access: authenticated, upstream: api }
        - { name: deep, hosts: ['*.a.example.com'], path: /, access: authenticated, upstream: api }",
    )
    .unwrap();

    for (host, path, name) in [
        ("admin.example.com", "/x", "admin"),
        ("admin.example.com", "/y", "NotFound"),
        ("b.example.com", "/y", "wild"),
        ("b.a.example.com", "/y", "deep"),
        ("a.example.com", "/y", "wild"),
        ("example.com", "/y", "any"),
        ("badexample.com", "/y", "any"),
        (".example.com", "/y", "any"),
    ] {
        assert_eq!(found(&table, host, path, Method::GET), name, "{host}{path}");
    }
}

#[test]
fn unserved_method_is_refused_and_never_matches_a_shorter_path() {
    let table = table(
        "
        - { name: all, path: /, access: public, upstream: api }
        - { name: read, path: /api, methods: [GET, HEAD], access: public, upstream: api }
        - { name: write, path: /api/w, access: authenticated, upstream: api }
        - { name: post, path: /api/w, methods: [POST], access: authenticated, upstream: other }",
    )
    .unwrap();

    assert_eq!(found(&table, "h", "/api/x", Method::DELETE), "MethodNotAllowed");
    assert_eq!(found(&table, "h", "/api/x", Method::GET), "read");
    assert_eq!(found(&table, "h", "/api/w", Method::POST), "post");
    assert_eq!(found(&table, "h", "/api/w", Method::DELETE), "write");
    assert!(table.distinguishes_methods());
}

#[test]
fn methods_matter_only_if_a_route_names_one() {
    let table = table("- { path: /, access: public, upstream: api }").unwrap();

    assert!(!table.distinguishes_methods());
}

#[test]
fn route_permits_the_apps_it_names_or_every_app() {
    let table = table(
        "
        - { path: /, access: authenticated, upstream: api }
        - { path: /shop, access: authenticated, upstream: api, apps: [shop, mp] }",
    )
    .unwrap();

    for (path, app, is_admitted) in [
        ("/", "shop", true),
        ("/", "site", true),
        ("/shop", "shop", true),
        ("/shop", "mp", true),
        ("/shop", "site", false),
        ("/shop", "sho", false),
    ] {
        let route = table.find("h", path, &Method::GET).unwrap();

        assert_eq!(route.permits_app(app), is_admitted, "{path} {app}");
    }
}

#[test]
fn a_host_is_a_lower_case_name_or_an_address() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    for name in ["a", "a.b-c_d.0", "127.0.0.1", "[::1]", "[2001:db8::1.2.3.4]", &label, &longest] {
        assert!(is_host_name(name), "{name}");
    }
    let (long_label, long) = (format!("{label}a"), format!("{longest}a"));
    for name in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "A",
        "a b",
        "a:1",
        "[]",
        "[g]",
        "[::1",
        "::1]",
        "::1",
        &long_label,
        &long,
    ] {
        assert!(!is_host_name(name), "{name}");
    }
}

#[test]
fn every_invalid_route_is_reported_in_one_pass() {
    let found = table(
        "
        - { path: api, access: public, upstream: api }
        - { path: /%61, access: public, upstream: api }
        - { path: /b, access: public, upstream: apu, apps: [shop] }
        - { path: /c, access: authenticated, upstream: api, apps: [shap], methods: [get, FOO] }
        - { path: /d, hosts: ['A.com', 'a.com:80', '*a.com', '*'], access: public, upstream: api }
        - { name: e, path: /e, access: public, upstream: api }
        - { name: e, path: /e/, access: public, upstream: api }",
    )
    .unwrap_err();

    assert_eq!(
        found,
        [
            "routes[0].path: `api`: the path does not begin with a slash, so it cannot be the path of a route; write a plain path such as `/api`",
            "routes[1].path: `/%61` is not the form that requests are matched in; write `/a`",
            "routes[2].upstream: upstream `apu` is not defined; did you mean `api`?",
            "routes[2].apps: a public route checks no identity, so it cannot permit some apps only; write `access: authenticated`, or remove `apps`",
            "routes[3].apps[0]: app `shap` is not defined; did you mean `shop`?",
            "routes[3].methods[0]: `get` is not a method that the gateway accepts; did you mean `GET`?",
            "routes[3].methods[1]: `FOO` is not a method that the gateway accepts; write one of: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            "routes[4].hosts[0]: `A.com` is not a host name; write lower-case names without a port, such as `api.example.com`, or `*.example.com`",
            "routes[4].hosts[1]: `a.com:80` is not a host name; write lower-case names without a port, such as `api.example.com`, or `*.example.com`",
            "routes[4].hosts[2]: `*a.com` is not a host name; write lower-case names without a port, such as `api.example.com`, or `*.example.com`",
            "routes[4].hosts[3]: `*` is not a host name; write lower-case names without a port, such as `api.example.com`, or `*.example.com`",
            "routes[6].name: another route is named `e`; give each route a `name` of its own",
            "routes[6].path: route `e` already serves this host, path and method",
        ]
    );
}

#[test]
fn a_browser_signs_in_to_the_apps_of_its_route() {
    let table = table(
        "
        - { path: /all, access: authenticated, upstream: api }
        - { path: /optional, access: optional, upstream: api }
        - { path: /admitted, access: authenticated, upstream: api, apps: [shop, site] }
        - { path: /named, access: authenticated, upstream: api, sign_in: [site, mp] }
        - { path: /none, access: authenticated, upstream: api, apps: [shop] }
        - { path: /public, access: public, upstream: api }",
    )
    .unwrap();

    let offered: Vec<(&str, Vec<&str>)> = table
        .routes()
        .iter()
        .map(|route| (&*route.name, route.sign_in.iter().map(|app| &**app).collect()))
        .collect();
    assert_eq!(
        offered,
        [
            ("/all", vec!["mp", "site"]),
            ("/optional", vec!["mp", "site"]),
            ("/admitted", vec!["site"]),
            ("/named", vec!["site", "mp"]),
            ("/none", vec![]),
            ("/public", vec![]),
        ]
    );
}

#[test]
fn apps_without_browser_sign_in_are_reported() {
    let found = table(
        "
        - { path: /a, access: public, upstream: api, sign_in: [site] }
        - { path: /b, access: authenticated, upstream: api, sign_in: [sitee, shop, mp, mp] }
        - { path: /c, access: optional, upstream: api, apps: [shop, site], sign_in: [mp] }",
    )
    .unwrap_err();

    assert_eq!(
        found,
        [
            "routes[0].sign_in: a public route checks no identity, so no user signs in for it; write `access: authenticated` or `access: optional`, or remove `sign_in`",
            "routes[1].sign_in[0]: app `sitee` is not defined; did you mean `site`?",
            "routes[1].sign_in[1]: app `shop` is a `mini_program`, which no browser signs in to; name apps of the kinds `website` and `official_account`",
            "routes[1].sign_in[3]: app `mp` is named twice; remove one of the two",
            "routes[2].sign_in[0]: app `mp` is not one that this route permits; add it to `routes[2].apps`, or remove it here",
        ]
    );
}

#[test]
fn a_path_with_many_readings_needs_a_route_that_allows_its_spellings() {
    let table = table(
        "
        - { name: all, path: /, access: public, upstream: api }
        - { name: files, path: /files, access: public, upstream: api, paths: { allow: [encoded_slash, semicolon, brackets] } }
        - { name: read, path: /ro, methods: [GET], access: public, upstream: api, paths: { allow: [semicolon] } }
        - { name: write, path: /ro, access: public, upstream: api }
        - { name: host, hosts: [h.example.com], path: /, access: public, upstream: api, paths: { allow: [semicolon] } }",
    )
    .unwrap();
    let found = |host, path, method| {
        let path = AmbiguousPath::parse(path).unwrap();
        match table.find_in_every_reading(host, &path, &method) {
            Ok(route) => route.name.to_string(),
            Err(NoRoute::Path(refusal)) => refusal.to_string(),
            Err(other) => format!("{other:?}"),
        }
    };

    for (path, expected) in [
        ("/files/a%2Fb;c", "files"),
        (
            "/files/a%2Fb//c%23",
            "the path has an empty segment (`//`) and a `%23`, `%3F` or `%3B`, which backends read in different ways: to accept it, add `empty_segment` and `encoded_reserved` to `routes[1].paths.allow`",
        ),
        (
            "/x;y",
            "the path has a `;`, which backends read in different ways: to accept it, add `semicolon` to `routes[0].paths.allow`",
        ),
        (
            "/files%2Fa",
            "the path has a `%2F`, and not all backends read it as a path of the same route: `routes[].paths.allow` cannot change that",
        ),
    ] {
        assert_eq!(found("a.test", path, Method::GET), expected, "{path}");
    }
    assert_eq!(found("a.test", "/ro/x;y", Method::GET), "read");
    assert!(found("a.test", "/ro/x;y", Method::POST).contains("`routes[3].paths.allow`"));
    assert_eq!(found("h.example.com", "/files/x;y", Method::GET), "host");
}
