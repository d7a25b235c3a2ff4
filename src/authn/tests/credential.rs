//! Where a token is found, and where it is not.

use http::{HeaderName, HeaderValue, Request};

use super::*;
use crate::authn::AuthnError::{self, SeveralTokens};
use crate::config::TokenSources as Config;
use crate::token::VerifyError;

fn bearer() -> Config {
    Config::default()
}

fn raw() -> Config {
    Config { bearer: false, raw_authorization: true, ..Config::default() }
}

fn all() -> Config {
    Config {
        bearer: true,
        raw_authorization: true,
        header: vec!["X-Token".into()],
        cookie: Some("session".into()),
        websocket_query: Some("token".into()),
        query: Vec::new(),
    }
}

type Headers<'a> = &'a [(&'a str, &'a [u8])];

fn request(uri: &str, headers: Headers<'_>) -> Parts {
    let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).unwrap();
        parts.headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    parts
}

fn find(
    config: &Config,
    request: &Parts,
    is_websocket: bool,
) -> Result<Option<(String, Vec<Source>)>, AuthnError> {
    let mut findings = Findings::default();
    let sources = TokenSources::build(config, &mut findings).unwrap();
    let found = sources.find(request, is_websocket, true)?;
    Ok(found.map(|credential| {
        let places = [
            Source::Authorization,
            Source::Header,
            Source::Cookie,
            Source::Query,
            Source::RouteQuery,
            Source::SessionCookie,
        ];
        let places = places.into_iter().filter(|place| credential.is_in(*place)).collect();
        (credential.token().to_owned(), places)
    }))
}

/// What is expected of a request: a token, none, or a refusal.
const MALFORMED: AuthnError = AuthnError::Token(VerifyError::Malformed);

type Expected = Result<Option<&'static str>, AuthnError>;

fn check(config: &Config, table: &[(Headers<'_>, Expected)]) {
    for (headers, expected) in table {
        let found = find(config, &request("/", headers), false).map(|found| found.map(|(token, _)| token));
        let shown: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect();
        assert_eq!(found, expected.map(|token| token.map(str::to_owned)), "{shown:?} with {config:?}");
    }
}

#[test]
fn bearer_token_is_read_from_authorization() {
    check(
        &bearer(),
        &[
            (&[], Ok(None)),
            (&[("authorization", b"Bearer t.o.k")], Ok(Some("t.o.k"))),
            (&[("authorization", b"bearer t")], Ok(Some("t"))),
            (&[("authorization", b"BEARER t")], Ok(Some("t"))),
            (&[("authorization", b"bEaReR   t")], Ok(Some("t"))),
            (&[("authorization", b"Bearer t  ")], Ok(Some("t"))),
            (&[("authorization", b"  Bearer t")], Ok(Some("t"))),
            // Passed on whole: no part of them is taken for the token.
            (&[("authorization", b"Bearer t u")], Ok(Some("t u"))),
            (&[("authorization", b"Bearer t, Bearer u")], Ok(Some("t, Bearer u"))),
            (&[("authorization", b"Bearer \tt")], Ok(Some("\tt"))),
            // Programs write an empty token if the user is signed out.
            (&[("authorization", b"Bearer")], Ok(None)),
            (&[("authorization", b"Bearer ")], Ok(None)),
            // Meant as bearer tokens, and none.
            (&[("authorization", b"Bearer\tt")], Err(MALFORMED)),
            (&[("authorization", b"Bearer:t")], Err(MALFORMED)),
            (&[("authorization", b"Bearer=t")], Err(MALFORMED)),
            (&[("authorization", b"Bearer,t")], Err(MALFORMED)),
            // Other schemes are not ours.
            (&[("authorization", b"Basic dTpw")], Ok(None)),
            (&[("authorization", b"Digest username=\"u\"")], Ok(None)),
            (&[("authorization", b"Bearerx t")], Ok(None)),
            (&[("authorization", b"t")], Ok(None)),
            (&[("authorization", b"")], Ok(None)),
            // Sources that are off are not looked at.
            (&[("cookie", b"session=t"), ("x-token", b"t")], Ok(None)),
            (&[("cookie", b"\xff")], Ok(None)),
        ],
    );
}

#[test]
fn bare_token_is_read_from_authorization_where_configured() {
    check(
        &raw(),
        &[
            (&[("authorization", b"t.o.k")], Ok(Some("t.o.k"))),
            (&[("authorization", b"")], Ok(None)),
            (&[("authorization", b"Bearer t")], Ok(None)),
            (&[("authorization", b"Basic dTpw")], Ok(None)),
        ],
    );
    check(
        &all(),
        &[
            (&[("authorization", b"t.o.k")], Ok(Some("t.o.k"))),
            (&[("authorization", b"Bearer t.o.k")], Ok(Some("t.o.k"))),
            (&[("authorization", b"Bearer")], Ok(None)),
            (&[("authorization", b"Basic dTpw")], Ok(None)),
        ],
    );
}

/// A7: two lines are refused even if they agree; servers differ in which they take.
#[test]
fn second_authorization_is_refused() {
    for config in [bearer(), raw(), all()] {
        check(
            &config,
            &[
                (&[("authorization", b"Bearer t"), ("authorization", b"Bearer u")], Err(SeveralTokens)),
                (&[("authorization", b"Bearer t"), ("authorization", b"Bearer t")], Err(SeveralTokens)),
                (&[("authorization", b"Bearer t"), ("authorization", b"Basic u")], Err(SeveralTokens)),
                (&[("authorization", b"Basic u"), ("Authorization", b"Bearer t")], Err(SeveralTokens)),
                (&[("authorization", b""), ("authorization", b"Bearer t")], Err(SeveralTokens)),
            ],
        );
    }
}

/// A14: a byte above 0x7f is neither a token nor a reason to look away.
#[test]
fn bytes_that_are_not_ascii_are_refused() {
    check(
        &all(),
        &[
            (&[("authorization", b"Bearer \xff\xfe")], Err(MALFORMED)),
            (&[("authorization", b"\x80Bearer t")], Err(MALFORMED)),
            (&[("authorization", b"Basic \x80")], Err(MALFORMED)),
            (&[("authorization", "Bearer ü".as_bytes())], Err(MALFORMED)),
            (&[("x-token", b"t\x80")], Err(MALFORMED)),
            (&[("cookie", b"session=\xff")], Err(MALFORMED)),
            (&[("cookie", b"other=\xff; session=t")], Ok(Some("t"))),
            (&[("cookie", b"session=t"), ("cookie", b"other=\xff")], Ok(Some("t"))),
            (&[("cookie", "name=\u{4e2d}\u{6587}; session=t".as_bytes())], Ok(Some("t"))),
            (&[("cookie", "name=\u{4e2d}\u{6587}".as_bytes())], Ok(None)),
            (&[("x-token", b""), ("cookie", b"session=t"), ("authorization", b"Bearer")], Ok(Some("t"))),
        ],
    );
}

#[test]
fn token_is_read_from_a_header_of_its_own() {
    check(
        &all(),
        &[
            (&[("x-token", b"t")], Ok(Some("t"))),
            (&[("X-TOKEN", b" t ")], Ok(Some("t"))),
            (&[("x-token", b"")], Ok(None)),
            (&[("x-token", b"t"), ("X-Token", b"u")], Err(SeveralTokens)),
            (&[("x-token", b"t"), ("x-token", b"t")], Err(SeveralTokens)),
            (&[("x_token", b"t")], Ok(None)),
        ],
    );
}

#[test]
fn a_token_is_read_from_each_header_of_a_list_and_two_differing_ones_are_refused() {
    let config = Config { header: vec!["X-Token".into(), "X-WX-Skey".into()], ..Config::default() };
    check(
        &config,
        &[
            (&[("x-token", b"t")], Ok(Some("t"))),
            (&[("X-WX-Skey", b"t")], Ok(Some("t"))),
            (&[("x-token", b""), ("x-wx-skey", b"t")], Ok(Some("t"))),
            (&[("x-token", b"t"), ("x-wx-skey", b"")], Ok(Some("t"))),
            (&[("x-token", b""), ("x-wx-skey", b"")], Ok(None)),
            (&[("x-token", b"t"), ("x-wx-skey", b"t")], Ok(Some("t"))),
            (&[("x-token", b"t"), ("x-wx-skey", b"u")], Err(SeveralTokens)),
            (&[("x-wx-skey", b"t"), ("authorization", b"Bearer u")], Err(SeveralTokens)),
        ],
    );
}

#[test]
fn a_token_of_a_header_that_a_reload_removed_is_found_no_more_and_others_are() {
    let sources = |names: &[&str]| {
        let header = names.iter().map(|name| (*name).to_owned()).collect();
        TokenSources::build(&Config { header, ..Config::default() }, &mut Findings::default()).unwrap()
    };
    let before = sources(&["X-A", "X-B"]);
    let shown = request("/", &[("x-b", b"t")]);
    let places = before.find(&shown, false, false).unwrap().unwrap().places();

    for (now, is_found) in [
        (&["X-A", "X-B"][..], true),
        (&["X-B"], true),
        (&["X-B", "X-A"], true),
        (&["X-A"], false),
        (&[], false),
    ] {
        assert_eq!(sources(now).find_also(&before, places, false), is_found, "{now:?}");
    }
}

/// B18, A7.
#[test]
fn token_is_read_from_one_cookie() {
    check(
        &all(),
        &[
            (&[("cookie", b"session=t")], Ok(Some("t"))),
            (&[("cookie", b"a=1; session=t; b=2")], Ok(Some("t"))),
            (&[("cookie", b"a=1;session=t;b=2")], Ok(Some("t"))),
            (&[("cookie", b"; ;session=t;;")], Ok(Some("t"))),
            (&[("cookie", b"a=1"), ("cookie", b"session=t"), ("cookie", b"b=2")], Ok(Some("t"))),
            (&[("cookie", b"session = t")], Ok(Some("t"))),
            (&[("cookie", b"session=t=u")], Ok(Some("t=u"))),
            (&[("cookie", b"session=\"t\"")], Ok(Some("\"t\""))),
            (&[("cookie", b"session=!!!garbage")], Ok(Some("!!!garbage"))),
            (&[("cookie", b"session=a, session=b")], Ok(Some("a, session=b"))),
            (&[("cookie", b"Session=t; xsession=t; session2=t; a=session=t")], Ok(None)),
            (&[("cookie", b"")], Ok(None)),
            (&[("cookie", b"session=")], Ok(None)),
            (&[("cookie", b"session")], Ok(None)),
            (&[("cookie", b"session=t; session=u")], Err(SeveralTokens)),
            (&[("cookie", b"session=t; session=t")], Err(SeveralTokens)),
            (&[("cookie", b"session=; session=t")], Err(SeveralTokens)),
            (&[("cookie", b"session=t; session")], Err(SeveralTokens)),
            (&[("cookie", b"session=t"), ("cookie", b"session=u")], Err(SeveralTokens)),
            (&[("cookie", b"session=t"), ("cookie", b"a=1;session=t")], Err(SeveralTokens)),
        ],
    );
}

#[test]
fn token_is_read_from_the_query_of_a_websocket_only() {
    let table: [(&str, Expected); 18] = [
        ("/", Ok(None)),
        ("/?", Ok(None)),
        ("/?token=t", Ok(Some("t"))),
        ("/?a=1&token=t.o-k_&b=2", Ok(Some("t.o-k_"))),
        ("/?token=%74%2e%6F", Ok(Some("t.o"))),
        ("/?%74oken=t", Ok(Some("t"))),
        ("/?token=t+u", Ok(Some("t+u"))),
        ("/?token=t=u", Ok(Some("t=u"))),
        ("/?Token=t&xtoken=t&token2=t", Ok(None)),
        ("/?a=%zz&token=t", Ok(Some("t"))),
        ("/?token", Ok(None)),
        ("/?token=", Ok(None)),
        ("/?token=%", Err(MALFORMED)),
        ("/?token=%7", Err(MALFORMED)),
        ("/?token=%zz", Err(MALFORMED)),
        ("/?token=%+7", Err(MALFORMED)),
        ("/?token=%ff", Err(MALFORMED)),
        ("/?token=t&%74%6f%6b%65%6e=t", Err(SeveralTokens)),
    ];
    for (uri, expected) in table {
        let request = request(uri, &[]);
        let found = find(&all(), &request, true).map(|found| found.map(|(token, _)| token));
        assert_eq!(found, expected.map(|token| token.map(str::to_owned)), "{uri}");
        assert_eq!(find(&all(), &request, false), Ok(None), "{uri} without an upgrade");
    }
}

/// A8: no precedence among places; they agree or the request is refused.
#[test]
fn two_different_tokens_are_refused_and_the_same_one_twice_is_not() {
    let places: [(&str, &[u8], Source); 3] = [
        ("authorization", b"Bearer t", Source::Authorization),
        ("x-token", b"t", Source::Header),
        ("cookie", b"session=t", Source::Cookie),
    ];
    let others: [&[u8]; 3] = [b"Bearer u", b"u", b"session=u"];
    for first in 0..3 {
        let (name, value, place) = places[first];
        let agreeing = request("/?token=t", &[(name, value)]);
        assert_eq!(find(&all(), &agreeing, true), Ok(Some(("t".into(), vec![place, Source::Query]))));
        assert_eq!(find(&all(), &agreeing, false), Ok(Some(("t".into(), vec![place]))));
        let differing = request("/?token=u", &[(name, value)]);
        assert_eq!(find(&all(), &differing, true), Err(SeveralTokens), "{place:?}");

        for second in (0..3).filter(|second| *second != first) {
            let (other_name, same, _) = places[second];
            let agreeing = request("/", &[(name, value), (other_name, same)]);
            assert_eq!(find(&all(), &agreeing, false).unwrap().unwrap().1.len(), 2, "{place:?}");
            let differing = request("/", &[(name, value), (other_name, others[second])]);
            assert_eq!(find(&all(), &differing, false), Err(SeveralTokens), "{place:?}");
        }
    }
}

#[test]
fn session_cookie_is_read_whatever_the_sources_of_tokens() {
    let table: &[(Headers<'_>, Expected)] = &[
        (&[("cookie", b"__Host-menshen=c")], Ok(Some("c"))),
        (&[("cookie", b"a=1;__Host-menshen = c ; b=2")], Ok(Some("c"))),
        (&[("cookie", b"a=1"), ("cookie", b"__Host-menshen=c")], Ok(Some("c"))),
        (&[("cookie", b"a=\xe4\xb8\xad; __Host-menshen=c")], Ok(Some("c"))),
        (&[("cookie", b"__Host-menshen=c=d")], Ok(Some("c=d"))),
        // Nothing that a gateway set, and yet no reason to take the request for one without a
        // cookie.
        (&[("cookie", b"__Host-menshen=")], Ok(Some(""))),
        (&[("cookie", b"__Host-menshen")], Ok(Some(""))),
        (&[("cookie", b"__Host-menshen=\xe4")], Ok(Some(""))),
        (&[("cookie", b"__Host-menshen=c; __Host-menshen=c")], Err(SeveralTokens)),
        (&[("cookie", b"__Host-menshen=c"), ("cookie", b"__Host-menshen=d")], Err(SeveralTokens)),
        (&[("cookie", b"__Host-menshen=c"), ("authorization", b"Bearer c")], Err(SeveralTokens)),
        (&[("cookie", b"__Host-menshen=c"), ("authorization", b"Basic eA==")], Ok(Some("c"))),
        (&[("cookie", b"__host-menshen=c")], Ok(None)),
        (&[("cookie", b"\"__Host-menshen\"=c")], Ok(None)),
        (&[("cookie", b"__Host-menshen-browser=c")], Ok(None)),
        (&[("cookie", b"a=__Host-menshen=c")], Ok(None)),
        (&[("cookie", b"a=\xe4\xb8\xad")], Ok(None)),
        (&[("x-token", b"c")], Ok(None)),
    ];
    check(&bearer(), table);
    let sources =
        find(&bearer(), &request("/", &[("cookie", b"__Host-menshen=c")]), false).unwrap().unwrap().1;
    assert_eq!(sources, [Source::SessionCookie]);
    for other in [&b"session=c"[..], b"session=d"] {
        let line = [b"__Host-menshen=c; ", other].concat();
        assert_eq!(find(&all(), &request("/", &[("cookie", &line)]), false), Err(SeveralTokens));
    }
}

#[test]
fn debug_does_not_show_the_token() {
    let fixture = Fixture::new();
    let request = request("/", &[("authorization", b"Bearer sesame")]);

    let credential = fixture.authenticator.credential(&request, false, CrossSite::Refuse).unwrap().unwrap();

    assert!(!format!("{credential:?}").contains("sesame"));
}

#[test]
fn ambiguous_credentials_are_counted() {
    let fixture = Fixture::new();
    let request = request("/", &[("authorization", b"Bearer t"), ("authorization", b"Bearer u")]);

    fixture.authenticator.credential(&request, false, CrossSite::Refuse).unwrap_err();

    assert_eq!(fixture.outcome("several_tokens"), 1);
}

#[test]
fn removing_the_tokens_leaves_the_other_parameters_as_they_were() {
    let sources = TokenSources::build(&in_query(), &mut Findings::default()).unwrap();
    let table = [
        ("token=t", Some("")),
        ("a=1&token=t&b=%zz", Some("a=1&b=%zz")),
        ("%74oken=t&a", Some("a")),
        ("token=%zz&a=1", Some("a=1")),
        ("sid=t&a=1&session=u", Some("a=1")),
        ("s%69d=t&s%69d=u&&b", Some("&b")),
        ("sid", Some("")),
        ("sid=&token=", Some("")),
        ("a=1", None),
        ("Token=t", None),
        ("sidx=t&xsid=t", None),
        ("", None),
    ];
    for (query, expected) in table {
        assert_eq!(sources.query_without_tokens(query).as_deref(), expected, "{query}");
    }
}

/// A WebSocket's parameter, and two of routes.
fn in_query() -> Config {
    let query = vec!["sid".to_owned(), "session".to_owned()];
    Config { websocket_query: Some("token".into()), query, ..Config::default() }
}

#[test]
fn token_in_the_query_is_found_only_on_a_route_that_reads_it() {
    let sources = TokenSources::build(&in_query(), &mut Findings::default()).unwrap();
    let found = |query: &str, headers, reads_query| {
        let request = request(&format!("/?{query}"), headers);
        let found = sources.find(&request, false, reads_query)?;
        Ok(found.map(|credential| (credential.token().to_owned(), credential.is_in(Source::RouteQuery))))
    };
    let bearer: Headers<'_> = &[("authorization", b"Bearer t")];
    let t = |is_in_query| Ok(Some(("t".to_owned(), is_in_query)));
    for (query, headers, expected) in [
        ("sid=t", &[][..], t(true)),
        ("s%69d=t", &[], t(true)),
        ("a=1&session=%74&b", &[], t(true)),
        ("sid=t&session=t", &[], t(true)),
        ("sid=t", bearer, t(true)),
        ("sid=&session=t", &[], t(true)),
        ("token=t", &[], Ok(None)),
        ("SID=t", &[], Ok(None)),
        ("sid=", &[], Ok(None)),
        ("sid=t&sid=t", &[], Err(SeveralTokens)),
        ("sid=t&s%69d=u", &[], Err(SeveralTokens)),
        ("sid=t&session=u", &[], Err(SeveralTokens)),
        ("sid=u", bearer, Err(SeveralTokens)),
        ("sid=%zz", &[], Err(MALFORMED)),
    ] {
        assert_eq!(found(query, headers, true), expected, "{query}");
        let without = if headers.is_empty() { Ok(None) } else { t(false) };
        assert_eq!(found(query, headers, false), without, "{query} on another route");
    }
}

#[test]
fn token_in_the_query_is_found_again_only_if_the_route_still_reads_it() {
    let build = |query: &[&str]| {
        let query = query.iter().map(|name| (*name).to_owned()).collect();
        TokenSources::build(&Config { query, ..Config::default() }, &mut Findings::default()).unwrap()
    };
    let (before, places) = (build(&["sid"]), CredentialPlaces::only(Source::RouteQuery));

    for (now, reads_query, expected) in [
        (build(&["sid"]), true, true),
        (build(&["sid", "session"]), true, true),
        (build(&["sid"]), false, false),
        (build(&["session"]), true, false),
        (build(&[]), true, false),
    ] {
        assert_eq!(now.find_also(&before, places, reads_query), expected, "{now:?} {reads_query}");
    }
}

#[test]
fn invalid_sources_are_refused() {
    let none = Config { bearer: false, ..Config::default() };
    let header = |name: &str| Config { header: vec![name.into()], ..Config::default() };
    let cookie = |name: &str| Config { cookie: Some(name.into()), ..Config::default() };
    let query = |name: &str| Config { websocket_query: Some(name.into()), ..Config::default() };
    let mut table = vec![(none, "tokens.sources")];
    for name in
        ["", "a b", "a:b", "ü", "authorization", "Cookie", "Connection", "TE", "Host", "Content-Length"]
    {
        table.push((header(name), "tokens.sources.header"));
    }
    for name in ["", "a b", "a=b", "a;b", "ü", "\"a\"", "__Host-menshen", "__host-menshen-x"] {
        table.push((cookie(name), "tokens.sources.cookie"));
    }
    for name in ["", "a b", "a=b", "a&b", "a%20", "a+b", "ü"] {
        table.push((query(name), "tokens.sources.websocket_query"));
    }

    for (config, path) in table {
        let mut findings = Findings::default();
        assert!(TokenSources::build(&config, &mut findings).is_none(), "{config:?}");
        assert_eq!(
            findings.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(),
            [path],
            "{config:?}"
        );
    }
}
