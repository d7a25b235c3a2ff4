//! Finds paths that are written as patterns. A route's path is a prefix, so a pattern would match
//! no request, and a shorter and perhaps public path would serve what it was meant to protect.

/// The prefix that the author of a pattern most likely meant; `None` if `path` is no pattern.
///
/// The signs are those of globs, routers and regular expressions: `*`, `?`, `[`, `{`, `<`, `|`,
/// `^`, `\`, `:name` and `(…)` as segments, `.+`, and `$` at the end. A path that has such a
/// character as itself is written with its escape, such as `%2A`.
pub(super) fn prefix_of_pattern(path: &str) -> Option<String> {
    let begins_as_regex = path.starts_with(['^', '~']);
    let plain = path.trim_start_matches(['^', '~', ' ', '*']);
    let at = position_of_sign(plain);
    if !begins_as_regex && at.is_none() && plain.len() == path.len() {
        return None;
    }
    let prefix = plain.get(..at.unwrap_or(plain.len())).unwrap_or_default();
    let prefix = prefix.trim_end_matches('/');
    Some(if prefix.starts_with('/') { prefix.to_owned() } else { "/".to_owned() })
}

fn position_of_sign(path: &str) -> Option<usize> {
    let in_any_place = path.find(['*', '?', '[', '{', '<', '|', '^', '\\']);
    let at_the_start_of_a_segment =
        ["/:", "/("].into_iter().filter_map(|sign| path.find(sign)).min().map(|slash| slash + 1);
    let at_the_end = path.strip_suffix('$').map(str::len);
    let as_regex = [".*", ".+"].into_iter().filter_map(|sign| path.find(sign)).min();
    [in_any_place, at_the_start_of_a_segment, as_regex, at_the_end].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_looks_like_a_pattern_yields_the_intended_prefix() {
        for (path, prefix) in [
            ("/admin/*", "/admin"),
            ("/vip/**", "/vip"),
            ("/vip*", "/vip"),
            ("/*", "/"),
            ("*", "/"),
            ("/a/*/b", "/a"),
            ("/:user", "/"),
            ("/users/:id/orders", "/users"),
            ("/x?", "/x"),
            ("/x?page=1", "/x"),
            ("/users/{id}", "/users"),
            ("/users/<int:id>", "/users"),
            ("/img[0-9]", "/img"),
            ("^/admin", "/admin"),
            ("^/admin/.*$", "/admin"),
            ("~ /admin/", "/admin"),
            ("~* /admin/", "/admin"),
            ("/admin/.+", "/admin"),
            ("/admin$", "/admin"),
            ("/(a|b)", "/"),
            ("/a\\.php", "/a"),
        ] {
            assert_eq!(prefix_of_pattern(path).as_deref(), Some(prefix), "{path}");
        }
    }

    #[test]
    fn a_plain_path_is_no_pattern() {
        for path in [
            "/",
            "/admin",
            "/admin/",
            "/~joe",
            "/v1/orders:batch",
            "/odata/$metadata",
            "/Products(1)",
            "/a+b",
            "/a,b=c&d'e!@",
            "/a%2Ab",
            "/%3Auser",
            "/.well-known/x",
            "/caf%C3%A9",
        ] {
            assert_eq!(prefix_of_pattern(path), None, "{path}");
        }
    }
}
