//! Routes that protect less than they seem to.

use crate::config::{Access, Config, Findings, Route};

/// Warns of a route for everything that lets pages of other sites use the cookie.
pub(super) fn warn_of_cross_site_root(routes: &[Route], findings: &mut Findings) {
    for (index, route) in routes.iter().enumerate() {
        if route.allow_cross_site && prefix(route).is_empty() && route.access != Access::Public {
            findings
                .warning(
                    format!("routes[{index}].allow_cross_site"),
                    format!(
                        "pages of every other site can act as the signed-in user on all of `{}`",
                        route.path
                    ),
                )
                .hint("give the paths that need it a route of their own, and remove it here");
        }
    }
}

/// Warns of a protected route whose path, with a suffix or in capitals, a route of the same backend
/// serves that lets everyone in.
///
/// A backend that reads `/admin.json` or `/ADMIN` as `/admin` gives the protected page to everyone.
/// Only the backend's author knows whether it does, and can say so in `exact_paths`. A route with
/// `access: optional` lets everyone in: it protects nothing, and as a neighbour it is public.
pub(super) fn warn_of_public_neighbours(config: &Config, findings: &mut Findings) {
    let routes = &config.routes;
    let may_fold = |name: &String| config.upstreams.get(name).is_none_or(|upstream| !upstream.exact_paths);
    for (index, route) in routes.iter().enumerate() {
        if route.access != Access::Authenticated || prefix(route).is_empty() || !may_fold(&route.upstream) {
            continue;
        }
        let Some(neighbour) = neighbour(route, routes) else { continue };
        if neighbour.access != Access::Authenticated && neighbour.upstream == route.upstream {
            let (path, public, upstream) = (prefix(route), &neighbour.path, &route.upstream);
            findings
                .warning(
                    format!("routes[{index}].path"),
                    format!(
                        "`{path}.json` and `{}` go to the same backend by the route `{public}`, which lets \
                         everyone in: if the backend reads one of them as `{path}`, it is not protected",
                        path.to_ascii_uppercase()
                    ),
                )
                .hint(format!(
                    "protect `{public}` and list what is public below it; or, if the backend refuses these \
                     spellings, write `upstreams.{upstream}.exact_paths: true`"
                ));
        }
    }
}

/// Warns of tokens in URLs, and refuses a route that says it reads them and does not.
pub(super) fn check_tokens_in_query(config: &Config, findings: &mut Findings) {
    let reads = |route: &Route| route.token_in_query;
    let is_named = !config.tokens.sources.query.is_empty();
    if is_named && !config.routes.iter().any(reads) {
        findings
            .warning("tokens.sources.query", "no route reads a token there")
            .hint("write `token_in_query: true` on the routes of clients that cannot send a header");
    }
    for (index, route) in config.routes.iter().enumerate().filter(|(_, route)| reads(route)) {
        let at = format!("routes[{index}].token_in_query");
        if route.access == Access::Public {
            findings
                .error(at, "a public route reads no token")
                .hint("write `access: authenticated` or `access: optional`, or remove it");
        } else if !is_named {
            findings
                .error(at, "no query parameter is named that carries the token")
                .hint("write its name under `tokens.sources.query`, such as `sessionId`");
        } else {
            findings
                .warning(
                    at,
                    format!(
                        "tokens stand in the URLs of `{}`: in the logs of proxies in front, in histories, and \
                         in the `Referer` of what pages load",
                        route.path
                    ),
                )
                .hint("let clients send the token in a header where they can");
        }
    }
}

/// The route with the longest path above `route`, on one of its hosts: what serves a sibling of its
/// path. Another route of the same path does not serve one.
fn neighbour<'r>(route: &Route, routes: &'r [Route]) -> Option<&'r Route> {
    let path = prefix(route);
    let parent = path.rsplit_once('/')?.0;
    let is_above = |other: &Route| {
        let other = prefix(other);
        parent.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let serves_same_host = |other: &Route| {
        (route.hosts.is_empty() && other.hosts.is_empty())
            || route.hosts.iter().any(|host| other.hosts.contains(host))
    };
    // If two routes have one path and different methods, the warning is about the one
    // that lets everyone in.
    routes
        .iter()
        .filter(|other| is_above(other) && serves_same_host(other))
        .max_by_key(|other| (prefix(other).len(), other.access != Access::Authenticated))
}

/// The path as routes are compared: without a slash at the end.
fn prefix(route: &Route) -> &str {
    route.path.strip_suffix('/').unwrap_or(&route.path)
}
