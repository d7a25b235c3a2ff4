//! The headers that one proxy is believed about.

use http::{HeaderMap, HeaderName};

use super::managed::{NameClasses, is_guarded, means_guarded};
use super::names::{Class, has_unusual_character};
use super::pattern::NamePattern;
use crate::address;
use crate::config::{self, Findings};

/// The headers that one proxy is believed about, by name.
#[derive(Clone, Debug, Default)]
pub struct Believed {
    patterns: Vec<NamePattern>,
    client_address: Option<HeaderName>,
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
    request_id: bool,
    trace: bool,
}

impl Believed {
    /// What a proxy of the configuration is believed about; a finding for every header that no
    /// proxy may write. Its names become managed: no other peer may send them.
    pub(super) fn build(
        path: &str,
        proxy: &config::TrustedProxy,
        classes: &mut NameClasses,
        findings: &mut Findings,
    ) -> Self {
        let mut patterns = Vec::new();
        for (position, text) in proxy.believe.iter().enumerate() {
            let path = format!("{path}.believe[{position}]");
            match NamePattern::parse(text) {
                Ok(pattern) => {
                    if let Err(reason) = believe(&pattern, classes) {
                        findings.error(path, format!("`{text}` {reason}"));
                    }
                    patterns.push(pattern);
                }
                Err(reason) => {
                    findings.error(path, format!("`{text}` {reason}")).hint(
                        "write a name such as `X-Forwarded-Host`, or a beginning such as `X-SSL-Client-*`",
                    );
                }
            }
        }
        let client_address = proxy.client_address.as_deref().and_then(|text| {
            let name = client_address_header(text, classes);
            let path = format!("{path}.client_address");
            name.map_err(|(reason, hint)| _ = findings.error(path, format!("`{text}` {reason}")).hint(hint))
                .ok()
        });
        Self { client_address, ..Self::of(patterns) }
    }

    fn of(patterns: Vec<NamePattern>) -> Self {
        let holds = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        Self {
            forwarded_for: holds("x-forwarded-for"),
            forwarded_proto: holds("x-forwarded-proto"),
            forwarded_host: holds("x-forwarded-host"),
            request_id: holds("x-request-id"),
            trace: holds("traceparent"),
            client_address: None,
            patterns,
        }
    }

    /// The header that alone names the client's address.
    pub const fn client_address(&self) -> Option<&HeaderName> {
        self.client_address.as_ref()
    }

    /// Whether the proxy is believed about the addresses in `X-Forwarded-For`.
    pub const fn forwarded_for(&self) -> bool {
        self.forwarded_for
    }

    /// Whether the proxy is believed about the scheme that the client used.
    pub const fn forwarded_proto(&self) -> bool {
        self.forwarded_proto
    }

    /// Whether the proxy is believed about the host that the client asked for.
    pub const fn forwarded_host(&self) -> bool {
        self.forwarded_host
    }

    /// Whether the proxy gives requests their ids.
    pub const fn request_id(&self) -> bool {
        self.request_id
    }

    /// Whether the proxy is believed about the trace that a request belongs to.
    pub const fn trace(&self) -> bool {
        self.trace
    }

    /// Whether a header of this proxy reaches the backend. `class` is the class of its name.
    pub(super) fn passes(&self, name: &HeaderName, class: Class, headers: &HeaderMap) -> bool {
        if !class.can_be_believed() || self.is_spoiled(name, headers) {
            return false;
        }
        match class {
            Class::Own => match name.as_str() {
                "x-real-ip" => self.holds(name) && only(headers, name).and_then(address::parse).is_some(),
                "x-forwarded-port" => self.holds(name) && only(headers, name).is_some_and(is_port),
                // Written by the gateway, from what was believed.
                _ => false,
            },
            // Decided together with the trace.
            Class::Trace => false,
            _ => self.holds(name) || self.client_address.as_ref() == Some(name),
        }
    }

    /// Whether this is the header of the client's address, and names none: it was not believed.
    fn is_spoiled(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        self.client_address.as_ref() == Some(name) && only(headers, name).and_then(address::parse).is_none()
    }

    fn holds(&self, name: &HeaderName) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name.as_str()))
    }

    /// Believes these names, for tests of code that asks.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn in_names(names: &[&str], client_address: Option<&'static str>) -> Self {
        let patterns = names.iter().filter_map(|name| NamePattern::parse(name).ok()).collect();
        Self { client_address: client_address.map(HeaderName::from_static), ..Self::of(patterns) }
    }
}

/// Makes sure that a name may be believed, and that only a proxy that is believed may send it.
fn believe(pattern: &NamePattern, classes: &mut NameClasses) -> Result<(), &'static str> {
    if means_guarded(pattern) {
        return Err("belongs to the request itself: every client sends its own");
    }
    if !pattern.is_prefix {
        match classes.class(&pattern.text) {
            Some(Class::Identity) => {
                return Err("carries an identity, which only the gateway writes");
            }
            Some(Class::Misleading | Class::MethodOverride) => {
                return Err("names another path or method than the one that the gateway checks");
            }
            Some(_) => return Ok(()),
            None if classes.is_released(&pattern.text) => return Ok(()),
            None => {}
        }
    } else if classes.class(&pattern.text).is_some() {
        return Ok(());
    }
    classes.set(pattern.clone(), Class::Forwarding);
    Ok(())
}

/// The header that names a client's address.
fn client_address_header(
    text: &str,
    classes: &mut NameClasses,
) -> Result<HeaderName, (&'static str, &'static str)> {
    const SUCH_AS: &str = "write a header with one address, such as `X-Real-IP`";
    let name = HeaderName::try_from(text).ok().filter(|name| !has_unusual_character(name));
    let name = name.ok_or(("is not a header name of letters, digits and `-`", SUCH_AS))?;
    if name == "x-forwarded-for" || name == "forwarded" {
        let hint = "`X-Forwarded-For` is read without `client_address`: put it into `believe`";
        return Err(("is a list of addresses", hint));
    }
    if is_guarded(&name) {
        return Err(("has another meaning", SUCH_AS));
    }
    match classes.class(name.as_str()) {
        Some(class) if !class.can_be_believed() => Err(("has another meaning", SUCH_AS)),
        Some(_) => Ok(name),
        None => {
            let pattern = NamePattern { text: name.as_str().to_owned(), is_prefix: false };
            classes.set(pattern, Class::Forwarding);
            Ok(name)
        }
    }
}

/// The one value of a header, as text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}
