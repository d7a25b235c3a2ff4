//! Keys: what is refused at start, what is made on first start, what the world may see.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn build_with(
    config: &config::Tokens,
    data_dir: &Path,
    missing: OnMissingKey,
) -> (Option<Tokens>, Vec<String>) {
    let mut findings = Findings::default();
    let tokens = Tokens::build(config, data_dir, missing, &SystemEntropy, &mut findings);
    assert_eq!(tokens.is_none(), findings.has_errors());
    (tokens, problems(&findings))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn kid(tokens: &Tokens) -> String {
    let set: Value = serde_json::from_slice(&tokens.jwks()).unwrap();
    set["keys"][0]["kid"].as_str().unwrap().to_owned()
}

#[test]
fn first_start_creates_a_key_and_the_second_loads_it() {
    for algorithm in [KeyAlgorithm::ES256, KeyAlgorithm::EdDSA] {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/data");
        let config = config::Tokens { algorithm, ..config::Tokens::default() };

        let first = build(&config, &data_dir);
        let second = build(&config, &data_dir);

        let token = first.mint(&identity(), &session(), FOREVER, NOW, &SystemEntropy).unwrap();
        assert!(second.verify(token.expose(), NOW).is_ok(), "{algorithm:?}");
        assert_eq!(mode(&data_dir), 0o700);
        assert_eq!(mode(&data_dir.join("signing-key.pem")), 0o600);
        let names: Vec<_> =
            fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["signing-key.pem"]);
    }
}

#[test]
fn gateways_that_start_concurrently_share_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");

    let kids: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..16).map(|_| scope.spawn(|| kid(&build(&config::Tokens::default(), &data_dir)))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });

    assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
    assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1);
}

#[test]
fn checking_a_configuration_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");

    let (tokens, _) = build_with(&config::Tokens::default(), &data_dir, OnMissingKey::Ephemeral);

    assert!(tokens.is_some());
    assert!(!data_dir.exists());
}

#[test]
fn checking_a_configuration_reads_the_existing_key() {
    let folder = tempfile::tempdir().unwrap();
    let made = build(&config::Tokens::default(), folder.path());

    let (checked, _) = build_with(&config::Tokens::default(), folder.path(), OnMissingKey::Ephemeral);

    assert_eq!(kid(&made), kid(&checked.unwrap()));
}

#[test]
fn created_key_that_others_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    build(&config::Tokens::default(), folder.path());
    let file = folder.path().join("signing-key.pem");

    for mode in [0o602, 0o606, 0o777] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let (tokens, problems) = build_with(&config::Tokens::default(), folder.path(), OnMissingKey::Create);
        assert!(tokens.is_none(), "{mode:o}");
        assert_eq!(problems.len(), 1, "{mode:o}");
        assert!(problems[0].contains("chmod 600"), "{problems:?}");
        assert!(problems[0].contains(&format!("{mode:04o}")), "{problems:?}");
    }
}

#[test]
fn created_key_that_others_may_read_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    build(&config::Tokens::default(), folder.path());
    let file = folder.path().join("signing-key.pem");

    for mode in [0o640, 0o604, 0o644, 0o620, 0o610] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let (tokens, problems) = build_with(&config::Tokens::default(), folder.path(), OnMissingKey::Create);
        assert!(tokens.is_some(), "{mode:o}");
        assert_eq!(problems.len(), 1, "{mode:o}");
        assert!(problems[0].starts_with("data_dir: file `"), "{problems:?}");
        assert!(problems[0].contains(&format!("{mode:04o}")), "{problems:?}");
    }
}

#[test]
fn configured_key_may_be_read_by_its_group_and_others_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let (key, ..) = make_key(KeyAlgorithm::ES256, "k1", folder.path());
    let file = key.file.clone().unwrap();
    let config = config::Tokens { keys: vec![key], ..config::Tokens::default() };

    for (mode, is_warned) in [
        (0o400, false),
        (0o600, false),
        (0o440, false),
        (0o640, false),
        (0o644, true),
        (0o660, true),
        (0o604, true),
    ] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let (tokens, problems) = build_with(&config, folder.path(), OnMissingKey::Create);
        assert!(tokens.is_some(), "{mode:o}: {problems:?}");
        assert_eq!(!problems.is_empty(), is_warned, "{mode:o}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with("tokens.keys[0].file: ")), "{problems:?}");
    }
}

#[test]
fn damaged_or_changed_default_key_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signing-key.pem");
    let ed25519 = generate_key(KeyAlgorithm::EdDSA).unwrap().pem;
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let too_large = "x".repeat(70_000);

    for content in ["", "garbage", garbage, ed25519.expose_secret(), &too_large] {
        write_private(&file, content);
        let (_, problems) = build_with(&config::Tokens::default(), folder.path(), OnMissingKey::Create);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("data_dir: file `"), "{problems:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn data_directory_that_cannot_be_created_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("data");
    fs::write(&in_the_way, "").unwrap();

    let (_, problems) = build_with(&config::Tokens::default(), &in_the_way, OnMissingKey::Create);

    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn every_problem_of_the_section_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (ec, ..) = make_key(KeyAlgorithm::ES256, "ec", folder.path());
    let (ed, ..) = make_key(KeyAlgorithm::EdDSA, "ed", folder.path());
    let short = Some(SecretSource::Inline("only thirty-one bytes of secret".into()));
    let long = Some(SecretSource::Inline(SECRET.into()));
    let absent = Some(folder.path().join("absent.pem").into());
    let key = |kid: &str, algorithm, file, secret| SigningKey { kid: kid.into(), algorithm, file, secret };
    let config = config::Tokens {
        issuer: String::new(),
        audience: " ".into(),
        lifetime: config::Duration::from_secs(59),
        clock_skew: config::Duration::from_secs(301),
        keys: vec![
            key("", KeyAlgorithm::ES256, ec.file.clone(), None),
            key("a b", KeyAlgorithm::ES256, ec.file.clone(), None),
            key("a", KeyAlgorithm::ES256, ec.file.clone(), None),
            key("a", KeyAlgorithm::ES256, ed.file.clone(), None),
            key("b", KeyAlgorithm::EdDSA, ec.file.clone(), None),
            key("c", KeyAlgorithm::RS256, ec.file.clone(), None),
            key("d", KeyAlgorithm::HS256, ec.file.clone(), None),
            key("e", KeyAlgorithm::HS256, None, None),
            key("f", KeyAlgorithm::HS256, None, short),
            key("g", KeyAlgorithm::ES256, None, long.clone()),
            key("h", KeyAlgorithm::ES256, ec.file.clone(), long),
            key("i", KeyAlgorithm::ES256, None, None),
            key("j", KeyAlgorithm::ES256, absent, None),
        ],
        ..config::Tokens::default()
    };

    let (_, problems) = build_with(&config, folder.path(), OnMissingKey::Create);

    let paths: Vec<&str> = problems
        .iter()
        .filter(|problem| !problem.contains("is written in the configuration file"))
        .map(|problem| problem.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "tokens.issuer",
            "tokens.audience",
            "tokens.lifetime",
            "tokens.clock_skew",
            "tokens.keys[0].kid",
            "tokens.keys[1].kid",
            "tokens.keys[3].kid",
            "tokens.keys[3].file",
            "tokens.keys[4].file",
            "tokens.keys[5].file",
            "tokens.keys[6]",
            "tokens.keys[7]",
            "tokens.keys[8].secret",
            "tokens.keys[9]",
            "tokens.keys[10]",
            "tokens.keys[11]",
            "tokens.keys[12].file",
        ],
        "{problems:#?}"
    );
    assert!(problems.iter().all(|problem| !problem.contains(SECRET)));
}

#[test]
fn only_es256_and_eddsa_keys_are_created_on_first_start() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in [KeyAlgorithm::RS256, KeyAlgorithm::HS256] {
        let config = config::Tokens { algorithm, ..config::Tokens::default() };
        let (_, problems) = build_with(&config, folder.path(), OnMissingKey::Create);
        assert!(problems[0].starts_with("tokens.algorithm: "), "{problems:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn rsa_key_below_2048_bits_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("short.pem");
    write_private(&file, &format!("-----BEGIN PRIVATE KEY-----\n{RSA_1024}\n-----END PRIVATE KEY-----\n"));
    let key = SigningKey {
        kid: "short".into(),
        algorithm: KeyAlgorithm::RS256,
        file: Some(file.into()),
        secret: None,
    };
    let config = config::Tokens { keys: vec![key], ..config::Tokens::default() };

    let (_, problems) = build_with(&config, folder.path(), OnMissingKey::Create);

    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("TooSmall"), "{problems:?}");
}

#[test]
fn secret_of_32_bytes_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for (length, is_accepted) in [(1, false), (31, false), (32, true), (64, true)] {
        let secret = Some(SecretSource::Inline("x".repeat(length)));
        let key = SigningKey { kid: "k".into(), algorithm: KeyAlgorithm::HS256, file: None, secret };
        let config = config::Tokens { keys: vec![key], ..config::Tokens::default() };
        let (tokens, _) = build_with(&config, folder.path(), OnMissingKey::Create);
        assert_eq!(tokens.is_some(), is_accepted, "{length}");
    }
}

#[test]
fn first_key_signs_and_all_verify() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<SigningKey> = ALGORITHMS
        .iter()
        .zip(["es", "ed", "rs", "hs"])
        .map(|(algorithm, kid)| make_key(*algorithm, kid, folder.path()).0)
        .collect();
    let tokens = |keys: &[SigningKey]| {
        build(&config::Tokens { keys: keys.to_vec(), ..config::Tokens::default() }, folder.path())
    };
    let all = tokens(&keys);

    for key in &keys {
        let token = tokens(std::slice::from_ref(key))
            .mint(&identity(), &session(), FOREVER, NOW, &SystemEntropy)
            .unwrap();
        assert!(all.verify(token.expose(), NOW).is_ok(), "{}", key.kid);
    }
    let token = all.mint(&identity(), &session(), FOREVER, NOW, &SystemEntropy).unwrap();
    assert!(tokens(&keys[..1]).verify(token.expose(), NOW).is_ok());
    // A key taken out of the list takes its tokens with it.
    assert_eq!(tokens(&keys[1..]).verify(token.expose(), NOW).map(drop), Err(VerifyError::UnknownKey));
}

#[test]
fn jwks_contains_public_keys_only() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<SigningKey> = ALGORITHMS
        .iter()
        .zip(["es", "ed", "rs", "hs"])
        .map(|(algorithm, kid)| make_key(*algorithm, kid, folder.path()).0)
        .collect();
    let tokens = build(&config::Tokens { keys, ..config::Tokens::default() }, folder.path());

    let set: Value = serde_json::from_slice(&tokens.jwks()).unwrap();

    let members: Vec<(&str, Vec<&str>)> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            let mut names: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            (key["kid"].as_str().unwrap(), names)
        })
        .collect();
    assert_eq!(
        members,
        [
            ("es", vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
            ("ed", vec!["alg", "crv", "kid", "kty", "use", "x"]),
            ("rs", vec!["alg", "e", "kid", "kty", "n", "use"]),
        ]
    );
    assert_eq!(set["keys"][2]["e"], "AQAB");
}

#[test]
fn thumbprint_is_that_of_rfc_7638() {
    let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR\
                   XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAta\
                   Sqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksI\
                   NHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let key = jwk::PublicKey::rsa(&URL_SAFE_NO_PAD.decode(modulus).unwrap(), &[1, 0, 1]);

    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn kid_of_a_created_key_is_its_thumbprint_and_a_valid_key_id() {
    for algorithm in [KeyAlgorithm::ES256, KeyAlgorithm::EdDSA, KeyAlgorithm::RS256] {
        let made = generate_key(algorithm).unwrap();
        assert_eq!(made.kid.len(), 43, "{algorithm:?}");
        let shown = format!("{made:?}");
        assert!(!shown.contains("BEGIN"), "{shown}");
    }
    assert!(matches!(generate_key(KeyAlgorithm::HS256), Err(GenerateError::SharedSecret)));
}

/// Made for this test with `openssl genpkey`; it protects nothing.
const RSA_1024: &str = "\
    MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAOGp1J6x5Dk0rpEs0d0L5wGulYwIq9VStCMc5pJ1wHWjv+dHFoSO\
    1mN9NgU1EL3Y+EbXolkw084tiKtJ7TnFfvEPnqOKf1V1Chn1zz62guCH183mUCyhDk5JLdJQTVFjDl/W3BKwFJlTxEDwsELJ+Ts6\
    +pbmwqCnamveqFjum/+9AgMBAAECgYAS+dwGSEE/yj1Puewf4WtYidzLfMMuWhkJxtlgwYQgoFd31FOBbB19Gj9bqr2wqTkfg+yE\
    AYYeFVgjx0Cqlf/5jvVqVw+LUFrEYSWQTvcU6lGqfQ4Zdv/KHq9AFs/H22qpiiEM2rV122HScYiM6QlrisdFhnaUjE9ropye9k4J\
    JQJBAPwswJf9HI+M/UZ7rz4r5hstLPnxZFWCHog5HRJloMgN7UQSiERLfkMl812OkvNJELftCu2pqtJzZYN4xsQ/5pMCQQDlFiD8\
    XKvTIt36WZP/c7znFqPFFyzEc6dwn0rQ7vOsfX/2HzMxwHBzt3EkEFbmsu0jjh0CnYkLjFNrYsgNyqJvAkEAz5Me7X0h12Ac07nX\
    5HtKLDChhxQWnPRAoa0xqwUQtdwQ5CnFFUJ3KlrA2tATUkNgiaWLi1pQDG+ErhXqt3xKFQJBAKuD3OB01aR3Z3CnnpnUYms11Rmb\
    10WiPYuhh5dUQBY1xBdWlrK6HLdWcZwJq7Z/4fIL1YZ+wftmbZJp29QPkXsCQBfed447NegyYjBvqshZxyuC+x1RfSP+x6jX08YP\
    cYcAap8U3oMZ/wJTa6mYfcs+icZf0EsDqWxWtmga3JszLTs=";

#[test]
fn limits_of_the_token_section_are_inclusive() {
    let folder = tempfile::tempdir().unwrap();
    let problems = |config: config::Tokens| {
        let (_, problems) = build_with(&config, folder.path(), OnMissingKey::Ephemeral);
        problems.iter().map(|problem| problem.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let seconds = config::Duration::from_secs;
    let default = config::Tokens::default;
    for (is_within, length, lifetime, clock_skew) in
        [(true, 1, 60, 0), (true, 256, 24 * 3600, 300), (false, 257, 59, 301), (false, 0, 24 * 3600 + 1, 301)]
    {
        let name = "n".repeat(length);
        for (config, path) in [
            (config::Tokens { issuer: name.clone(), ..default() }, "tokens.issuer"),
            (config::Tokens { audience: name.clone(), ..default() }, "tokens.audience"),
            (config::Tokens { lifetime: seconds(lifetime), ..default() }, "tokens.lifetime"),
            (config::Tokens { clock_skew: seconds(clock_skew), ..default() }, "tokens.clock_skew"),
        ] {
            let expected: &[&str] = if is_within { &[] } else { &[path] };
            assert_eq!(problems(config), expected, "{length} {lifetime} {clock_skew}");
        }
    }
}

#[test]
fn key_in_an_older_format_is_refused_with_how_to_convert_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.pem");
    write_private(&file, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n");
    let key =
        SigningKey { kid: "a".into(), algorithm: KeyAlgorithm::ES256, file: Some(file.into()), secret: None };
    let config = config::Tokens { keys: vec![key], ..config::Tokens::default() };

    let (_, problems) = build_with(&config, folder.path(), OnMissingKey::Create);

    assert!(
        problems[0].ends_with("convert it with `openssl pkcs8 -topk8 -nocrypt -in old.pem`"),
        "{problems:?}"
    );
}
