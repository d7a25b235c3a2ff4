use super::*;
use crate::config::Document;

/// The warnings of a configuration with these sections, as `key: reason; hint`.
fn warnings(sections: &str) -> Vec<String> {
    let findings = findings(sections);
    assert!(!findings.has_errors());
    findings.iter().map(ToString::to_string).collect()
}

fn findings(sections: &str) -> Findings {
    let routes = "routes: [{ path: /, access: authenticated, upstream: api }]";
    let routes = if sections.contains("routes:") { "" } else { routes };
    let upstreams = "upstreams: { api: { servers: ['127.0.0.1:2'] }, other: { servers: ['127.0.0.1:3'] } }";
    let upstreams = if sections.contains("upstreams:") { "" } else { upstreams };
    let yaml = format!(
        "
listeners: [{{ address: '127.0.0.1:1' }}]
apps: {{ shop: {{ kind: mini_program, appid: wx1, secret: {{ env: S }} }} }}
{upstreams}
{sections}
{routes}
"
    );
    let document = Document::parse("test.yaml", &yaml).unwrap();
    let mut findings = Findings::default();
    warn(&document.config, &mut findings);
    findings
}

/// The keys that a configuration with these sections is warned of.
fn keys(sections: &str) -> Vec<String> {
    let key = |warning: String| warning.split(": ").next().unwrap_or_default().to_owned();
    warnings(sections).into_iter().map(key).collect()
}

#[test]
fn the_defaults_are_no_hazard() {
    assert_eq!(warnings(""), Vec::<String>::new());
}

#[test]
fn an_admin_listener_off_loopback_is_a_hazard() {
    for (address, is_hazard) in [
        ("127.0.0.1:9901", false),
        ("[::1]:9901", false),
        ("[::ffff:127.0.0.1]:9901", false),
        ("0.0.0.0:9901", true),
        ("[::]:9901", true),
        ("10.0.0.1:9901", true),
    ] {
        let found = keys(&format!("admin: {{ address: '{address}' }}"));

        assert_eq!(found == ["admin.address"], is_hazard, "{address}: {found:?}");
    }
}

#[test]
fn an_internal_listener_off_loopback_is_refused_without_tls_and_a_hazard_with_it() {
    let clients = "clients: [{ name: crm, token: { env: T }, may: [bind] }]";
    let tls = "tls: { certificates: [{ certificate: a, key: b }] }";
    for (address, tls, expected) in [
        ("127.0.0.1:9902", "", None),
        ("[::1]:9902", "", None),
        ("0.0.0.0:9902", "", Some("without TLS")),
        ("10.0.0.1:9902", "", Some("without TLS")),
        ("10.0.0.1:9902", tls, Some("every program with a token")),
        ("127.0.0.1:9902", tls, None),
    ] {
        let separator = if tls.is_empty() { "" } else { ", " };
        let found = findings(&format!("internal: {{ address: '{address}', {clients}{separator}{tls} }}"));
        assert_eq!(found.has_errors(), expected == Some("without TLS"), "{address}");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), usize::from(expected.is_some()), "{address}: {found:?}");
        assert!(found.iter().all(|said| said.contains(expected.unwrap_or_default())), "{found:?}");
    }
}

#[test]
fn an_emulator_in_the_place_of_wechat_is_a_hazard() {
    for (wechat, expected) in [
        ("hosts: ['https://api.weixin.qq.com']", vec![]),
        ("hosts: ['https://egress.example.com:8443']", vec![]),
        ("hosts: ['https://api.weixin.qq.com', 'http://127.0.0.1:9900']", vec!["wechat.hosts[1]"]),
        ("hosts: ['http://wechat.example.com']", vec!["wechat.hosts[0]"]),
        ("hosts: ['HTTP://[::1]:9900']", vec!["wechat.hosts[0]"]),
        ("hosts: ['https://localhost:9900']", vec!["wechat.hosts[0]"]),
        ("pages: 'http://127.0.0.1:9900'", vec!["wechat.pages"]),
        ("widget: 'http://127.0.0.1:9900/w.js'", vec!["wechat.widget"]),
    ] {
        assert_eq!(keys(&format!("wechat: {{ {wechat} }}")), expected, "{wechat}");
    }
}

#[test]
fn a_redis_elsewhere_without_tls_or_password_is_a_hazard() {
    let remote = "addresses: ['redis.internal:6379']";
    for (redis, expected) in [
        ("addresses: ['127.0.0.1:6379']".to_owned(), vec![]),
        ("addresses: ['[::1]:6379', 'localhost:6380'], topology: cluster".to_owned(), vec![]),
        (remote.to_owned(), vec!["store.redis.tls", "store.redis.password"]),
        (format!("{remote}, tls: {{}}"), vec!["store.redis.password"]),
        (format!("{remote}, password: {{ env: P }}"), vec!["store.redis.tls"]),
        (format!("{remote}, tls: {{}}, password: {{ env: P }}"), vec![]),
    ] {
        assert_eq!(keys(&format!("store: {{ engine: redis, redis: {{ {redis} }} }}")), expected, "{redis}");
        assert!(warnings(&format!("store: {{ redis: {{ {redis} }} }}")).is_empty(), "{redis}");
    }
}

#[test]
fn pages_of_other_sites_on_a_route_for_everything_are_a_hazard() {
    for (route, expected) in [
        ("path: /, access: authenticated, allow_cross_site: true", vec!["routes[0].allow_cross_site"]),
        ("path: /, access: optional, allow_cross_site: true", vec!["routes[0].allow_cross_site"]),
        ("path: /, access: public, allow_cross_site: true", vec![]),
        ("path: /embed, access: authenticated, allow_cross_site: true", vec![]),
        ("path: /, access: authenticated", vec![]),
    ] {
        assert_eq!(keys(&format!("routes: [{{ {route}, upstream: api }}]")), expected, "{route}");
    }
}

#[test]
fn tokens_in_urls_are_a_hazard_and_need_a_name_and_a_caller() {
    let named = "tokens: { sources: { query: sid } }";
    let route = |keys: &str| format!("routes: [{{ path: /a, {keys}, upstream: api }}]");
    let reading = route("access: optional, token_in_query: true");
    for (sections, expected, is_refused) in [
        (format!("{named}\n{reading}"), "routes[0].token_in_query: tokens stand in the URLs of `/a`", false),
        (reading, "routes[0].token_in_query: no query parameter is named", true),
        (
            format!("{named}\n{}", route("access: public, token_in_query: true")),
            "routes[0].token_in_query: a public route reads no token",
            true,
        ),
        (format!("{named}\n{}", route("access: optional")), "tokens.sources.query: no route reads", false),
    ] {
        let found = findings(&sections);
        assert_eq!(found.has_errors(), is_refused, "{sections}");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(matches!(found.as_slice(), [only] if only.starts_with(expected)), "{sections}: {found:?}");
    }
}

#[test]
fn a_protected_route_below_a_public_one_of_its_backend_is_a_hazard() {
    let public = "{ path: /, access: public, upstream: api }";
    let admin = "{ path: /admin/, access: authenticated, upstream: api }";
    let on_host = "{ path: /admin, hosts: [a.test], access: authenticated, upstream: api }";
    for (routes, expected) in [
        (format!("{public}, {admin}"), vec!["routes[1].path"]),
        (format!("{admin}, {public}"), vec!["routes[0].path"]),
        (format!("{{ path: /, access: optional, upstream: api }}, {admin}"), vec!["routes[1].path"]),
        (format!("{public}, {{ path: /api, access: optional, upstream: api }}"), vec![]),
        (format!("{public}, {{ path: /admin, access: authenticated, upstream: other }}"), vec![]),
        (format!("{admin}, {{ path: /, access: authenticated, upstream: api }}"), vec![]),
        (format!("{admin}, {{ path: /ad, access: public, upstream: api }}"), vec![]),
        (format!("{public}, {on_host}"), vec![]),
        (
            format!("{on_host}, {{ path: /, hosts: [b.test, a.test], access: public, upstream: api }}"),
            vec!["routes[0].path"],
        ),
        (
            format!(
                "{public}, {{ path: /api, access: authenticated, upstream: other }}, {{ path: /api/admin, access: authenticated, upstream: api }}"
            ),
            vec![],
        ),
    ] {
        assert_eq!(keys(&format!("routes: [{routes}]")), expected, "{routes}");
    }

    let found = warnings(&format!("routes: [{public}, {admin}]"));
    assert_eq!(
        found,
        [
            "routes[1].path: `/admin.json` and `/ADMIN` go to the same backend by the route `/`, which lets everyone in: if the backend reads one of them as `/admin`, it is not protected; protect `/` and list what is public below it; or, if the backend refuses these spellings, write `upstreams.api.exact_paths: true`"
        ]
    );
    let upstreams = "upstreams: { api: { servers: ['127.0.0.1:2'], exact_paths: true } }";
    assert_eq!(warnings(&format!("{upstreams}\nroutes: [{public}, {admin}]")), Vec::<String>::new());
}
