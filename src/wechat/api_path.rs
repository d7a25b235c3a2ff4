//! Paths of WeChat's API, as programs name them.
//!
//! Only one spelling of a path is accepted, so that a path that is refused has no other name:
//! letters, digits, `-`, `_`, single slashes, and dots inside a segment. Every path of WeChat's API
//! has this form.

use std::fmt;

/// Longest path, in bytes.
const MAX_PATH_BYTES: usize = 256;
/// Paths that give out or take credentials of the app: nobody calls them through the gateway,
/// whatever the configuration says. Everything below them counts too.
const NEVER: [&str; 4] = ["/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/component", "/sns"];

/// A path of WeChat's API, or the beginning of several.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ApiPath(Box<str>);

/// Why a path is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedApiPath {
    /// It has another form than the paths of WeChat's API.
    #[error("a path has only letters, digits, `-`, `_`, single slashes, and dots inside a segment")]
    NotPlain,
    /// It gives out or takes credentials.
    #[error("this path gives out or takes credentials of the app")]
    OfCredentials,
}

impl ApiPath {
    /// Parses a path without its query.
    ///
    /// # Errors
    /// [`RefusedApiPath`], by variant.
    pub fn parse(text: &str) -> Result<Self, RefusedApiPath> {
        let rest = text.strip_prefix('/').ok_or(RefusedApiPath::NotPlain)?;
        if text.len() > MAX_PATH_BYTES || !rest.split('/').all(is_plain_segment) {
            return Err(RefusedApiPath::NotPlain);
        }
        // WeChat may not tell capital letters apart.
        let lower = text.to_ascii_lowercase();
        if NEVER.iter().any(|never| is_below(&lower, never)) {
            return Err(RefusedApiPath::OfCredentials);
        }
        Ok(Self(text.into()))
    }

    /// The path as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this path is the other one, or one below it: a whole number of segments more.
    pub fn is_at_or_below(&self, prefix: &Self) -> bool {
        is_below(&self.0, &prefix.0)
    }
}

impl fmt::Debug for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain_segment(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // Some servers read dots alone as a way up, and leave out a dot at the end.
    !segment.is_empty()
        && segment.bytes().all(is_plain)
        && !segment.starts_with('.')
        && !segment.ends_with('.')
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for path in ["/wxa/msg_sec_check", "/cgi-bin/media/get", "/wxa/a.b-c", "/tcb/x", "/a"] {
            assert_eq!(ApiPath::parse(path).unwrap().as_str(), path);
        }
        for path in [
            "",
            "/",
            "wxa/x",
            "//wxa/x",
            "/wxa//x",
            "/wxa/x/",
            "/wxa/./x",
            "/wxa/../x",
            "/wxa/.../x",
            "/wxa/..x",
            "/wxa/x.",
            "/wxa/x/..",
            "/wxa/%78",
            "/wxa/x%2Fy",
            "/wxa/x;y",
            "/wxa/x y",
            "/wxa\\x",
            "/wxa/x?y",
            "/wxa/x#y",
            "/wxa/信",
            "/wxa/x\0",
            "/wxa/x:y",
            "/wxa/x@y",
            "/wxa/x+y",
            "/wxa/x,y",
            "/wxa/x=y",
            "/wxa/~x",
        ] {
            assert_eq!(ApiPath::parse(path), Err(RefusedApiPath::NotPlain), "{path:?}");
        }
        assert_eq!(
            ApiPath::parse(&format!("/{}", "x".repeat(MAX_PATH_BYTES))),
            Err(RefusedApiPath::NotPlain)
        );
    }

    #[test]
    fn paths_of_credentials_are_refused_in_every_spelling() {
        for never in NEVER {
            for below in ["", "/x", "/x/y"] {
                let path = format!("{never}{below}");
                for path in
                    [path.clone(), path.to_uppercase(), path.replace("cgi", "Cgi").replace("sns", "sNs")]
                {
                    assert_eq!(ApiPath::parse(&path), Err(RefusedApiPath::OfCredentials), "{path}");
                }
                for path in [
                    format!("{path}/"),
                    format!("/{path}"),
                    format!("/wxa/..{path}"),
                    format!("/.{path}"),
                    path.replace('n', "%6e"),
                    path.replace('n', "%6E"),
                    format!("{path};x"),
                    format!("{path}%00"),
                    format!("{path}."),
                    path.replace('/', "%2f"),
                    path.replace('/', "\\"),
                ] {
                    assert_eq!(ApiPath::parse(&path), Err(RefusedApiPath::NotPlain), "{path}");
                }
            }
            // Another path that only begins with the same letters.
            assert!(ApiPath::parse(&format!("{never}x")).is_ok(), "{never}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let path = |text| ApiPath::parse(text).unwrap();
        for (text, prefix, expected) in [
            ("/wxa/msg", "/wxa/msg", true),
            ("/wxa/msg/send", "/wxa/msg", true),
            ("/wxa/msg_sec_check", "/wxa/msg", false),
            ("/wxa", "/wxa/msg", false),
            ("/WXA/msg", "/wxa/msg", false),
            ("/cgi-bin/wxa/msg", "/wxa/msg", false),
        ] {
            assert_eq!(path(text).is_at_or_below(&path(prefix)), expected, "{text} {prefix}");
        }
    }
}
