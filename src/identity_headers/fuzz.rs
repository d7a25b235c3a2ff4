//! Drives the removal of headers by name.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::{
    CLOUD_RUN_FAMILIES, FOREIGN, FOREIGN_FAMILIES, FORWARDING, GUARDED, MISLEADING, OWN, classes,
};
use super::{EditHeaders, HeaderEdits, RequestOrigin};
use crate::config::{Findings, HeaderNames, IdentityHeaders};
use crate::telemetry::metrics::Metrics;

/// What a client sends in each header.
const FORGED: &str = "victim";

static EDITS: LazyLock<Vec<(HeaderNames, HeaderEdits)>> = LazyLock::new(|| {
    let config = IdentityHeaders {
        openid: "X-User-Id".into(),
        remove: vec!["X_Legacy.User".into(), "X-Internal".into()],
        ..IdentityHeaders::default()
    };
    let build = |names| {
        let edits =
            HeaderEdits::build(&config, names, true, &Metrics::new().ok()?, &mut Findings::default())?;
        Some((names, edits))
    };
    [HeaderNames::Pass, HeaderNames::Strip, HeaderNames::Refuse].into_iter().filter_map(build).collect()
});

/// The managed names, as a CGI-style backend has them.
static MANAGED: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let listed = classes().into_keys().map(|name| name.as_str().to_owned());
    let named = ["x-user-id", "x-wx-unionid", "x-legacy-user", "x-internal"]
        .into_iter()
        .chain(GUARDED.iter().copied());
    listed.chain(named.map(str::to_owned)).map(|name| (folded(&name), name)).collect()
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
        for peer_is_trusted in [false, true] {
            let forged = names.iter().map(|name| (name.clone(), HeaderValue::from_static(FORGED)));
            let mut request = Request(forged.collect());
            let origin = RequestOrigin {
                peer_is_trusted,
                peer: [192, 0, 2, 1].into(),
                scheme: "https",
                host: "a.test",
                request_id: "r1",
                traceparent: None,
            };
            edits.apply(&mut request, None, &origin);
            for (name, _) in request.0.iter().filter(|(_, value)| *value == FORGED) {
                assert!(
                    may_stay(name.as_str(), peer_is_trusted),
                    "{name} passes, {how:?}, trusted {peer_is_trusted}"
                );
            }
        }
    }
}

/// Whether a client may send a header of this name: one that no backend reads as a managed header;
/// and under its own name a guarded header, or one that is accepted from a trusted proxy.
fn may_stay(name: &str, peer_is_trusted: bool) -> bool {
    let folded_name = folded(name);
    let is_of = |families: &[&str]| families.iter().any(|family| folded_name.starts_with(&folded(family)));
    let managed = MANAGED.iter().find(|(folded, _)| *folded == folded_name).map(|(_, name)| name.as_str());
    let is_foreign = FOREIGN.contains(&name) || FORWARDING.contains(&name);
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match managed {
        Some(managed) if name != managed => false,
        Some(_) if GUARDED.contains(&name) && !OWN.contains(&name) => true,
        Some(_) => peer_is_trusted && is_foreign,
        None if is_of(CLOUD_RUN_FAMILIES) => false,
        None if is_of(FOREIGN_FAMILIES) => peer_is_trusted && is_plain && !MISLEADING.contains(&name),
        None => true,
    }
}

/// The variable that a CGI-style backend puts a header into.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
