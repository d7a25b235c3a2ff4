//! Attacks on tokens (docs/threat-model.md, C1 to C18), with tokens forged by a second JWT library.
#![expect(clippy::string_slice, reason = "a test may cut texts it made itself")]

mod attack;
mod key;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{KeyAlgorithm, SecretSource, SigningKey};
use crate::entropy::SystemEntropy;
use crate::identity::{AppId, OpenId, Subject, UnionId};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The end of a session that outlives every token.
const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX);
const SECRET: &str = "an HS256 secret of more than thirty-two bytes";

/// A gateway with one key, and the same key in the hands of the second library.
struct Gateway {
    tokens: Tokens,
    algorithm: Algorithm,
    key: EncodingKey,
    _folder: TempDir,
}

impl Gateway {
    fn with(algorithm: KeyAlgorithm) -> Self {
        Self::of_type(algorithm, TokenType::AtJwt)
    }

    fn of_type(algorithm: KeyAlgorithm, token_type: TokenType) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, algorithm, encoding) = make_key(algorithm, "k1", folder.path());
        let config = config::Tokens { keys: vec![key], token_type, ..config::Tokens::default() };
        Self { tokens: build(&config, folder.path()), algorithm, key: encoding, _folder: folder }
    }

    /// Signs whatever header and claims, with the gateway's own key.
    fn forge(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": format!("{:?}", self.algorithm), "kid": "k1" })
    }

    fn verify(&self, token: &str) -> Result<VerifiedClaims, VerifyError> {
        self.tokens.verify(token, NOW)
    }

    fn mint(&self) -> String {
        self.tokens.mint(&identity(), &session(), FOREVER, NOW, &SystemEntropy).unwrap().expose().to_owned()
    }
}

fn make_key(algorithm: KeyAlgorithm, kid: &str, folder: &Path) -> (SigningKey, Algorithm, EncodingKey) {
    if algorithm == KeyAlgorithm::HS256 {
        let secret = Some(SecretSource::Inline(SECRET.into()));
        let key = SigningKey { kid: kid.into(), algorithm, file: None, secret };
        return (key, Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes()));
    }
    let pem = generate_key(algorithm).unwrap().pem;
    let file = folder.join(format!("{kid}.pem"));
    write_private(&file, pem.expose_secret());
    let pem = pem.expose_secret().as_bytes();
    let (algorithm_there, encoding) = match algorithm {
        KeyAlgorithm::ES256 => (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
        KeyAlgorithm::EdDSA => (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
        _ => (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
    };
    (
        SigningKey { kid: kid.into(), algorithm, file: Some(file.into()), secret: None },
        algorithm_there,
        encoding.unwrap(),
    )
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn build(config: &config::Tokens, data_dir: &Path) -> Tokens {
    let mut findings = Findings::default();
    let tokens = Tokens::build(config, data_dir, OnMissingKey::Create, &SystemEntropy, &mut findings);
    tokens.unwrap_or_else(|| panic!("{:?}", problems(&findings)))
}

fn problems(findings: &Findings) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn identity() -> Identity {
    let subject =
        Subject { appid: AppId::parse("wx0123456789").unwrap(), openid: OpenId::parse("o-Alice_1").unwrap() };
    Identity { subject, unionid: Some(UnionId::parse("u-Alice").unwrap()) }
}

fn session() -> SessionId {
    SessionId::parse("session-1").unwrap()
}

/// The claims of a token minted at [`NOW`].
fn claims() -> Value {
    json!({
        "iss": "menshen", "aud": "menshen", "sub": "wx0123456789:o-Alice_1", "jti": "j1", "sid": "session-1",
        "exp": NOW.seconds() + 7200, "iat": NOW.seconds(), "nbf": NOW.seconds(),
        "client_id": "wx0123456789", "appid": "wx0123456789", "openid": "o-Alice_1", "unionid": "u-Alice",
    })
}

/// `object` with one member set, or removed where `value` is null.
fn with(mut object: Value, member: &str, value: Value) -> Value {
    match value {
        Value::Null => object.as_object_mut().unwrap().remove(member),
        value => object.as_object_mut().unwrap().insert(member.into(), value),
    };
    object
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

const ALGORITHMS: [KeyAlgorithm; 4] =
    [KeyAlgorithm::ES256, KeyAlgorithm::EdDSA, KeyAlgorithm::RS256, KeyAlgorithm::HS256];

#[test]
fn minted_token_verifies_with_every_algorithm() {
    for algorithm in ALGORITHMS {
        let gateway = Gateway::with(algorithm);

        let claims = gateway.verify(&gateway.mint()).unwrap();

        assert_eq!(claims.identity(), &identity(), "{algorithm:?}");
        assert_eq!(claims.session(), &session(), "{algorithm:?}");
        assert_eq!(claims.expires_at(), NOW.plus(Duration::from_secs(7200)), "{algorithm:?}");
    }
}

#[test]
fn minted_token_has_the_claims_of_the_contract() {
    let gateway = Gateway::with(KeyAlgorithm::ES256);

    let token = gateway.mint();

    let parts: Vec<Value> = token
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!(parts[0], gateway.header());
    assert_eq!(parts[1]["jti"].as_str().unwrap().len(), 22);
    assert_eq!(with(parts[1].clone(), "jti", json!("j1")), claims());
}

#[test]
fn unknown_unionid_is_left_out_of_the_token() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let stranger = Identity { unionid: None, ..identity() };

    let token = gateway.tokens.mint(&stranger, &session(), FOREVER, NOW, &SystemEntropy).unwrap();

    let payload = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1).unwrap()).unwrap();
    assert!(!String::from_utf8(payload).unwrap().contains("unionid"));
    assert_eq!(gateway.verify(token.expose()).unwrap().identity(), &stranger);
}

#[test]
fn minted_token_reports_its_lifetime_and_is_hidden_in_debug() {
    let gateway = Gateway::with(KeyAlgorithm::EdDSA);

    let minted = gateway.tokens.mint(&identity(), &session(), FOREVER, NOW, &SystemEntropy).unwrap();

    assert_eq!(minted.expires_in, Duration::from_secs(7200));
    assert_eq!(minted.expires_at, NOW.plus(Duration::from_secs(7200)));
    assert!(!format!("{minted:?}").contains(&minted.expose()[..20]));
}

#[test]
fn token_expires_no_later_than_its_session() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    for (session_millis, seconds) in [(7_200_000, 7200), (7_199_999, 7199), (1_500, 1), (999, 0), (0, 0)] {
        let end = NOW.plus(Duration::from_millis(session_millis));

        let minted = gateway.tokens.mint(&identity(), &session(), end, NOW, &SystemEntropy).unwrap();

        assert_eq!(minted.expires_at, NOW.plus(Duration::from_secs(seconds)), "{session_millis} ms");
        assert_eq!(minted.expires_in, Duration::from_secs(seconds), "{session_millis} ms");
        let verified = gateway.verify(minted.expose()).map(|claims| claims.expires_at());
        let expected = if seconds > 0 { Ok(minted.expires_at) } else { Err(VerifyError::Expired) };
        assert_eq!(verified, expected, "{session_millis} ms");
    }
}

#[test]
fn minting_fails_without_randomness() {
    #[derive(Debug)]
    struct Dry;
    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
            Err(NoEntropy)
        }
    }
    let gateway = Gateway::with(KeyAlgorithm::HS256);

    let minted = gateway.tokens.mint(&identity(), &session(), FOREVER, NOW, &Dry);

    assert!(matches!(minted, Err(MintError::NoEntropy(_))));
}

#[test]
fn two_tokens_of_one_login_differ() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);

    assert_ne!(gateway.mint(), gateway.mint());
}

#[test]
fn tokens_verify_with_another_library_and_our_published_keys() {
    for algorithm in [KeyAlgorithm::ES256, KeyAlgorithm::EdDSA, KeyAlgorithm::RS256] {
        let gateway = Gateway::with(algorithm);
        let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&gateway.tokens.jwks()).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(jwks.find("k1").unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(gateway.algorithm);
        validation.set_audience(&["menshen"]);
        validation.set_issuer(&["menshen"]);

        validation.validate_exp = false; // The other library reads the machine's clock.
        let decoded = jsonwebtoken::decode::<Value>(gateway.mint(), &key, &validation).unwrap();

        assert_eq!(decoded.claims["openid"], "o-Alice_1", "{algorithm:?}");
    }
}

#[test]
fn a_token_has_the_configured_type_and_another_type_is_no_token() {
    let mint = |gateway: &Gateway| {
        let token = gateway.mint();
        let header: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap())
                .unwrap();
        (header["typ"].as_str().unwrap().to_owned(), token)
    };
    let strict = Gateway::with(KeyAlgorithm::HS256);
    let lenient = Gateway::of_type(KeyAlgorithm::HS256, TokenType::Jwt);

    let (typ, at_jwt) = mint(&strict);
    assert_eq!(typ, "at+jwt");
    let (typ, jwt) = mint(&lenient);
    assert_eq!(typ, "JWT");

    assert!(lenient.verify(&jwt).is_ok());
    assert!(lenient.verify(&at_jwt).is_ok(), "a change signs no user out");
    assert_eq!(strict.verify(&jwt).unwrap_err(), VerifyError::Malformed);
    for typ in ["jwt", "logout+jwt", "dpop+jwt", "", "at+JWT"] {
        let token =
            lenient.forge(&with(strict.header(), "typ", json!(typ)).to_string(), &claims().to_string());
        assert_eq!(lenient.verify(&token).unwrap_err(), VerifyError::Malformed, "{typ}");
    }
}

#[test]
fn token_is_valid_from_its_issue_to_just_before_its_expiry() {
    let gateway = Gateway::with(KeyAlgorithm::HS256);
    let token = gateway.mint();
    let skew = Duration::from_secs(30);
    let lifetime = Duration::from_secs(7200);
    let before = |duration: Duration| Timestamp::from_millis(NOW.millis() - duration.as_millis() as u64);
    let table = [
        (before(skew + Duration::from_millis(1)), Err(VerifyError::NotYetValid)),
        (before(skew), Ok(())),
        (NOW, Ok(())),
        (NOW.plus(lifetime - Duration::from_millis(1)), Ok(())),
        (NOW.plus(lifetime), Err(VerifyError::Expired)),
        (NOW.plus(lifetime + skew), Err(VerifyError::Expired)),
        (Timestamp::from_millis(u64::MAX), Err(VerifyError::Expired)),
        (Timestamp::default(), Err(VerifyError::NotYetValid)),
    ];

    for (now, expected) in table {
        assert_eq!(gateway.tokens.verify(&token, now).map(drop), expected, "at {now:?}");
    }
}

#[test]
fn subject_of_a_token_is_found_when_it_has_expired_and_never_without_its_signature() {
    let gateway = Gateway::with(KeyAlgorithm::ES256);
    let token = gateway.mint();
    let expired = gateway.forge(&gateway.header().to_string(), &with(claims(), "exp", json!(1)).to_string());
    let (message, _) = token.rsplit_once('.').unwrap();
    let (_, of_another) = expired.rsplit_once('.').unwrap();

    assert_eq!(gateway.tokens.past_subject(&token), Ok(identity().subject));
    assert_eq!(gateway.tokens.past_subject(&expired), Ok(identity().subject));
    let forged = format!("{message}.{of_another}");
    assert_eq!(gateway.tokens.past_subject(&forged), Err(VerifyError::BadSignature));
    assert_eq!(
        Gateway::with(KeyAlgorithm::ES256)
            .tokens
            .past_subject(&token)
            .map_err(|error| matches!(error, VerifyError::UnknownKey | VerifyError::BadSignature)),
        Err(true)
    );
    let foreign =
        gateway.forge(&gateway.header().to_string(), &with(claims(), "iss", json!("x")).to_string());
    assert_eq!(gateway.tokens.past_subject(&foreign), Err(VerifyError::WrongIssuer));
}
