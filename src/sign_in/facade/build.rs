//! Builds the façades from their configuration.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};

use super::endpoint::{CodeSource, Facade, without_slash};
use crate::config::{self, AppKind, CodePlace, Findings};
use crate::json_template::{JsonTemplate, build_error_status};
use crate::path::is_unreserved;

/// Most façades: each request is compared with every path.
const MAX_FACADES: usize = 32;

/// What a placeholder in an answer can stand for.
const ANSWER: [&str; 7] =
    ["access_token", "refresh_token", "expires_in", "openid", "unionid", "user", "request_id"];
/// What a placeholder in an error can stand for.
const ERROR: [&str; 4] = ["code", "message", "status", "request_id"];

/// Headers that have another meaning, or that a page of another site can set without being asked.
const OTHER_HEADERS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "connection",
    "content-language",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "origin",
    "range",
    "referer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Checks the façades of the `login` section against it, the apps and the routes.
pub(in crate::sign_in) fn build_facades(
    login: &config::Login,
    apps: &BTreeMap<String, config::App>,
    routes: &[config::Route],
    findings: &mut Findings,
) -> Vec<Facade> {
    if login.facades.len() > MAX_FACADES {
        findings
            .error("login.facades", format!("there are more than {MAX_FACADES} façades"))
            .hint("let clients of one protocol share a façade");
    }
    let facades = login.facades.iter().enumerate().map(|(index, config)| {
        let at = format!("login.facades[{index}]");
        check_path(config, &at, login, findings);
        let earlier = login.facades.get(..index).unwrap_or_default();
        check_neighbours(config, &at, earlier, routes, findings);
        check_app(config, &at, apps, findings);
        build(config, &at, findings)
    });
    facades.collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn build(config: &config::Facade, at: &str, findings: &mut Findings) -> Option<Facade> {
    let methods = build_methods(config, at, findings);
    let code = build_code(config, at, findings);
    let answer = JsonTemplate::build(&config.answer, &format!("{at}.answer"), &ANSWER, findings);
    let error = JsonTemplate::build(&config.error, &format!("{at}.error"), &ERROR, findings);
    if !answer.names("access_token") {
        findings
            .warning(format!("{at}.answer"), "the client gets no access token")
            .hint("write `{access_token}` where the client looks for its token");
    }
    let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    Some(Facade {
        path: config.path.clone(),
        allow: HeaderValue::try_from(allow).ok()?,
        methods,
        app: config.app.clone(),
        code: code?,
        answer,
        error,
        status: build_error_status(config.status, &format!("{at}.status"), findings),
    })
}

/// Accepts only what is its own canonical path. No request could reach a façade elsewhere.
fn check_path(config: &config::Facade, at: &str, login: &config::Login, findings: &mut Findings) {
    let (path, at) = (config.path.as_str(), format!("{at}.path"));
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved);
    let is_valid = without_slash(path).strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
    let is_below =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !is_valid {
        findings.error(at, format!("`{}` cannot be the path of a façade", path.escape_debug())).hint(
            "write segments of letters, digits, `-`, `.`, `_`, `~`, such as `/login` or `/api/login.php`",
        );
    } else if is_below(&login.path_prefix) {
        let prefix = &login.path_prefix;
        findings
            .error(at, format!("`{path}` is a path of the gateway's own endpoints, all below `{prefix}`"))
            .hint("write another path, or another `login.path_prefix`");
    } else if is_below("/.well-known") {
        findings
            .error(at, format!("`{path}` is reserved by RFC 8615"))
            .hint("write a path of your own, such as `/login`");
    }
}

/// Refuses a path that another façade or a route has too: one of them would never get a request.
fn check_neighbours(
    config: &config::Facade,
    at: &str,
    earlier: &[config::Facade],
    routes: &[config::Route],
    findings: &mut Findings,
) {
    let is_same = |path: &str| without_slash(path) == without_slash(&config.path);
    if earlier.iter().any(|other| is_same(&other.path)) {
        findings
            .error(format!("{at}.path"), format!("another façade has the path `{}`", config.path))
            .hint("write one façade with both methods, or another path");
    }
    if let Some(route) = routes.iter().find(|route| is_same(&route.path)) {
        findings
            .error(
                format!("{at}.path"),
                format!("route `{}` has this path too, and would get no request for it", route.full_name()),
            )
            .hint("remove the route, or write another path");
    }
}

fn check_app(
    config: &config::Facade,
    at: &str,
    apps: &BTreeMap<String, config::App>,
    findings: &mut Findings,
) {
    let at = format!("{at}.app");
    let permits = |app: &config::App| match app.kind {
        AppKind::MiniProgram | AppKind::Mobile => true,
        AppKind::OfficialAccount => app.code_login,
        AppKind::Website => false,
    };
    let permitted = || apps.iter().filter(|(_, app)| permits(app)).map(|(name, _)| name.as_str());
    match config.app.as_deref().map(|name| (name, apps.get(name))) {
        Some((_, Some(app))) if permits(app) => {}
        Some((name, Some(app))) => {
            findings
                .error(
                    at,
                    format!("app `{name}` is a `{}`, whose users sign in with a browser", app.kind.as_str()),
                )
                .hint("name a mini program, a mobile app, or an official account with `code_login: true`");
        }
        Some((name, None)) => {
            findings.error(at, format!("app `{name}` is not defined")).did_you_mean(name, permitted());
        }
        None => {
            let of_kind = |kind| apps.values().filter(|app| app.kind == kind && permits(app)).count();
            // As `POST /auth/login` chooses one.
            let kinds = [AppKind::MiniProgram, AppKind::OfficialAccount, AppKind::Mobile];
            let first = kinds.into_iter().map(of_kind).find(|count| *count != 0);
            if first != Some(1) {
                findings
                    .error(at, "the app must be named: there is not exactly one that it could be")
                    .did_you_mean("", permitted());
            }
        }
    }
}

fn build_methods(config: &config::Facade, at: &str, findings: &mut Findings) -> Vec<Method> {
    let mut methods = Vec::new();
    for (position, text) in config.methods.iter().enumerate() {
        let at = format!("{at}.methods[{position}]");
        match [Method::GET, Method::POST].into_iter().find(|method| method.as_str() == text) {
            Some(method) if methods.contains(&method) => {
                findings.error(at, format!("`{text}` is listed twice")).hint("remove one");
            }
            Some(method) => methods.push(method),
            None => {
                findings
                    .error(at, format!("no client signs in with `{}`", text.escape_debug()))
                    .hint("write `GET` or `POST`");
            }
        }
    }
    methods
}

fn build_code(config: &config::Facade, at: &str, findings: &mut Findings) -> Option<CodeSource> {
    let at = format!("{at}.code");
    let CodePlace { query, header, field } = &config.code;
    let source = match (query, header, field) {
        (Some(name), None, None) => CodeSource::Query(name.clone()),
        (None, Some(name), None) => CodeSource::Header(build_header(name, &at, findings)?),
        (None, None, Some(name)) => {
            if config.methods.iter().any(|method| method == "GET") {
                findings
                    .error(&at, "a GET has no body, so it has no field with the code")
                    .hint("write `query` or `header`, or `methods: [POST]`");
            }
            CodeSource::Field(name.clone())
        }
        _ => {
            findings
                .error(at, "the code is in one place")
                .hint("write one of: `{ query: NAME }`, `{ header: NAME }`, `{ field: NAME }`");
            return None;
        }
    };
    if [query, field].into_iter().flatten().any(String::is_empty) {
        findings.error(at, "the name is empty").hint("write the name that the client sends, such as `code`");
    }
    Some(source)
}

fn build_header(name: &str, at: &str, findings: &mut Findings) -> Option<HeaderName> {
    let parsed = HeaderName::try_from(name).ok();
    let header = parsed.filter(|header| !OTHER_HEADERS.contains(&header.as_str()));
    if header.is_none() {
        findings
            .error(
                format!("{at}.header"),
                format!("`{}` is not a header that can have a code", name.escape_debug()),
            )
            .hint("write the name of a header of the client's own, such as `X-WX-Code`");
    }
    header
}
