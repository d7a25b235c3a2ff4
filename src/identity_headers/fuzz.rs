//! Drives the removal of headers by name.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::managed::NameClasses;
use super::names::{CLOUD_RUN_FAMILIES, FOREIGN_FAMILIES, GUARDED};
use super::{EditHeaders, HeaderEdits, HeaderSettings, RequestOrigin};
use crate::config::{Findings, HeaderNames, IdentityHeaders, TrustedProxy};
use crate::telemetry::metrics::Metrics;

/// What the proxy is believed about.
const BELIEVED: [&str; 4] = ["remote-user", "true-client-ip", "x-corp-user", "x-front"];

/// What a client sends in each header.
const FORGED: &str = "victim";

static EDITS: LazyLock<Vec<(HeaderNames, HeaderEdits)>> = LazyLock::new(|| {
    let config = IdentityHeaders {
        openid: "X-User-Id".into(),
        remove: vec!["X_Legacy.User".into(), "X-Internal".into(), "X-Corp-*".into()],
        ..IdentityHeaders::default()
    };
    let believe = BELIEVED.map(str::to_owned).to_vec();
    let proxy = TrustedProxy { believe, ..TrustedProxy::at(Vec::new()) };
    let build = |header_names| {
        let settings = HeaderSettings {
            identity_headers: &config,
            trusted_proxies: std::slice::from_ref(&proxy),
            header_names,
            distinguishes_methods: true,
        };
        let edits = HeaderEdits::build(settings, &Metrics::new().ok()?, &mut Findings::default())?;
        Some((header_names, edits))
    };
    [HeaderNames::Pass, HeaderNames::Strip, HeaderNames::Refuse].into_iter().filter_map(build).collect()
});

/// The managed names, as a CGI-style backend has them.
static MANAGED: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let listed = NameClasses::listed();
    let listed: Vec<String> = listed.names().map(str::to_owned).collect();
    let named = ["x-user-id", "x-wx-unionid", "x-legacy-user", "x-internal", "x-front"]
        .into_iter()
        .chain(GUARDED.iter().copied());
    listed.into_iter().chain(named.map(str::to_owned)).map(|name| (folded(&name), name)).collect()
});

struct Request(HeaderMap);

impl EditHeaders for Request {
    fn headers(&self) -> &HeaderMap {
        &self.0
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }

    fn set(&mut self, name: &Bytes, value: HeaderValue) {
        if let Ok(name) = HeaderName::from_bytes(name) {
            self.0.insert(name, value);
        }
    }
}

pub(crate) fn header_names(data: &[u8]) {
    assert!(EDITS.len() == 3, "the edits were not built");
    let lines = data.split(|byte| *byte == b'\n').take(100);
    let names: Vec<HeaderName> = lines.filter_map(|line| HeaderName::from_bytes(line).ok()).collect();
    for (how, edits) in &*EDITS {
        for believed in [None, edits.believed().first().map(|believed| &**believed)] {
            let forged = names.iter().map(|name| (name.clone(), HeaderValue::from_static(FORGED)));
            let mut request = Request(forged.collect());
            let origin = RequestOrigin {
                believed,
                peer: [192, 0, 2, 1].into(),
                client: [192, 0, 2, 1].into(),
                scheme: "https",
                host: "a.test",
                request_id: "r1",
                traceparent: None,
                continues_trace: false,
            };
            edits.apply(&mut request, None, &origin);
            for (name, _) in request.0.iter().filter(|(_, value)| *value == FORGED) {
                assert!(
                    may_stay(name.as_str(), believed.is_some()),
                    "{name} passes, {how:?}, of {believed:?}"
                );
            }
        }
    }
}

/// Whether a header of this name may reach the backend: one that no backend reads as a managed
/// header; and under its own name a guarded header, or one that the proxy is believed about.
fn may_stay(name: &str, is_of_proxy: bool) -> bool {
    let folded_name = folded(name);
    let is_of = |families: &[&str]| families.iter().any(|family| folded_name.starts_with(&folded(family)));
    let managed = MANAGED.iter().find(|(folded, _)| *folded == folded_name).map(|(_, name)| name.as_str());
    match managed {
        Some(managed) if name != managed => false,
        Some(_) if GUARDED.contains(&name) => true,
        Some(_) => is_of_proxy && BELIEVED.contains(&name),
        None if is_of(CLOUD_RUN_FAMILIES) => false,
        None if is_of(FOREIGN_FAMILIES) || is_of(&["x-corp-"]) => is_of_proxy && BELIEVED.contains(&name),
        None => true,
    }
}

/// The variable that a CGI-style backend puts a header into.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
