use std::collections::BTreeSet;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::telemetry::metrics::Metrics;

struct AdminBench {
    admin: Admin,
    health: Arc<GatewayHealth>,
    metrics: Arc<Metrics>,
    _folder: TempDir,
}

fn bench() -> AdminBench {
    let folder = tempfile::tempdir().unwrap();
    let (shared, runtime) = Runtime::for_test(folder.path(), Arc::new(ManualClock::start_now()));
    let (metrics, health) = (Arc::clone(&shared.metrics), Arc::new(GatewayHealth::starting()));
    let admin = Admin::new(shared, Arc::clone(&health), move || Arc::clone(&runtime));
    AdminBench { admin, health, metrics, _folder: folder }
}

impl AdminBench {
    fn get(&self, path: &str) -> (u16, String) {
        let response = self.answer(&Method::GET, path);
        (response.status().as_u16(), String::from_utf8(response.into_body()).unwrap())
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Vec<u8>> {
        let path: http::Uri = path.parse().unwrap_or_default();
        self.admin.answer(method, path.path())
    }
}

fn header<'a>(response: &'a Response<Vec<u8>>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn metrics_are_in_the_text_format() {
    let bench = bench();
    bench.metrics.identity_headers_stripped.inc_by(3);

    let response = bench.answer(&Method::GET, "/metrics");

    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(response.into_body()).unwrap();
    assert!(text.contains("\nmenshen_identity_headers_stripped_total 3\n"), "{text}");
}

#[test]
fn gateway_is_live_in_every_state() {
    let bench = bench();

    assert_eq!(bench.get("/livez"), (200, "ok\n".into()));
    bench.health.set_draining();
    assert_eq!(bench.get("/livez"), (200, "ok\n".into()));
}

#[test]
fn gateway_is_ready_between_starting_and_draining() {
    let bench = bench();

    assert_eq!(
        bench.get("/readyz"),
        (503, r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the gateway does not serve requests yet","code":"starting","request_id":""}"#.into())
    );
    bench.health.set_ready();
    assert_eq!(bench.get("/readyz"), (200, "ready\n".into()));
    bench.health.set_draining();
    assert_eq!(
        bench.get("/readyz"),
        (503, r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the gateway is stopping and takes no new requests","code":"draining","request_id":""}"#.into())
    );
}

#[test]
fn draining_gateway_does_not_become_ready_again() {
    let health = GatewayHealth::default();
    assert_eq!(health.state(), HealthState::Starting);

    health.set_draining();
    health.set_ready();

    assert_eq!(health.state(), HealthState::Draining);
}

#[test]
fn any_other_path_is_not_found() {
    let bench = bench();
    for path in [
        "/",
        "",
        "*",
        "/metrics/",
        "//metrics",
        "/Metrics",
        "/metrics%20",
        "/livez/x",
        "/../metrics",
        "/sessions",
        "/sessions/revoke",
        "/people/block",
        "/people/bind",
        "/reload",
        "/introspect",
    ] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::CONNECT] {
            let response = bench.answer(&method, path);
            assert_eq!(response.status(), 404, "{method} {path}");
            assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        }
    }
}

#[test]
fn methods_that_change_are_not_allowed() {
    let bench = bench();
    let other = Method::from_bytes(b"GET2").unwrap();
    for path in ["/metrics", "/livez", "/readyz"] {
        for method in [&Method::POST, &Method::PUT, &Method::DELETE, &Method::OPTIONS, &Method::TRACE, &other]
        {
            let response = bench.answer(method, path);
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(header(&response, "allow"), Some("GET, HEAD"));
        }
    }
}

#[test]
fn head_is_answered_as_get_without_the_body() {
    let bench = bench();
    for path in ["/metrics", "/livez", "/readyz", "/nothing"] {
        let get = bench.answer(&Method::GET, path);
        let head = bench.answer(&Method::HEAD, path);

        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(head.headers(), get.headers(), "{path}");
        assert_eq!(header(&get, "content-length"), Some(get.body().len().to_string().as_str()));
        assert_eq!(header(&get, "cache-control"), Some("no-store"));
        assert!(head.body().is_empty() && !get.body().is_empty(), "{path}");
    }
}

/// The metrics as `telemetry/metrics.rs` declares them, `name{labels}`, with the version that
/// `Metrics::new` adds.
fn declared_metrics() -> BTreeSet<String> {
    let source = include_str!("../telemetry/metrics.rs");
    // Counts before there are metrics.
    let diagnostics = include_str!("../telemetry/diagnostics.rs");
    let (_, fields) = source.split_once("pub struct Metrics {").unwrap();
    let (fields, _) = fields.split_once("\n}").unwrap();
    let mut declared = BTreeSet::from(["menshen_build_info{version}".to_owned()]);
    for line in fields.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("/// `menshen_").and_then(|name| name.strip_suffix('`')) {
            let short = name.split('{').next().unwrap();
            let is_registered = source.contains(&format!("\"{short}\""))
                || diagnostics.contains(&format!("\"menshen_{short}\""));
            assert!(is_registered, "{short} is not registered under its name");
            declared.insert(format!("menshen_{name}"));
        }
    }
    let count = fields.lines().filter(|line| line.trim().starts_with("pub ")).count();
    assert_eq!(declared.len(), count + 1, "every field says its metric's name");
    declared
}

#[test]
fn documentation_explains_every_metric_and_no_other() {
    let document = fs::read_to_string("docs/metrics.md").unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `menshen_")?.split('`').next());
    let rows: Vec<String> = rows.map(|name| format!("menshen_{name}")).collect();
    let documented: BTreeSet<String> = rows.iter().cloned().collect();

    let declared = declared_metrics();

    assert!(declared.len() > 15, "{} metrics found", declared.len());
    assert_eq!(documented, declared);
    assert_eq!(rows.len(), documented.len(), "each has one row: {rows:?}");
}
