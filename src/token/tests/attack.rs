//! Section 2C of the attack table: every way a token was ever smuggled past a gateway like ours.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

#[test]
fn forged_token_with_correct_claims_verifies() {
    // Else the tables below would prove nothing.
    for algorithm in ALGORITHMS {
        let gateway = Gateway::with(algorithm);
        let token = gateway.forge(&gateway.header().to_string(), &claims().to_string());
        assert_eq!(gateway.verify(&token).map(drop), Ok(()), "{algorithm:?}");
    }
}

/// C1: the public key, in any shape an attacker can get it, is no HMAC secret.
#[test]
fn public_key_bytes_are_not_accepted_as_an_hmac_secret() {
    for algorithm in [KeyAlgorithm::ES256, KeyAlgorithm::EdDSA, KeyAlgorithm::RS256] {
        let gateway = Gateway::with(algorithm);
        let set: Value = serde_json::from_slice(&gateway.tokens.jwks()).unwrap();
        let jwk = &set["keys"][0];
        let mut secrets: Vec<Vec<u8>> = vec![gateway.tokens.jwks().to_vec(), jwk.to_string().into_bytes()];
        for member in ["x", "y", "n", "e"] {
            if let Some(text) = jwk[member].as_str() {
                secrets.push(text.as_bytes().to_vec());
                secrets.push(URL_SAFE_NO_PAD.decode(text).unwrap());
            }
        }
        let pem = rcgen::KeyPair::from_pem(&private_pem(&gateway)).ok();
        if let Some(pair) = pem {
            use rcgen::PublicKeyData as _;
            secrets.push(pair.public_key_pem().into_bytes());
            secrets.push(pair.public_key_pem().trim_end().as_bytes().to_vec());
            secrets.push(pair.der_bytes().to_vec());
            secrets.push(pair.subject_public_key_info());
        }
        assert!(secrets.len() >= 6, "{algorithm:?}");
        secrets.push(Vec::new());

        for secret in secrets {
            let header = with(gateway.header(), "alg", json!("HS256")).to_string();
            let message = format!("{}.{}", encode(header), encode(claims().to_string()));
            let key = EncodingKey::from_secret(&secret);
            let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();

            assert_eq!(
                gateway.verify(&format!("{message}.{signature}")).unwrap_err(),
                VerifyError::WrongAlgorithm,
                "{algorithm:?}"
            );
        }
    }
}

fn private_pem(gateway: &Gateway) -> String {
    fs::read_to_string(gateway._folder.path().join("k1.pem")).unwrap()
}

/// C3: the header's `alg` is compared, never obeyed.
#[test]
fn only_the_algorithm_of_the_key_is_accepted() {
    let spellings = [
        "none", "None", "NONE", "nOnE", "", " ", "HS256", "hs256", "HS384", "HS512", "ES256", "es256",
        "ES256K", "ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA", "eddsa", "Ed25519", "ES256 ", "dir",
        "RSA-OAEP",
    ];
    for algorithm in ALGORITHMS {
        let gateway = Gateway::with(algorithm);
        for spelling in spellings {
            if spelling == format!("{:?}", gateway.algorithm) {
                continue;
            }
            let header = with(gateway.header(), "alg", json!(spelling)).to_string();
            let signed = gateway.forge(&header, &claims().to_string());
            let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);

            let refusals = [&signed, &unsigned].map(|token| gateway.verify(token).unwrap_err());

            assert_eq!(refusals, [VerifyError::WrongAlgorithm, VerifyError::Malformed], "{spelling:?}");
        }
    }
}

/// C3, C7: a header is `typ`, `alg`, `kid`, each once, and nothing else.
#[test]
fn unusual_header_is_refused_despite_a_valid_signature() {
    let gateway = Gateway::with(KeyAlgorithm::ES256);
    let usual = gateway.header();
    let mut headers: Vec<String> = vec![
        r#"{"typ":"at+jwt","alg":"ES256","kid":"k1","kid":"k1"}"#.into(),
        r#"{"typ":"at+jwt","alg":"none","alg":"ES256","kid":"k1"}"#.into(),
        r#"{"typ":"at+jwt","alg":"ES256","alg":"none","kid":"k1"}"#.into(),
        r#"{"typ":"JWT","typ":"at+jwt","alg":"ES256","kid":"k1"}"#.into(),
        r#"["ES256","k1","at+jwt"]"#.into(),
        format!(" {usual}"),
        format!("{usual}{usual}"),
        format!("{usual}\0"),
        "{}".into(),
        "null".into(),
        "\"\"".into(),
        String::new(),
        "[".repeat(5000),
        format!(r#"{{"a":{}"#, "[".repeat(5000)),
        format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"k1","x":{}{}}}"#, "[".repeat(100), "]".repeat(100)),
    ];
    for member in ["typ", "alg", "kid"] {
        for value in [json!(null), json!(1), json!(true), json!(["ES256"]), json!({})] {
            headers.push(with(usual.clone(), member, value).to_string());
        }
        headers.push(usual.to_string().replace(&usual[member].to_string(), "null"));
    }
    let extras = [
        ("crit", json!(["x"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/x5u")),
        ("jwk", json!({ "kty": "EC", "crv": "P-256", "x": "", "y": "" })),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("abc")),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("Kid", json!("k1")),
        ("unheard-of", json!(1)),
    ];
    headers.extend(extras.map(|(member, value)| with(usual.clone(), member, value).to_string()));
    for typ in ["JWT", "jwt", "AT+JWT", "application/at+jwt", "logout+jwt", "dpop+jwt", ""] {
        headers.push(with(usual.clone(), "typ", json!(typ)).to_string());
    }

    for header in &headers {
        let token = gateway.forge(header, &claims().to_string());
        let shown: String = header.chars().take(100).collect();
        assert_eq!(gateway.verify(&token).map(drop), Err(VerifyError::Malformed), "{shown}");
    }
}

/// C7, C12: a `kid` is compared with the ids in use; it opens no file and stands for no default.
#[test]
fn unknown_kid_is_refused() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let kids = [
        "",
        " ",
        "k",
        "k2",
        "K1",
        "k1 ",
        "k1\0",
        "../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "k1\n",
        "*",
        "null",
    ];
    for kid in kids {
        let header = with(gateway.header(), "kid", json!(kid)).to_string();
        for secret in ["", SECRET, "null"] {
            let message = format!("{}.{}", encode(&header), encode(claims().to_string()));
            let key = EncodingKey::from_secret(secret.as_bytes());
            let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
            let token = format!("{message}.{signature}");
            assert_eq!(gateway.verify(&token).map(drop), Err(VerifyError::UnknownKey), "{kid:?}");
        }
    }
}

/// C4, C5: every claim there, once, of its own JSON type; no number that wraps.
#[test]
fn claims_of_a_wrong_type_are_refused_despite_a_valid_signature() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let mut payloads: Vec<String> = Vec::new();
    for member in ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "appid", "openid", "unionid"] {
        let usual = claims()[member].clone();
        let as_text = usual.to_string();
        let good = format!(r#""{member}":{as_text}"#);
        assert!(claims().to_string().contains(&good), "{good}");
        let wrong_types = [
            "null",
            "true",
            "{}",
            "[]",
            "-1",
            "-0",
            "1.0",
            "1e3",
            "1e400",
            "-1e400",
            "18446744073709551616",
            "-9223372036854775808",
            "99999999999999999999999999",
            "\"\"",
            "0x10",
            "NaN",
            "Infinity",
            "01",
            "+1",
        ];
        let quoted = if usual.is_number() { format!("\"{as_text}\"") } else { format!("[{as_text}]") };
        for wrong in wrong_types.into_iter().chain([quoted.as_str()]) {
            payloads.push(claims().to_string().replace(&good, &format!(r#""{member}":{wrong}"#)));
        }
        // Twice: the same value, and another one in front and behind.
        for first in [as_text.as_str(), "1", "\"x\""] {
            payloads.push(claims().to_string().replace(&good, &format!(r#""{member}":{first},{good}"#)));
            payloads.push(claims().to_string().replace(&good, &format!(r#"{good},"{member}":{first}"#)));
        }
        if member != "unionid" {
            payloads.push(with(claims(), member, Value::Null).to_string());
        }
    }
    let times = [
        ("exp", json!(NOW.seconds() - 1)),
        ("exp", json!(NOW.seconds() + 86_401)),
        ("exp", json!(253_402_300_800_u64)), // the year 10000
        ("exp", json!(u64::MAX)),
        ("exp", json!(u64::MAX / 1000)),
        ("iat", json!(0)),
        ("sub", json!("wx0123456789:o-Mallory")),
        ("sub", json!("wx0123456789o-Alice_1")),
        ("sub", json!("o-Alice_1")),
        ("appid", json!("wx9999999999")),
        ("openid", json!("o-Mallory")),
        ("openid", json!("o-Alice_1\r\nX-Role: admin")),
        ("unionid", json!("u\nX-Role: admin")),
        ("unionid", json!("ü")),
        ("sid", json!("a b")),
        ("sid", json!("x".repeat(129))),
    ];
    payloads.extend(times.map(|(member, value)| with(claims(), member, value).to_string()));
    let whole = claims().to_string();
    payloads.extend([
        String::new(),
        "{}".into(),
        "null".into(),
        "[]".into(),
        format!("[{whole}]"),
        format!(" {whole}"),
        format!("\u{feff}{whole}"),
        format!("{whole}{whole}"),
        format!("{whole}x"),
        whole[..whole.len() - 1].to_owned(),
        r#"["menshen","s","menshen",1,1,1,"j","s","a","o","u"]"#.into(),
        "[".repeat(5000),
        format!(r#"{{"a":{}"#, "[".repeat(5000)),
    ]);
    assert!(payloads.len() > 300, "{}", payloads.len());

    for payload in &payloads {
        let token = gateway.forge(&gateway.header().to_string(), payload);
        let shown: String = payload.chars().take(400).collect();
        assert!(gateway.verify(&token).is_err(), "{shown}");
    }
}

#[test]
fn claims_that_are_not_utf8_are_refused() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let payload = claims().to_string().replace("j1", "j\u{1}1").into_bytes();
    for byte in [0x00, 0x1f, 0x80, 0xc0, 0xff] {
        let payload: Vec<u8> = payload.iter().map(|b| if *b == 1 { byte } else { *b }).collect();
        let message = format!("{}.{}", encode(gateway.header().to_string()), encode(payload));
        let signature = crypto::sign(message.as_bytes(), &gateway.key, Algorithm::HS256).unwrap();
        let token = format!("{message}.{signature}");
        assert_eq!(gateway.verify(&token).map(drop), Err(VerifyError::InvalidClaims), "{byte:#x}");
    }
}

/// An unknown claim is passed over, so that a newer gateway's tokens work on an older one.
#[test]
fn unknown_claim_is_ignored() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let payload = with(claims(), "user_id", json!({ "a": [1.5, null] })).to_string();
    let token = gateway.forge(&gateway.header().to_string(), &payload);
    assert_eq!(gateway.verify(&token).map(drop), Ok(()));
}

#[test]
fn times_are_checked_against_each_other_and_the_clock() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let now = NOW.seconds();
    let table = [
        (json!({ "iat": now + 30, "nbf": now + 30 }), Ok(())),
        (json!({ "iat": now + 31 }), Err(VerifyError::NotYetValid)),
        (json!({ "nbf": now + 31 }), Err(VerifyError::NotYetValid)),
        (json!({ "nbf": u64::MAX }), Err(VerifyError::NotYetValid)),
        (json!({ "iat": u64::MAX, "exp": u64::MAX }), Err(VerifyError::NotYetValid)),
        (json!({ "nbf": 0 }), Ok(())),
        (json!({ "exp": now }), Err(VerifyError::Expired)),
        (json!({ "exp": now + 1 }), Ok(())),
        (json!({ "exp": now - 10, "iat": now }), Err(VerifyError::InvalidClaims)),
        (json!({ "exp": now + 86_400 }), Ok(())),
        (json!({ "exp": now + 86_401 }), Err(VerifyError::InvalidClaims)),
        (json!({ "iat": now - 86_400, "exp": now + 1 }), Err(VerifyError::InvalidClaims)),
    ];
    for (changes, expected) in table {
        let mut payload = claims();
        for (member, value) in changes.as_object().unwrap() {
            payload = with(payload, member, value.clone());
        }
        let token = gateway.forge(&gateway.header().to_string(), &payload.to_string());
        assert_eq!(gateway.verify(&token).map(drop), expected, "{changes}");
    }
}

/// A15: a token of another gateway, or for another audience, even where it shares our key.
#[test]
fn token_of_another_issuer_or_audience_is_refused() {
    let gateway = Gateway::with(KeyAlgorithm::RS256);
    let others = ["Menshen", "menshen ", "menshen/", "menshe", "other", "https://menshen"];
    for other in others {
        for (member, expected) in [("iss", VerifyError::WrongIssuer), ("aud", VerifyError::WrongAudience)] {
            let payload = with(claims(), member, json!(other)).to_string();
            let token = gateway.forge(&gateway.header().to_string(), &payload);
            assert_eq!(gateway.verify(&token).map(drop), Err(expected), "{member} {other:?}");
        }
    }
}

#[test]
fn token_of_another_gateways_key_is_refused_even_with_our_kid() {
    for algorithm in ALGORITHMS {
        let ours = Gateway::with(algorithm);
        if algorithm == KeyAlgorithm::HS256 {
            continue; // In this fixture both have the same secret.
        }
        let theirs = Gateway::with(algorithm).mint();
        assert_eq!(ours.verify(&theirs).map(drop), Err(VerifyError::BadSignature), "{algorithm:?}");
    }
}

/// C6, C8: one token, one spelling; five parts are no token.
#[test]
fn only_the_canonical_spelling_of_a_token_is_accepted() {
    let gateway = Gateway::with(KeyAlgorithm::EdDSA);
    let token = gateway.mint();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { unreachable!() };
    let mut spellings = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "junk".into(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.."),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("\t{token}"),
        format!("{token}="),
        format!("{token}=="),
        format!("Bearer {token}"),
        format!("\"{token}\""),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}={payload}.{signature}"),
        format!("{header}=.{payload}=.{signature}="),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}.{payload}.{signature}"),
        format!("{header}.{payload}.{}", signature.replace('-', "+").replace('_', "/") + "+"),
        format!("{header}.{payload}.{signature}A"),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 1]),
        format!("{header}.{}\n{}.{signature}", &payload[..76], &payload[76..]),
        format!("{header}.{payload}.{signature}\u{200b}"),
        format!("{header}.{payload}.ü"),
        token.replace('.', "%2E"),
        token.to_uppercase(),
        token.to_lowercase(),
        format!("{header}.{payload}.{}", "A".repeat(86)),
        format!("{header}.{payload}.{}", "A".repeat(4)),
    ];
    // The last character of each part carries unused bits; all but one way to fill them are
    // refused.
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (index, part) in parts.iter().enumerate() {
        for last in ALPHABET.chars().filter(|last| !part.ends_with(*last)) {
            let changed = format!("{}{last}", &part[..part.len() - 1]);
            let mut parts = parts.clone();
            parts[index] = &changed;
            spellings.push(parts.join("."));
        }
    }

    for spelling in &spellings {
        assert!(gateway.verify(spelling).is_err(), "{spelling:?}");
    }
    assert!(gateway.verify(&token).is_ok());
}

#[test]
fn spare_bits_at_the_end_of_a_part_are_refused() {
    // 64 bytes of signature are 86 characters: the last carries 4 unused bits.
    let gateway = Gateway::with(KeyAlgorithm::ES256);
    let token = gateway.mint();
    let (rest, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = alphabet.find(last).unwrap() / 16 * 16;
    let same_bytes = &alphabet[group + 1..group + 16];
    assert_eq!(&alphabet[group..=group], last);

    for spelling in same_bytes.chars() {
        assert_eq!(gateway.verify(&format!("{rest}{spelling}")).map(drop), Err(VerifyError::Malformed));
    }
}

/// C7: size is bounded before anything is parsed.
#[test]
fn token_of_more_than_8_kib_is_refused_despite_a_valid_signature() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let token_with = |padding: usize| {
        let payload = with(claims(), "padding", json!("x".repeat(padding))).to_string();
        gateway.forge(&gateway.header().to_string(), &payload)
    };
    let longest = (0..8192).rev().map(token_with).find(|token| token.len() <= 8192).unwrap();

    assert!(gateway.verify(&longest).is_ok());
    for padding in [8192, 1 << 20] {
        assert_eq!(gateway.verify(&token_with(padding)).map(drop), Err(VerifyError::Malformed), "{padding}");
    }
}

static TARGETS: LazyLock<Vec<(Gateway, String)>> = LazyLock::new(|| {
    ALGORITHMS
        .map(Gateway::with)
        .into_iter()
        .map(|gateway| {
            let token = gateway.mint();
            (gateway, token)
        })
        .collect()
});

proptest! {
    #[test]
    fn changed_token_never_verifies(
        target in 0..4_usize,
        at in any::<prop::sample::Index>(),
        until in any::<prop::sample::Index>(),
        bit in 0..7_u32,
        kind in 0..5_u8,
        text in "[A-Za-z0-9_.-]{1,8}",
    ) {
        let (gateway, token) = &TARGETS[target];
        let (at, until) = (at.index(token.len()), until.index(token.len()));
        let (from, to) = (at.min(until), at.max(until));
        let mut changed = token.clone().into_bytes();
        match kind {
            0 => changed[at] ^= 1 << bit,
            1 => changed.truncate(at),
            2 => drop(changed.drain(from..=to)),
            3 => drop(changed.splice(from..from, text.bytes())),
            _ => {
                let other = TARGETS[(target + 1) % 4].1.as_bytes();
                changed.splice(from.., other[from.min(other.len())..].iter().copied());
            }
        }
        prop_assume!(changed != token.as_bytes());

        let changed = String::from_utf8(changed).unwrap();
        prop_assert!(gateway.verify(&changed).is_err(), "{changed}");
    }

    #[test]
    fn verification_never_panics(text in "\\PC{0,200}", parts in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
        let gateway = &TARGETS[0].0;
        prop_assert!(gateway.verify(&text).is_err());
        prop_assert!(gateway.verify(&parts).is_err());
    }
}
