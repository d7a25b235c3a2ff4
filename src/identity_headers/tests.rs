use proptest::prelude::*;

use super::names::{
    CLOUD_RUN_FAMILIES, FOREIGN, FOREIGN_FAMILIES, FORWARDING, METHOD_OVERRIDES, MISLEADING, OWN,
};
use super::*;

/// A request with nothing but headers.
#[derive(Default)]
struct Request(HeaderMap);

impl EditHeaders for Request {
    fn headers(&self) -> &HeaderMap {
        &self.0
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }

    fn set(&mut self, name: &Bytes, value: HeaderValue) {
        self.0.insert(HeaderName::from_bytes(name).unwrap(), value);
    }
}

fn own_names() -> config::IdentityHeaders {
    config::IdentityHeaders {
        openid: "X-User-Id".into(),
        remove: vec!["X_Legacy.User".into(), "X-Internal".into()],
        ..config::IdentityHeaders::default()
    }
}

fn edits(config: &config::IdentityHeaders, header_names: HeaderNames) -> Result<HeaderEdits, Vec<String>> {
    let mut findings = Findings::default();
    let edits = HeaderEdits::build(config, header_names, true, &Metrics::new().unwrap(), &mut findings);
    edits.ok_or_else(|| findings.iter().map(ToString::to_string).collect())
}

fn origin(peer_is_trusted: bool) -> Origin<'static> {
    Origin {
        peer_is_trusted,
        peer: IpAddr::from([192, 0, 2, 1]),
        scheme: "https",
        host: "api.example.com",
        request_id: "r1",
        traceparent: None,
    }
}

/// The headers of a request after the edits, for nobody who is signed in.
fn applied(edits: &HeaderEdits, names: &[&str], peer_is_trusted: bool) -> HeaderMap {
    let mut request = Request::default();
    for name in names {
        request
            .0
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("victim"));
    }
    edits.apply(&mut request, None, &origin(peer_is_trusted));
    request.0
}

#[test]
fn each_class_of_names_is_removed_from_whom_it_must_be() {
    let edits = edits(&own_names(), HeaderNames::Pass).unwrap();
    let identity =
        ["x-user-id", "x-wx-openid", "x-legacy-user", "x-internal", "x-wx-from-x", "x-wx-cloudbase-y"];
    for (names, passes_untrusted, passes_trusted) in [
        (&identity[..], false, false),
        (MISLEADING, false, false),
        (METHOD_OVERRIDES, false, false),
        (FORWARDING, false, true),
        (FOREIGN, false, true),
        (&["x-wx-code", "x-wx-iv", "x-wx-skey", "accept", "x-wx", "x-wx-fromage"], true, true),
        (&["authorization", "cookie", "content-type", "tracestate", "access_token"], true, true),
    ] {
        for name in names {
            assert_eq!(applied(&edits, &[name], false).contains_key(*name), passes_untrusted, "{name}");
            assert_eq!(applied(&edits, &[name], true).contains_key(*name), passes_trusted, "{name}, trusted");
        }
    }
}

#[test]
fn what_the_gateway_says_of_the_origin_has_one_value() {
    let edits = edits(&own_names(), HeaderNames::Pass).unwrap();
    for (peer_is_trusted, forwarded_for) in [(false, "192.0.2.1"), (true, "victim, victim, 192.0.2.1")] {
        let headers = applied(&edits, &[OWN, OWN].concat(), peer_is_trusted);
        for (name, expected) in [
            ("x-forwarded-for", forwarded_for),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.example.com"),
            ("x-request-id", "r1"),
        ] {
            let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
            assert_eq!(values, [expected], "{name}");
        }
    }
}

#[test]
fn removed_identities_are_counted_and_others_are_not() {
    let edits = edits(&own_names(), HeaderNames::Pass).unwrap();

    applied(&edits, &["x-user-id", "x_user_id", "x-wx-from-z", "x-wx-code", "x-real-ip", "accept"], false);

    assert_eq!(edits.stripped.get(), 3);
}

#[test]
fn unusual_names_that_are_nobodys_alias_pass_only_where_configured() {
    for (header_names, passes) in
        [(HeaderNames::Pass, true), (HeaderNames::Strip, false), (HeaderNames::Refuse, false)]
    {
        let edits = edits(&own_names(), header_names).unwrap();

        assert_eq!(applied(&edits, &["access_token"], false).contains_key("access_token"), passes);
        assert!(!applied(&edits, &["x_user.id"], false).contains_key("x_user.id"));
    }
}

#[test]
fn names_that_cannot_carry_an_identity_are_refused() {
    let named = |openid: &str| config::IdentityHeaders { openid: openid.into(), ..own_names() };
    for name in ["", "X_User", "X.User", "X User", "é", "Authorization", "Host", "Cookie", "Date", "TE"] {
        let findings = edits(&named(name), HeaderNames::Refuse).unwrap_err();
        assert_eq!(findings.len(), 1, "{name}: {findings:?}");
        assert!(findings[0].contains("identity_headers.openid"), "{name}: {findings:?}");
    }
    for name in ["X-Forwarded-For", "X-Real-IP", "X-Original-URL", "X-HTTP-Method", "X-WX-AppId"] {
        assert!(edits(&named(name), HeaderNames::Refuse).is_err(), "{name}");
    }
    let removing = config::IdentityHeaders { remove: vec!["a b".into()], ..own_names() };
    assert!(edits(&removing, HeaderNames::Refuse).unwrap_err()[0].contains("identity_headers.remove[0]"));
}

/// A name that is managed, as it stands in lists and configuration.
fn managed() -> impl Strategy<Value = String> {
    let listed: Vec<String> = classes().keys().map(ToString::to_string).collect();
    let guarded: Vec<&str> = GUARDED.to_vec();
    prop_oneof![
        4 => proptest::sample::select(listed),
        1 => proptest::sample::select(guarded).prop_map(str::to_owned),
        1 => (proptest::sample::select([CLOUD_RUN_FAMILIES, FOREIGN_FAMILIES].concat()), "[a-z]{1,8}(-[a-z]{1,4})?")
            .prop_map(|(family, rest)| format!("{family}{rest}")),
        1 => proptest::sample::select(&["x-user-id", "x-legacy-user", "x-internal"][..]).prop_map(str::to_owned),
    ]
}

/// A managed name with each hyphen replaced by some character a header name may have.
fn spelled() -> impl Strategy<Value = (String, String)> {
    let separators = prop::collection::vec(proptest::sample::select(&b"----!#$%&'*+.^_`|~"[..]), 8);
    (managed(), separators).prop_map(|(name, separators)| {
        let mut separators = separators.into_iter().cycle();
        let spelled = name.chars().map(|c| if c == '-' { char::from(separators.next().unwrap()) } else { c });
        (spelled.collect(), name)
    })
}

fn is_believed_from_a_proxy(name: &str) -> bool {
    let is_of_family = FOREIGN_FAMILIES.iter().any(|family| name.starts_with(family));
    FORWARDING.contains(&name)
        || FOREIGN.contains(&name)
        || is_of_family && !OWN.contains(&name) && !MISLEADING.contains(&name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_name_that_a_backend_folds_onto_a_managed_one_survives(
        forged in prop::collection::vec(spelled(), 1..12),
        header_names in prop_oneof![Just(HeaderNames::Pass), Just(HeaderNames::Strip)],
        peer_is_trusted in any::<bool>(),
    ) {
        let edits = edits(&own_names(), header_names).unwrap();
        let names: Vec<&str> = forged.iter().map(|(spelled, _)| &**spelled).collect();

        let left = applied(&edits, &names, peer_is_trusted);

        for (spelled, name) in &forged {
            // Under its own name a client may send what is only guarded; a trusted proxy, where a request came from
            // and whom another gateway found.
            let may_stay = spelled == name
                && (GUARDED.contains(&&**name) && !OWN.contains(&&**name)
                    || peer_is_trusted && is_believed_from_a_proxy(name));
            let stands = left.get_all(&**spelled).iter().any(|value| value == "victim");
            prop_assert!(may_stay || !stands, "{spelled} for {name}");
        }
        for name in left.keys().filter(|name| has_unusual_character(name)) {
            let plain = plain(name.as_str());
            prop_assert!(!forged.iter().any(|(_, managed)| *managed == plain), "{name}");
        }
    }
}
