//! Every way to write a managed header's name that some backend reads as that name.

/// Characters besides letters, digits and `-` that a header name may have; RFC 9110 §5.6.2.
pub const SEPARATORS: &str = "!#$%&'*+.^_`|~";

/// What stands in every forged header.
pub const VICTIM: &str = "victim";

/// Cloud Run's identity headers, and and our own; a client can never send them, whatever names are
/// configured.
pub const CLOUD_RUN: &[&str] = &[
    "X-WX-OPENID",
    "X-WX-UNIONID",
    "X-WX-APPID",
    "X-WX-USER-ID",
    "X-WX-SOURCE",
    "X-WX-ENV",
    "X-WX-FROM-OPENID",
    "X-WX-FROM-APPID",
    "X-WX-FROM-UNIONID",
    "X-WX-FROM-SOURCE",
    "X-WX-CLOUDBASE-ACCESS-TOKEN",
    "X-WX-CLOUDBASE-ENV",
    "X-WX-FROM-CLOUDBASE-ACCESS-TOKEN",
];

/// What the gateway says itself of where a request came from, or keeps clients from saying.
pub const OTHERS: &[&str] = &[
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Request-Id",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Forwarded",
    "traceparent",
    "X-Remote-User",
    "X-Original-URL",
    "X-Original-URI",
    "X-Rewrite-URL",
    "X-Middleware-Subrequest",
    "X-Envoy-Original-Path",
    "Proxy",
];

/// The name in other cases, with its hyphens.
pub fn plain(name: &str) -> Vec<String> {
    distinct(vec![name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase(), alternating(name)])
}

/// The name with other separators: each separator in every place, in the first, in the last, and
/// next to another; in two cases.
pub fn aliases(name: &str) -> Vec<String> {
    let hyphens: Vec<usize> = name.match_indices('-').map(|(at, _)| at).collect();
    let (Some(first), Some(last)) = (hyphens.first(), hyphens.last()) else { return Vec::new() };
    let mut spelled = Vec::new();
    for separator in SEPARATORS.chars() {
        let everywhere = name.replace('-', &separator.to_string());
        let at = |place: usize| {
            let replaced = name.char_indices().map(|(here, c)| if here == place { separator } else { c });
            replaced.collect::<String>()
        };
        let mut beside_another = everywhere.clone();
        beside_another.replace_range(*first..=*first, if separator == '_' { "." } else { "_" });
        for text in [everywhere, at(*first), at(*last), beside_another] {
            spelled.push(text.to_ascii_lowercase());
            spelled.push(alternating(&text));
        }
    }
    distinct(spelled)
}

fn alternating(name: &str) -> String {
    let cased = name
        .char_indices()
        .map(|(at, c)| if at % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() });
    cased.collect()
}

fn distinct(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}
