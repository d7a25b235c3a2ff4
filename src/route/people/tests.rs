use std::fs;

use super::*;
use crate::identity::UserId;

/// An app whose users have unionids, and one whose users have none.
const APPS: &str = "{
    mp: { kind: mini_program, appid: wx1, secret: { env: S } },
    oa: { kind: official_account, appid: wx2, secret: { env: S } },
    site: { kind: official_account, appid: wx3, secret: { env: S }, scope: snsapi_userinfo } }";

fn rules(lists: &str, route: &str) -> (Rules, Vec<String>) {
    rules_with_apps("{}", lists, route)
}

fn rules_with_apps(apps: &str, lists: &str, route: &str) -> (Rules, Vec<String>) {
    let apps: BTreeMap<String, config::App> = serde_saphyr::from_str(apps).unwrap();
    let lists: BTreeMap<String, config::List> = serde_saphyr::from_str(lists).unwrap();
    let yaml = format!("{{ path: /, upstream: api, {route} }}");
    let route: config::Route = serde_saphyr::from_str(&yaml).unwrap();
    let mut findings = Findings::default();
    let lists = Lists::build(&lists, &mut findings);
    let rules = Rules::build(&route, "routes[0]", &apps, &lists, &mut findings);
    (rules, findings.iter().map(ToString::to_string).collect())
}

fn person(openid: &str, unionid: Option<&str>) -> Identity {
    let subject = Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse(openid).unwrap() };
    Identity { subject, unionid: unionid.map(|unionid| UnionId::parse(unionid).unwrap()) }
}

#[test]
fn lists_decide_in_their_order_and_a_deny_list_wins() {
    let lists = "{ staff: { members: [u1, u2, 'wx1:o3'] }, out: { members: [u2, 'wx1:o4', 'wx2:o1'] } }";
    let (allow, deny, both, unionid, all) = (
        "access: authenticated, allow_lists: [staff]",
        "access: optional, deny_lists: [out]",
        "access: authenticated, allow_lists: [staff], deny_lists: [out]",
        "access: authenticated, require_unionid: true",
        "access: authenticated, allow_lists: [staff], deny_lists: [out], require_unionid: true",
    );
    let no = Err;
    for (route, openid, unionid, expected) in [
        ("access: authenticated", "o9", None, Ok(())),
        (allow, "o1", Some("u1"), Ok(())),
        (allow, "o3", None, Ok(())),
        (allow, "o3", Some("u9"), Ok(())),
        (allow, "o1", None, no(Denied::NotOnList)),
        (allow, "u1", None, no(Denied::NotOnList)),
        (allow, "o9", Some("o3"), no(Denied::NotOnList)),
        (deny, "o9", Some("u2"), no(Denied::ByList)),
        (deny, "o4", None, no(Denied::ByList)),
        (deny, "o1", None, no(Denied::UnionIdUnknown)),
        (deny, "o1", Some("u9"), Ok(())),
        (both, "o9", Some("u2"), no(Denied::ByList)),
        (both, "o9", Some("u1"), Ok(())),
        (both, "o4", Some("u1"), no(Denied::ByList)),
        (unionid, "o9", Some("u9"), Ok(())),
        (unionid, "o9", None, no(Denied::UnionIdUnknown)),
        (all, "o4", None, no(Denied::ByList)),
        (all, "o3", None, no(Denied::UnionIdUnknown)),
        (all, "o3", Some("u9"), Ok(())),
        (all, "o9", Some("u9"), no(Denied::NotOnList)),
    ] {
        let (rules, findings) = rules(lists, route);

        assert_eq!(findings, [""; 0]);
        assert_eq!(rules.permits(&person(openid, unionid), None), expected, "{route}: {openid} {unionid:?}");
    }
}

#[test]
fn a_deny_list_with_unionids_refuses_who_has_none_unless_the_route_admits_them() {
    let lists = "{ unions: { members: [u2, 'wx1:o4'] }, openids: { members: ['wx1:o4'] } }";
    for (route, expected) in [
        ("deny_lists: [unions]", Err(Denied::UnionIdUnknown)),
        ("deny_lists: [unions], unknown_unionid: refuse", Err(Denied::UnionIdUnknown)),
        ("deny_lists: [openids, unions]", Err(Denied::UnionIdUnknown)),
        ("deny_lists: [unions], unknown_unionid: admit", Ok(())),
        ("deny_lists: [unions], unknown_unionid: admit, require_unionid: true", Err(Denied::UnionIdUnknown)),
        ("deny_lists: [openids]", Ok(())),
        ("allow_lists: [unions]", Err(Denied::NotOnList)),
    ] {
        let (rules, _) = rules(lists, &format!("access: authenticated, {route}"));

        assert_eq!(rules.permits(&person("o9", None), None), expected, "{route}");
        assert_eq!(rules.permits(&person("o4", None), None).is_ok(), route.starts_with("allow"), "{route}");
    }
}

#[test]
fn a_route_that_admits_unknown_unionids_is_warned_of_with_the_apps_that_give_none() {
    let lists = "{ unions: { members: [u2] }, openids: { members: ['wx1:o4'] } }";
    for (route, expected) in [
        ("deny_lists: [unions], apps: [mp, site]", None),
        ("deny_lists: [openids]", None),
        (
            "deny_lists: [unions], unknown_unionid: admit",
            Some(
                "routes[0].unknown_unionid: route `/` lets in people on a deny list: no unionid is known of users of `oa`; remove it, or write `scope: snsapi_userinfo` for these apps",
            ),
        ),
        (
            "deny_lists: [unions], unknown_unionid: admit, apps: [mp]",
            Some(
                "routes[0].unknown_unionid: route `/` lets in people on a deny list whose unionid is not known; remove it, unless every app is bound to your Open Platform account",
            ),
        ),
        (
            "deny_lists: [unions]",
            Some(
                "routes[0].deny_lists: route `/` refuses every user of `oa`: no unionid is known of them, and a list here denies unionids; write `scope: snsapi_userinfo` for these apps, or name other `apps` on this route",
            ),
        ),
        (
            "deny_lists: [openids], unknown_unionid: admit",
            Some(
                "routes[0].unknown_unionid: no list in `deny_lists` has a unionid, so it has no effect; remove it",
            ),
        ),
    ] {
        let (_, findings) = rules_with_apps(APPS, lists, &format!("access: authenticated, {route}"));

        assert_eq!(findings, Vec::from_iter(expected), "{route}");
    }
}

fn user(claims: &[(&str, &str)]) -> User {
    let claim =
        |(name, value): &(&str, &str)| (ClaimName::parse(name).unwrap(), ClaimValue::parse(value).unwrap());
    User::new(UserId::parse("42").unwrap(), claims.iter().map(claim)).unwrap()
}

#[test]
fn user_and_claims_are_checked_between_the_deny_and_allow_lists() {
    let lists = "{ staff: { members: [u1] }, out: { members: [u2] } }";
    let all = "access: authenticated, allow_lists: [staff], deny_lists: [out], require_unionid: true, require_user: true, \
               require_claims: { role: [editor, admin], level: ['3'] }";
    let bound = "access: optional, require_user: true";
    let editors = "access: authenticated, require_claims: { role: [editor] }";
    let good = user(&[("level", "3"), ("role", "admin"), ("x", "y")]);
    let no = Err;
    for (route, unionid, user, expected) in [
        (bound, None, Some(user(&[])), Ok(())),
        (bound, Some("u1"), None, no(Denied::UserUnbound)),
        (editors, None, Some(user(&[("role", "editor")])), Ok(())),
        (editors, None, Some(user(&[("role", "Editor")])), no(Denied::ClaimMissing)),
        (editors, None, Some(user(&[("role", "admin")])), no(Denied::ClaimMissing)),
        (editors, None, Some(user(&[("other", "editor")])), no(Denied::ClaimMissing)),
        (editors, None, Some(user(&[])), no(Denied::ClaimMissing)),
        (editors, Some("editor"), None, no(Denied::ClaimMissing)),
        (all, Some("u2"), None, no(Denied::ByList)),
        (all, None, None, no(Denied::UnionIdUnknown)),
        (all, Some("u9"), None, no(Denied::UserUnbound)),
        (all, Some("u9"), Some(user(&[("role", "admin")])), no(Denied::ClaimMissing)),
        (all, Some("u9"), Some(user(&[("role", "admin"), ("level", "4")])), no(Denied::ClaimMissing)),
        (all, Some("u9"), Some(good.clone()), no(Denied::NotOnList)),
        (all, Some("u1"), Some(good.clone()), Ok(())),
    ] {
        let (rules, findings) = rules(lists, route);

        assert_eq!(findings, [""; 0]);
        assert_eq!(
            rules.permits(&person("o1", unionid), user.as_ref()),
            expected,
            "{route}: {unionid:?} {user:?}"
        );
    }
}

#[test]
fn rules_that_require_a_user_or_claim_deny_an_unbound_subject() {
    let lists = "{ staff: { members: [u1, 'wx1:o1'] }, out: { members: [u2] } }";
    let mut asked = 0;
    for asks in ["require_user: true", "require_claims: { role: [editor] }"] {
        for others in 0..8_u8 {
            let has = |bit: u8, text| if others & (1 << bit) == 0 { "" } else { text };
            let route = format!(
                "access: optional, {asks}{}{}{}",
                has(0, ", allow_lists: [staff]"),
                has(1, ", deny_lists: [out]"),
                has(2, ", require_unionid: true")
            );
            let (rules, findings) = rules(lists, &route);
            assert_eq!(findings, [""; 0]);
            for (openid, unionid) in
                [("o1", Some("u1")), ("o1", None), ("o9", Some("u2")), ("editor", Some("42"))]
            {
                assert!(
                    rules.permits(&person(openid, unionid), None).is_err(),
                    "{route}: {openid} {unionid:?}"
                );
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 64);
}

/// The finding stops the start, so these rules are never used. They would deny every caller.
#[test]
fn rules_with_a_claim_without_values_deny_everyone() {
    let (rules, _) = rules("{}", "access: authenticated, require_claims: { role: [], other: [''] }");

    for user in [None, Some(user(&[])), Some(user(&[("role", "editor"), ("other", "x")]))] {
        assert_eq!(rules.permits(&person("o1", None), user.as_ref()), Err(Denied::ClaimMissing), "{user:?}");
    }
}

#[test]
fn each_denial_has_a_distinct_reason() {
    let words = [Denied::ByList, Denied::UnionIdUnknown, Denied::NotOnList].map(Denied::reason);

    assert_eq!(words, ["denied_by_list", "unionid_unknown", "not_on_list"]);
}

#[test]
fn a_file_adds_one_member_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("staff.txt");
    fs::write(&path, "\u{feff}u1 # Ann\r\n\n# nobody\n  wx1:o2\t#\nu3").unwrap();

    let (rules, findings) = rules(
        &format!("staff: {{ members: [u4], file: '{}' }}", path.display()),
        "access: authenticated, allow_lists: [staff]",
    );

    assert_eq!(findings, [""; 0]);
    for (openid, unionid, is_permitted) in [
        ("o9", Some("u1"), true),
        ("o2", None, true),
        ("o9", Some("u3"), true),
        ("o9", Some("u4"), true),
        ("o9", Some("Ann"), false),
        ("o9", Some("nobody"), false),
    ] {
        assert_eq!(
            rules.permits(&person(openid, unionid), None).is_ok(),
            is_permitted,
            "{openid} {unionid:?}"
        );
    }
}

#[test]
fn invalid_line_is_reported_by_number_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("staff.txt");
    let file = format!("staff: {{ file: '{}' }}", path.display());
    let route = "access: authenticated, allow_lists: [staff]";
    let shown = path.display();
    let line = |number: usize| {
        format!(
            "lists.staff.file: line {number} of `{shown}` is neither a unionid nor `appid:openid`; {HOW_TO_WRITE}"
        )
    };

    fs::write(&path, b"u1\nu 2\nu3\nwx1:\n:o1\nwx1:o:1\n\xff\nu4\0").unwrap();
    let (_, findings) = rules(&file, route);
    assert_eq!(findings, [2, 4, 5, 6, 7, 8].map(line));

    fs::write(&path, "a b\n".repeat(25)).unwrap();
    let (_, findings) = rules(&file, route);
    assert_eq!(findings[..10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(line));
    // The list is empty as well, which is a finding after this one.
    assert_eq!(findings[10], format!("lists.staff.file: 15 more lines of `{shown}` are neither"));

    fs::write(&path, format!("u1\n{}", "a b\n".repeat(10))).unwrap();
    let (_, findings) = rules(&file, route);
    assert_eq!(findings, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(line));
}

#[test]
fn unreadable_or_oversized_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("staff.txt");
    let file = format!("staff: {{ file: '{}' }}", path.display());
    let route = "access: authenticated, deny_lists: [staff]";

    let (_, findings) = rules(&file, route);
    assert!(findings[0].contains("cannot be read: No such file"), "{findings:?}");

    let largest = 16 * 1024 * 1024;
    for (bytes, is_refused) in [(largest + 1, true), (largest, false)] {
        File::create(&path).unwrap().set_len(bytes).unwrap();
        let (_, findings) = rules(&file, route);
        assert_eq!(findings[0].contains("is larger than 16 MiB"), is_refused, "{findings:?}");
    }
}

#[test]
fn every_invalid_people_rule_is_reported() {
    let lists = "{ staff: { members: [u1, 'x y'] }, empty: {} }";
    let hint = "write `access: authenticated` or `access: optional`, or remove";
    let member =
        format!("lists.staff.members[1]: this is neither a unionid nor `appid:openid`; {HOW_TO_WRITE}");
    let public = "a public route checks no identity, so it cannot permit or refuse single people";
    for (route, expected) in [
        (
            "access: authenticated, allow_lists: [staf], deny_lists: [staff, nobody]",
            vec![
                "routes[0].deny_lists[1]: list `nobody` is not defined; write one of: empty, staff".to_owned(),
                "routes[0].allow_lists[0]: list `staf` is not defined; did you mean `staff`?".to_owned(),
            ],
        ),
        (
            "access: optional, allow_lists: [empty], deny_lists: [empty]",
            vec![
                "routes[0].allow_lists[0]: list `empty` is empty, so it permits no caller; add `members` or a `file` to \
                 `lists.empty`, or remove it here"
                    .to_owned(),
            ],
        ),
        (
            "access: public, allow_lists: [staff], deny_lists: [staff], require_unionid: true, require_user: true, \
             require_claims: { role: [editor] }",
            ["allow_lists", "deny_lists", "require_unionid", "require_user", "require_claims"]
                .map(|key| format!("routes[0].{key}: {public}; {hint} `{key}`"))
                .to_vec(),
        ),
        (
            "access: authenticated, require_claims: { Role: [editor], level: [], team: [red, 'a b', ''] }",
            vec![
                "routes[0].require_claims.Role: not a claim's name of 1 to 32 characters out of a-z 0-9 _ that begins \
                 with a letter"
                    .to_owned(),
                "routes[0].require_claims.level: no value is listed, so the route would permit no user; list the permitted values \
                 of the claim"
                    .to_owned(),
                "routes[0].require_claims.team[1]: not a claim's value of 1 to 128 visible ASCII characters".to_owned(),
                "routes[0].require_claims.team[2]: not a claim's value of 1 to 128 visible ASCII characters".to_owned(),
            ],
        ),
    ] {
        let (_, findings) = rules(lists, route);

        assert_eq!(findings, [vec![member.clone()], expected].concat(), "{route}");
    }
}

#[test]
fn rules_with_an_empty_allow_list_deny_everyone() {
    let (rules, _) = rules("empty: {}", "access: authenticated, allow_lists: [empty]");

    assert_eq!(rules.permits(&person("o1", Some("u1")), None), Err(Denied::NotOnList));
}

#[test]
fn debug_output_names_no_person() {
    let (rules, _) = rules("staff: { members: [u1secret] }", "access: authenticated, deny_lists: [staff]");

    assert!(!format!("{rules:?}").contains("u1secret"));
}
