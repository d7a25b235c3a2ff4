use proptest::prelude::*;

use std::net::IpAddr;

use super::names::{
    CLOUD_RUN_FAMILIES, FOREIGN, FOREIGN_FAMILIES, FORWARDING, METHOD_OVERRIDES, MISLEADING, OWN, TRACE,
};
use super::*;
use crate::authn::TokenSources;
use crate::config::TrustedProxy;
use crate::identity::{AppId, Identity, OpenId, Profile, Subject, UnionId, User, UserId};

/// A request with headers only.
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
    edits_behind(config, header_names, &[])
}

/// The edits of a gateway behind these proxies.
fn edits_behind(
    config: &config::IdentityHeaders,
    header_names: HeaderNames,
    trusted_proxies: &[TrustedProxy],
) -> Result<HeaderEdits, Vec<String>> {
    let (edits, findings) = built(config, header_names, trusted_proxies);
    edits.ok_or(findings)
}

/// What is built, and what is found on the way.
fn built(
    identity_headers: &config::IdentityHeaders,
    header_names: HeaderNames,
    trusted_proxies: &[TrustedProxy],
) -> (Option<HeaderEdits>, Vec<String>) {
    let mut findings = Findings::default();
    let settings =
        HeaderSettings { identity_headers, trusted_proxies, header_names, distinguishes_methods: true };
    let edits = HeaderEdits::build(settings, &Metrics::new().unwrap(), &mut findings);
    (edits, findings.iter().map(ToString::to_string).collect())
}

/// A proxy that is believed about these headers.
fn proxy(believe: &[&str], client_address: Option<&str>) -> TrustedProxy {
    TrustedProxy {
        believe: believe.iter().map(|name| (*name).to_owned()).collect(),
        client_address: client_address.map(str::to_owned),
        ..TrustedProxy::at(vec!["192.0.2.1/32".parse().unwrap()])
    }
}

fn origin(believed: Option<&Believed>) -> RequestOrigin<'_> {
    RequestOrigin {
        believed,
        peer: IpAddr::from([192, 0, 2, 1]),
        client: IpAddr::from([192, 0, 2, 1]),
        scheme: "https",
        host: "api.example.com",
        request_id: "r1",
        traceparent: None,
        continues_trace: false,
    }
}

/// The headers of an anonymous request of an unknown peer after the edits.
fn applied(edits: &HeaderEdits, names: &[&str]) -> HeaderMap {
    applied_of(edits, names, None)
}

/// The headers of an anonymous request of a proxy after the edits.
fn applied_of(edits: &HeaderEdits, names: &[&str], believed: Option<&Believed>) -> HeaderMap {
    let mut request = Request::default();
    for name in names {
        request
            .0
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("victim"));
    }
    edits.apply(&mut request, None, &origin(believed));
    request.0
}

#[test]
fn each_class_of_header_names_is_removed_from_its_requests() {
    // Addresses and scheme: what a proxy is believed about of which nothing is said.
    let plain = TrustedProxy::at(vec!["192.0.2.1/32".parse().unwrap()]);
    let edits = edits_behind(&own_names(), HeaderNames::Pass, &[plain]).unwrap();
    let identity = [
        "x-user-id",
        "x-wx-openid",
        "x-wx-user-id",
        "x-legacy-user",
        "x-internal",
        "x-wx-from-x",
        "x-wx-cloudbase-y",
    ];
    for (names, passes) in [
        (&identity[..], false),
        (MISLEADING, false),
        (METHOD_OVERRIDES, false),
        (FORWARDING, false),
        (FOREIGN, false),
        (TRACE, false),
        (&["x-wx-code", "x-wx-iv", "x-wx-skey", "accept", "x-wx", "x-wx-fromage", "x-wx-user-timeout"], true),
        (&["authorization", "cookie", "content-type", "x-auth-token", "access_token", "te"], true),
    ] {
        for name in names {
            assert_eq!(applied(&edits, &[name]).contains_key(*name), passes, "{name}");
            let of_proxy = applied_of(&edits, &[name], Some(&edits.believed[0]));
            assert_eq!(of_proxy.contains_key(*name), passes, "{name}, of a proxy");
        }
    }
    for family in FOREIGN_FAMILIES {
        assert!(!applied(&edits, &[&format!("{family}x")]).contains_key(&*format!("{family}x")), "{family}");
    }
}

#[test]
fn a_beginning_is_removed_however_short_it_is() {
    for beginning in ["Qz*", "Q-*", "Qzx*", "X-Qz*", "X-Corp-Role-*"] {
        let config = config::IdentityHeaders { remove: vec![beginning.into()], ..own_names() };
        let edits = edits(&config, HeaderNames::Pass).unwrap();
        let begin = beginning.trim_end_matches('*').to_ascii_lowercase();
        for rest in ["", "a", "-a", "9b", "role"] {
            let name = format!("{begin}{rest}");
            if HeaderName::try_from(&*name).is_ok() {
                assert!(!applied(&edits, &[&name]).contains_key(&*name), "{name} of {beginning}");
            }
        }
        assert!(applied(&edits, &["qa", "x-corp-rol"]).len() >= 2, "{beginning}");
    }
}

#[test]
fn forwarded_origin_headers_have_one_value() {
    let edits = edits(&own_names(), HeaderNames::Pass).unwrap();
    let proxy = Believed::in_names(&["X-Forwarded-For"], None);
    for (believed, forwarded_for) in [(None, "192.0.2.1"), (Some(&proxy), "victim, victim, 192.0.2.1")] {
        let headers = applied_of(&edits, &[OWN, OWN].concat(), believed);
        for (name, expected) in [
            ("x-forwarded-for", forwarded_for),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.example.com"),
            ("x-forwarded-port", "443"),
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

    applied(&edits, &["x-user-id", "x_user_id", "x-wx-from-z", "x-wx-code", "x-real-ip", "accept"]);

    assert_eq!(edits.stripped.get(), 3);
}

#[test]
fn unusual_names_that_alias_no_managed_header_pass_only_if_configured() {
    for (header_names, passes) in
        [(HeaderNames::Pass, true), (HeaderNames::Strip, false), (HeaderNames::Refuse, false)]
    {
        let edits = edits(&own_names(), header_names).unwrap();

        assert_eq!(applied(&edits, &["access_token"]).contains_key("access_token"), passes);
        assert!(!applied(&edits, &["x_user.id"]).contains_key("x_user.id"));
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
    let called = |nickname: &str| config::IdentityHeaders { nickname: Some(nickname.into()), ..own_names() };
    for name in ["", "X_Nick", "Cookie", "X-Forwarded-For", "X-User-Id"] {
        assert!(edits(&called(name), HeaderNames::Refuse).is_err(), "{name}");
    }
    let bound = |user: &str| config::IdentityHeaders { user: user.into(), ..own_names() };
    for name in ["", "X_User", "Cookie", "X-Forwarded-For", "X-User-Id", "X-WX-APPID"] {
        assert!(edits(&bound(name), HeaderNames::Refuse).is_err(), "{name}");
    }
    let removing = config::IdentityHeaders { remove: vec!["a b".into()], ..own_names() };
    assert!(edits(&removing, HeaderNames::Refuse).unwrap_err()[0].contains("identity_headers.remove[0]"));
}

#[test]
fn every_invalid_name_and_value_is_reported() {
    for (config, expected) in [
        (
            config::IdentityHeaders { environment: Some("a\nb".into()), ..own_names() },
            "identity_headers.environment: the value has characters that no header may carry",
        ),
        (
            config::IdentityHeaders { appid: "x-user-id".into(), ..own_names() },
            "identity_headers: two of the names are the same; give each its own name",
        ),
        (
            config::IdentityHeaders { remove: vec!["X-Internal".into(), "Host".into()], ..own_names() },
            "identity_headers.remove[1]: `Host` is a header that every request needs",
        ),
        (
            config::IdentityHeaders { remove: vec!["Content-*".into()], ..own_names() },
            "identity_headers.remove[0]: `Content-*` is a header that every request needs",
        ),
        (
            config::IdentityHeaders { openid: "X-Real-IP".into(), ..own_names() },
            "identity_headers: `x-real-ip` is a header the gateway needs itself",
        ),
    ] {
        assert_eq!(edits(&config, HeaderNames::Refuse).unwrap_err(), [expected]);
    }
}

#[test]
fn names_of_other_gateways_and_of_cloud_run_may_carry_an_identity() {
    for name in ["X-Remote-User", "X-WX-OpenId", "X-Own"] {
        let config = config::IdentityHeaders { openid: name.into(), ..own_names() };

        assert!(edits(&config, HeaderNames::Refuse).is_ok(), "{name}");
    }
}

#[test]
fn gateway_writes_only_identity_and_origin_headers() {
    let edits = edits(&own_names(), HeaderNames::Pass).unwrap();
    for (name, expected) in [
        ("x-user-id", true),
        ("x-wx-unionid", true),
        ("x-forwarded-for", true),
        ("x-request-id", true),
        ("traceparent", true),
        ("x-real-ip", true),
        ("x-forwarded-port", true),
        ("x-remote-user", false),
        ("x-http-method", false),
        ("x-token", false),
    ] {
        assert_eq!(edits.writes(&HeaderName::from_static(name)), expected, "{name}");
    }
}

#[test]
fn trace_is_started_if_the_request_has_none() {
    let edits = edits(&own_names(), HeaderNames::Pass).unwrap();
    let mut request = Request::default();

    edits.apply(&mut request, None, &RequestOrigin { traceparent: Some("00-a-b-00"), ..origin(None) });

    assert_eq!(request.0["traceparent"], "00-a-b-00");
    assert!(!applied(&edits, &[]).contains_key("traceparent"));
}

#[test]
fn method_override_header_passes_if_no_route_names_a_method() {
    let mut findings = Findings::default();
    let metrics = Metrics::new().unwrap();
    let settings = HeaderSettings {
        identity_headers: &own_names(),
        trusted_proxies: &[],
        header_names: HeaderNames::Pass,
        distinguishes_methods: false,
    };
    let edits = HeaderEdits::build(settings, &metrics, &mut findings).unwrap();

    for name in METHOD_OVERRIDES {
        assert!(applied(&edits, &[name]).contains_key(*name), "{name}");
    }
}

#[test]
fn a_proxy_is_believed_about_the_headers_that_are_named_and_about_no_other() {
    let config = config::IdentityHeaders { remove: vec!["X-Corp-*".into()], ..own_names() };
    let front =
        proxy(&["X-SSL-Client-*", "remote_user", "X-Corp-User", "X-My-Front"], Some("X-WX-Client-IP"));
    let cdn = proxy(&["CF-Connecting-IP", "X-Forwarded-Port", "X-Real-IP"], None);
    let edits = edits_behind(&config, HeaderNames::Pass, &[front, cdn]).unwrap();
    let (front, cdn) = (Some(&*edits.believed[0]), Some(&*edits.believed[1]));
    for (name, value, of_front, of_cdn) in [
        ("x-ssl-client-verify", "SUCCESS", true, false),
        ("remote-user", "alice", true, false),
        ("remote_user", "alice", false, false),
        ("remote-groups", "staff", false, false),
        ("x-corp-user", "alice", true, false),
        ("x-corp-group", "staff", false, false),
        // Nobody else may send what a proxy alone is believed about.
        ("x-my-front", "1", true, false),
        ("x-wx-client-ip", "203.0.113.7", true, false),
        // A client address that was not believed is not handed on.
        ("x-wx-client-ip", "203.0.113.7, 203.0.113.8", false, false),
        ("cf-connecting-ip", "203.0.113.7", false, true),
        ("true-client-ip", "203.0.113.7", false, false),
        ("x-wx-openid", "o1", false, false),
        ("x-original-url", "/x", false, false),
    ] {
        let given = |believed| {
            let mut request = Request::default();
            request.set(&Bytes::from_static(name.as_bytes()), HeaderValue::from_static(value));
            edits.apply(&mut request, None, &origin(believed));
            request.0.contains_key(name)
        };
        let expected = (false, of_front, of_cdn);
        assert_eq!((given(None), given(front), given(cdn)), expected, "{name}: {value}");
    }
    for (name, value, own, stays) in [
        ("x-real-ip", "203.0.113.7", "192.0.2.1", true),
        ("x-real-ip", "victim", "192.0.2.1", false),
        ("x-forwarded-port", "8443", "443", true),
        ("x-forwarded-port", "0", "443", false),
        ("x-forwarded-port", "443, 80", "443", false),
    ] {
        let given = |believed| {
            let mut request = Request::default();
            request.set(&Bytes::from_static(name.as_bytes()), HeaderValue::from_static(value));
            edits.apply(&mut request, None, &origin(believed));
            request.0[name].to_str().unwrap().to_owned()
        };
        let of_cdn = if stays { value } else { own };
        assert_eq!((&*given(None), &*given(front), &*given(cdn)), (own, own, of_cdn), "{name}: {value}");
    }
}

#[test]
fn the_backend_gets_the_address_and_the_port_that_the_client_used() {
    let edits = edits(&own_names(), HeaderNames::Refuse).unwrap();
    let listed = Believed::in_names(&["X-Forwarded-For"], None);
    let stated = Believed::in_names(&[], Some("x-wx-client-ip"));
    let client = IpAddr::from([203, 0, 113, 7]);
    for (believed, client, forwarded_for, real_ip) in [
        (None, None, "192.0.2.1", "192.0.2.1"),
        (Some(&listed), Some(client), "victim, 192.0.2.1", "203.0.113.7"),
        (Some(&stated), Some(client), "203.0.113.7, 192.0.2.1", "203.0.113.7"),
        (Some(&stated), None, "192.0.2.1", "192.0.2.1"),
    ] {
        let mut request = Request::default();
        request.0.append("x-forwarded-for", HeaderValue::from_static("victim"));
        request.0.append("x-real-ip", HeaderValue::from_static("victim"));
        let origin = origin(believed);

        edits.apply(&mut request, None, &RequestOrigin { client: client.unwrap_or(origin.peer), ..origin });

        assert_eq!(request.0["x-forwarded-for"], forwarded_for, "{believed:?}");
        assert_eq!(request.0["x-real-ip"], real_ip, "{believed:?}");
    }
    for (host, scheme, expected) in [
        ("a.test", "http", "80"),
        ("a.test", "https", "443"),
        ("a.test:8080", "https", "8080"),
        ("[::1]:9", "http", "9"),
        ("[::1]", "http", "80"),
        ("a.test:", "http", "80"),
        ("", "https", "443"),
    ] {
        let mut request = Request::default();

        edits.apply(&mut request, None, &RequestOrigin { host, scheme, ..origin(None) });

        assert_eq!(request.0["x-forwarded-port"], expected, "{host} {scheme}");
    }
}

#[test]
fn a_header_of_another_gateway_passes_if_the_configuration_lets_it() {
    let passing = |names: &[&str]| config::IdentityHeaders {
        pass: names.iter().map(|name| (*name).to_owned()).collect(),
        remove: vec!["X-Corp-*".into(), "X-Vouch-User".into()],
        ..config::IdentityHeaders::default()
    };
    for (pass, name, passes) in [
        (&["X-Auth-User"][..], "x-auth-user", true),
        (&["X-Auth-User"], "x-auth-groups", false),
        (&["X-Auth-*"], "x-auth-user", true),
        (&["X-Auth-*"], "x-auth-request-user", true),
        (&["X-Auth-Request-*"], "x-auth-request-user", true),
        (&["X-Auth-Request-*"], "x-auth-user", false),
        (&["Remote-Language"], "remote-language", true),
        (&["Remote-Language"], "remote-user", false),
        (&["X-Client-IP"], "x-client-ip", true),
        (&["X-Corp-Id"], "x-corp-id", true),
        (&["X-Corp-Id"], "x-corp-user", false),
        // The whole name decides against the beginning.
        (&["X-Vouch-*"], "x-vouch-user", false),
        (&["X-Vouch-*"], "x-vouch-idp-claims-email", true),
        (&["X-Forwarded-*"], "x-forwarded-user", true),
        (&["X-Forwarded-*"], "x-forwarded-prefix", false),
    ] {
        let edits = edits(&passing(pass), HeaderNames::Strip).unwrap();
        assert_eq!(applied(&edits, &[name]).contains_key(name), passes, "{pass:?} {name}");
    }
    let edits = edits(&passing(&["X-Forwarded-*"]), HeaderNames::Strip).unwrap();
    assert_eq!(applied(&edits, &["x-forwarded-host"])["x-forwarded-host"], "api.example.com");
}

#[test]
fn names_that_no_one_can_be_believed_about_are_refused() {
    let believe = |name: &str| edits_behind(&own_names(), HeaderNames::Refuse, &[proxy(&[name], None)]);
    for name in [
        "X-User-Id",
        "X-WX-OPENID",
        "X-WX-FROM-OPENID",
        "X-Original-URL",
        "X-Forwarded-Prefix",
        "X-HTTP-Method",
        "Host",
        "Authorization",
        "Cookie",
        "content_length",
        "Content-*",
        "Co*",
        "Ho*",
        "*",
        "X-*",
        "a b",
        "",
    ] {
        let findings = believe(name).unwrap_err();
        assert_eq!(findings.len(), 1, "{name}: {findings:?}");
        assert!(
            findings[0].starts_with(&format!("trusted_proxies[0].believe[0]: `{name}` ")),
            "{findings:?}"
        );
    }
    for name in ["X-Forwarded-Host", "x-request-id", "traceparent", "X-SSL-*", "Remote-User", "X-Mine"] {
        assert!(believe(name).is_ok(), "{name}");
    }
    for name in ["X-Forwarded-For", "Forwarded", "Cookie", "X-WX-OPENID", "X-Original-URL", "X_Ip", "a b", ""]
    {
        let named = proxy(&[], Some(name));
        let findings = edits_behind(&own_names(), HeaderNames::Refuse, &[named]).unwrap_err();
        assert!(findings[0].starts_with("trusted_proxies[0].client_address: "), "{name}: {findings:?}");
    }
    let pass = |name: &str| {
        let config = config::IdentityHeaders { pass: vec![name.into()], ..own_names() };
        built(&config, HeaderNames::Refuse, &[])
    };
    for name in ["X-User-Id", "X-Real-IP", "X-WX-OPENID", "X-Original-URL", "X-Internal", "X-*", ""] {
        let (edits, findings) = pass(name);
        assert!(
            edits.is_none() && findings[0].starts_with("identity_headers.pass[0]: "),
            "{name}: {findings:?}"
        );
    }
    let (edits, findings) = pass("X-Mine");
    assert!(edits.is_some(), "{findings:?}");
    assert_eq!(
        findings,
        ["identity_headers.pass[0]: clients can send `X-Mine` already; remove it from the list"]
    );
}

#[test]
fn every_name_of_the_lists_is_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/headers.md")).unwrap();
    let page = page.to_ascii_lowercase();
    let families = [FOREIGN_FAMILIES, CLOUD_RUN_FAMILIES].concat();
    let mut seen = 0;
    let names = names::listed().map(|(name, _)| format!("`{name}`"));
    for name in names.chain(families.iter().map(|family| format!("`{family}*`"))) {
        assert!(page.contains(&name), "docs/headers.md lacks {name}");
        seen += 1;
    }
    assert!(seen > 120, "{seen} names");
}

#[test]
fn backend_receives_the_identity_of_the_caller() {
    let config = config::IdentityHeaders { environment: Some("prod".into()), ..own_names() };
    let edits = edits(&config, HeaderNames::Refuse).unwrap();
    let subject = Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse("o-alice").unwrap() };
    let identity = Identity { subject, unionid: Some(UnionId::parse("u-alice").unwrap()) };
    let mut request = Request::default();

    edits.apply(&mut request, Some(&Authenticated::for_test(identity, None, None, "shop")), &origin(None));

    let told = ["x-user-id", "x-wx-unionid", "x-wx-appid", "x-wx-source", "x-wx-env"]
        .map(|name| request.0[name].to_str().unwrap());
    assert_eq!(told, ["o-alice", "u-alice", "wx1", "wx_client", "prod"]);
}

fn telling_profiles() -> config::IdentityHeaders {
    config::IdentityHeaders {
        nickname: Some("X-WX-NICKNAME".into()),
        avatar: Some("X-Avatar".into()),
        ..own_names()
    }
}

/// The headers of a request of a person of this profile, who sends those headers themselves.
fn applied_for(edits: &HeaderEdits, profile: Option<&Profile>, names: &[&str]) -> HeaderMap {
    applied_for_user(edits, None, profile, names)
}

fn applied_for_user(
    edits: &HeaderEdits,
    user: Option<&str>,
    profile: Option<&Profile>,
    names: &[&str],
) -> HeaderMap {
    let user = user.map(|id| User::new(UserId::parse(id).unwrap(), []).unwrap());
    let subject = Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse("o-alice").unwrap() };
    let caller = Authenticated::for_test(Identity { subject, unionid: None }, user, profile, "shop");
    let mut request = Request::default();
    for name in names {
        request
            .0
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("forged"));
    }
    edits.apply(&mut request, Some(&caller), &origin(None));
    request.0
}

#[test]
fn backend_receives_the_profile_if_configured_and_known() {
    let profile = Profile::new("爱 丽\"é", "https://thirdwx.qlogo.cn/a/132");
    let nickname = "%E7%88%B1%20%E4%B8%BD%22%C3%A9";
    let avatar = "https://thirdwx.qlogo.cn/a/132";
    for (config, profile, expected) in [
        (telling_profiles(), Some(&profile), [Some(nickname), Some(avatar)]),
        (telling_profiles(), Some(&Profile::new("Az09-._~", "")), [Some("Az09-._~"), None]),
        (telling_profiles(), Some(&Profile::new("", avatar)), [None, Some(avatar)]),
        (telling_profiles(), None, [None, None]),
        (own_names(), Some(&profile), [None, None]),
    ] {
        let edits = edits(&config, HeaderNames::Refuse).unwrap();
        let headers = applied_for(&edits, profile, &[]);
        let found = ["x-wx-nickname", "x-avatar"].map(|name| headers.get(name).map(|v| v.to_str().unwrap()));
        assert_eq!(found, expected, "{profile:?}");
    }
}

#[test]
fn client_cannot_set_profile_headers_in_any_spelling() {
    let edits = edits(&telling_profiles(), HeaderNames::Pass).unwrap();
    let forged = ["x-wx-nickname", "x_wx_nickname", "x-wx.nickname", "x-avatar", "x_avatar"];

    for left in [applied_for(&edits, None, &forged), applied(&edits, &forged)] {
        assert!(forged.iter().all(|name| !left.contains_key(*name)), "{left:?}");
    }
}

#[test]
fn backend_receives_the_bound_user_and_no_client_can_set_one() {
    let renamed = config::IdentityHeaders { user: "X-Account".into(), ..own_names() };
    let forged = ["x-wx-user-id", "x_wx_user_id", "x-wx_user.id", "X-WX-User-Id", "x-account", "x_account"];
    for (config, name, others) in [(own_names(), "x-wx-user-id", 4), (renamed, "x-account", 6)] {
        let edits = edits(&config, HeaderNames::Pass).unwrap();
        let forged = &forged[..others];
        let left = |headers: HeaderMap| {
            let managed = ["x-wx-user-id", "x-account"];
            let left = headers.iter().filter(|(name, _)| managed.contains(&&*plain(name.as_str())));
            left.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
        };

        let bound = applied_for_user(&edits, Some("u:42@shop"), None, forged);
        assert_eq!(left(bound), [format!("{name}: u:42@shop")]);
        assert_eq!(left(applied_for_user(&edits, None, None, forged)), [""; 0], "{name}");
        assert_eq!(left(applied(&edits, forged)), [""; 0], "{name}");
        assert!(edits.writes(&HeaderName::from_bytes(name.as_bytes()).unwrap()), "{name}");
    }
}

fn cookies_after_strip(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut request = Request::default();
    for line in lines {
        request.0.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
    }
    credential::strip_own_cookies(&mut request);
    request.0.get_all(header::COOKIE).iter().map(|line| line.as_bytes().to_vec()).collect()
}

#[test]
fn own_cookies_reach_no_backend_and_other_cookies_do() {
    for (lines, left) in [
        (&[&b"__Host-menshen=s"[..]][..], &[][..]),
        (&[b"__Host-menshen"], &[]),
        (&[b"a=1; __Host-menshen=s; __Host-menshen-browser=b; c=3"], &[&b"a=1; c=3"[..]]),
        (&[b"a=1;__Host-menshen = s;b"], &[b"a=1; b"]),
        (&[b"a=1", b"__Host-menshen=s", b"b=2"], &[b"a=1; b=2"]),
        (&[b"__HOST-Menshen=s; a=1"], &[b"a=1"]),
        (&[b"\"__Host-menshen\"=s; a=1"], &[b"a=1"]),
        (&[b"\t__Host-menshen\t=s;\ta=1"], &[b"a=1"]),
        (&[b"a=1, __Host-menshen=s; b=2"], &[b"b=2"]),
        (&[b"a=\"x; __Host-menshen=s\"; b=2"], &[b"a=\"x; b=2"]),
        (&[b"a=\xe4\xb8; __Host-menshen=s"], &[b"a=\xe4\xb8"]),
        (&[b"a=\xe4\xb8", b"b=2"], &[b"a=\xe4\xb8", b"b=2"]),
        (&[b"a=1;b=2;;", b"c"], &[b"a=1;b=2;;", b"c"]),
        (&[b"__Host-mensh=1; __Host-session=2"], &[b"__Host-mensh=1; __Host-session=2"]),
        (&[b""], &[b""]),
        (&[], &[]),
    ] {
        let shown: Vec<String> = lines.iter().map(|line| line.escape_ascii().to_string()).collect();
        assert_eq!(cookies_after_strip(lines), left, "{shown:?}");
    }
}

/// What is left of a request once its token is taken out; the token stands in these places.
fn stripped(
    sources: config::TokenSources,
    was_in_authorization: bool,
    lines: &[(&str, &str)],
) -> Vec<(String, String)> {
    let sources = TokenSources::build(&sources, &mut Findings::default()).unwrap();
    let mut request = Request::default();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.0.append(name, HeaderValue::from_str(value).unwrap());
    }
    credential::strip(&mut request, &sources, was_in_authorization);
    let left = request.0.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    left.collect()
}

#[test]
fn token_of_the_gateway_is_removed_from_authorization() {
    let off = || config::TokenSources { bearer: false, header: vec!["x-token".into()], ..Default::default() };
    for (value, looks_like_ours) in [
        ("Bearer eyJ.x.y", true),
        ("bearer   eyJ.x.y", true),
        ("eyJ.x.y", true),
        ("Bearer eyJ.x", false),
        ("Bearer eyJ.x.y.z.a", false),
        ("Bearer abc.x.y", false),
        ("Basic eyJ.x.y", false),
        ("Basic dTpw", false),
        ("", false),
    ] {
        let lines = [("authorization", value)];
        let left = |sources, was_read_there| !stripped(sources, was_read_there, &lines).is_empty();

        assert_eq!(left(config::TokenSources::default(), false), !looks_like_ours, "{value}");
        assert!(!left(config::TokenSources::default(), true), "{value}");
        assert!(left(off(), false), "{value}: a header that is not read is the backend's own");
    }
    let two = [("authorization", "Basic dTpw"), ("authorization", "Bearer eyJ.x.y")];
    assert_eq!(stripped(config::TokenSources::default(), false, &two), []);
}

#[test]
fn token_is_removed_from_the_header_and_cookie_it_is_read_from() {
    let sources = || config::TokenSources {
        header: vec!["x-token".into()],
        cookie: Some("token".into()),
        ..config::TokenSources::default()
    };
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());

    let lines = [("x-token", "t"), ("x-tokens", "s"), ("cookie", "a=1; token=t; b=2"), ("cookie", "token=t")];
    assert_eq!(stripped(sources(), false, &lines), [line("x-tokens", "s"), line("cookie", "a=1; b=2")]);
    assert_eq!(stripped(sources(), false, &[("cookie", "token=t")]), []);
    assert_eq!(stripped(sources(), false, &[("accept", "a")]), [line("accept", "a")]);
}

#[test]
fn split_cookie_lines_are_joined_and_other_cookies_are_unchanged() {
    let joined = |lines: &[&[u8]]| -> Vec<Vec<u8>> {
        let mut request = Request::default();
        for line in lines {
            request.0.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        credential::join_cookies(&mut request);
        request.0.get_all(header::COOKIE).iter().map(|line| line.as_bytes().to_vec()).collect()
    };

    assert_eq!(joined(&[b"a=1 ", b" b=2", b"", b"c=3"]), [b"a=1; b=2; c=3"]);
    assert_eq!(joined(&[b"a=1 ;b=\xe4"]), [b"a=1 ;b=\xe4"]);
    assert_eq!(joined(&[b"", b" "]), [b""; 0]);
    assert_eq!(joined(&[]), [b""; 0]);
}

/// A piece of a `Cookie` line: our names, spelled in ways that some backend reads, among what else
/// may stand there.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let own = (prop::sample::select(&["", "-browser", "x"][..]), prop::collection::vec(any::<bool>(), 32));
    let own = own.prop_map(|(rest, upper)| {
        let name = format!("{}{rest}", crate::cookie::OWN_PREFIX);
        let spelled = name.bytes().zip(upper.into_iter().cycle());
        spelled.map(|(byte, upper)| if upper { byte.to_ascii_uppercase() } else { byte }).collect()
    });
    let others: [&[u8]; 13] =
        [b"=", b";", b"; ", b",", b"\"", b" ", b"\t", b"-", b"_", b"__Host", b"a=1", b"$Version=1", b"\xff"];
    let other = prop::sample::select(others.to_vec());
    prop_oneof![1 => own, 3 => other.prop_map(<[u8]>::to_vec)]
}

/// A name that is managed, as it stands in lists and configuration.
fn managed() -> impl Strategy<Value = String> {
    let listed: Vec<String> = NameClasses::listed().names().map(str::to_owned).collect();
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

/// A proxy that says what it found out of the client, and nothing of its address.
const FRONT: [&str; 4] = ["X-SSL-Client-*", "Remote-User", "True-Client-IP", "X-Internal"];

fn is_believed_from_a_proxy(name: &str) -> bool {
    FRONT.iter().any(|pattern| NamePattern::parse(pattern).unwrap().matches(name))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn own_cookies_are_removed_in_every_spelling(
        lines in prop::collection::vec(prop::collection::vec(piece(), 0..12), 0..4),
    ) {
        let lines: Vec<Vec<u8>> = lines.into_iter().map(|pieces| pieces.concat()).collect();
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();

        for line in cookies_after_strip(&lines) {
            let names = line.split(|byte| b";,=\" \t".contains(byte));
            let own = crate::cookie::OWN_PREFIX.as_bytes();
            let begins_as_ours =
                |name: &[u8]| name.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own));
            prop_assert!(!names.into_iter().any(begins_as_ours), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn name_that_a_backend_folds_onto_a_managed_one_is_removed(
        forged in prop::collection::vec(spelled(), 1..12),
        header_names in prop_oneof![Just(HeaderNames::Pass), Just(HeaderNames::Strip)],
        is_of_proxy in any::<bool>(),
    ) {
        let edits = edits_behind(&own_names(), header_names, &[proxy(&FRONT, None)]).unwrap();
        let names: Vec<&str> = forged.iter().map(|(spelled, _)| &**spelled).collect();
        let believed = is_of_proxy.then(|| &*edits.believed[0]);

        let left = applied_of(&edits, &names, believed);

        for (spelled, name) in &forged {
            // Under its own name a client may send what is only guarded; a trusted proxy, what it
            // is believed about.
            let may_stay = spelled == name
                && (GUARDED.contains(&&**name) || is_of_proxy && is_believed_from_a_proxy(name));
            let stands = left.get_all(&**spelled).iter().any(|value| value == "victim");
            prop_assert!(may_stay || !stands, "{spelled} for {name}");
        }
        for name in left.keys().filter(|name| has_unusual_character(name)) {
            let plain = plain(name.as_str());
            prop_assert!(!forged.iter().any(|(_, managed)| *managed == plain), "{name}");
        }
    }
}
