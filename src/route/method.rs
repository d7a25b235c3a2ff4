//! Which methods the gateway knows: those that every route without `methods` serves, and those that
//! a route must name.

use http::Method;

/// Methods of every route that names none: those of RFC 9110 §9.3 without CONNECT and TRACE, and
/// PATCH.
pub const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Methods that only a route serves that names them: WebDAV (RFC 4918, 3253, 3648, 3744, 4791,
/// 5323) and QUERY.
///
/// Those that name another resource in their body (BIND, REBIND, UNBIND, LINK, UNLINK) are not
/// among them: a route could not tell where they lead.
pub const NAMED_METHODS: [&str; 22] = [
    "ACL",
    "BASELINE-CONTROL",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REPORT",
    "SEARCH",
    "UNCHECKOUT",
    "UNLOCK",
    "VERSION-CONTROL",
];

/// The name of a method that the gateway knows.
pub fn method_name(method: &[u8]) -> Option<&'static str> {
    let common = METHODS.iter().find(|known| known.as_str().as_bytes() == method);
    let named = || NAMED_METHODS.into_iter().find(|known| known.as_bytes() == method);
    common.map(Method::as_str).or_else(named)
}

/// The method of a name that a route may write.
pub(super) fn by_name(name: &str) -> Option<Method> {
    method_name(name.as_bytes()).and_then(|name| name.parse().ok())
}

/// Whether a method writes to the place that its `Destination` names; RFC 4918 §10.3.
pub fn has_destination(method: &Method) -> bool {
    matches!(method.as_str(), "COPY" | "MOVE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_in_its_own_spelling_alone() {
        for name in NAMED_METHODS {
            assert_eq!(method_name(name.as_bytes()), Some(name));
            assert_eq!(method_name(name.to_lowercase().as_bytes()), None);
            assert_eq!(by_name(name).unwrap().as_str(), name);
        }
        for name in ["TRACE", "CONNECT", "PRI", "BIND", "FOO", ""] {
            assert_eq!(method_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(method_name(b"GET"), Some("GET"));
    }
}
