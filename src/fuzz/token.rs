//! Drives the verification of access tokens.

use std::path::Path;
use std::sync::LazyLock;

use crate::clock::Timestamp;
use crate::config::{self, Findings, KeyAlgorithm, SecretSource, SigningKey};
use crate::entropy::{Entropy, NotRandom, SystemEntropy};
use crate::identity::{AppId, Identity, OpenId, SessionId, Subject};
use crate::key_file::OnMissingKey;
use crate::token::Tokens;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A gateway and one of its tokens.
struct FuzzGateway {
    tokens: Tokens,
    token: String,
}

/// One gateway with a secret, whose token is the same in every run, and one with a key pair.
static GATEWAYS: LazyLock<Vec<FuzzGateway>> = LazyLock::new(|| {
    let secret = SecretSource::Inline("a secret of more than thirty-two bytes".into());
    let key =
        SigningKey { kid: "k1".into(), algorithm: KeyAlgorithm::HS256, file: None, secret: Some(secret) };
    let fixed = config::Tokens { keys: vec![key], ..config::Tokens::default() };
    [(fixed, &NotRandom as &dyn Entropy), (config::Tokens::default(), &SystemEntropy)]
        .into_iter()
        .filter_map(|(config, entropy)| gateway(&config, entropy))
        .collect()
});

pub(super) fn token(data: &[u8]) {
    assert!(GATEWAYS.len() == 2, "a gateway was not built");
    for FuzzGateway { tokens, token } in &*GATEWAYS {
        assert!(tokens.verify(token, NOW).is_ok(), "the token that is changed here is not valid");
        for text in [String::from_utf8_lossy(data).into_owned(), changed(token, data)] {
            // An elliptic-curve signature has two valid forms; the signed text has one.
            let is_minted =
                text == *token || signed_part(&text) == signed_part(token) && is_of_key_pair(token);
            let verified = tokens.verify(&text, NOW);
            assert!(is_minted || verified.is_err(), "{text} verifies");
        }
    }
}

fn gateway(config: &config::Tokens, entropy: &dyn Entropy) -> Option<FuzzGateway> {
    let folder = Path::new("/nonexistent");
    let tokens = Tokens::build(config, folder, OnMissingKey::Ephemeral, entropy, &mut Findings::default())?;
    let subject = Subject { appid: AppId::parse("wx1").ok()?, openid: OpenId::parse("o-Alice").ok()? };
    let identity = Identity { subject, unionid: None };
    let end = Timestamp::from_millis(u64::MAX);
    let minted = tokens.mint(&identity, &SessionId::parse("s1").ok()?, end, NOW, entropy).ok()?;
    Some(FuzzGateway { token: minted.expose().to_owned(), tokens })
}

/// The token with the input inserted: two bytes for the place, one for the number of removed bytes.
fn changed(token: &str, data: &[u8]) -> String {
    let [high, low, left_out, text @ ..] = data else { return String::new() };
    let at = usize::from(u16::from_be_bytes([*high, *low])) % (token.len() + 1);
    let bytes = token.as_bytes();
    let before = bytes.iter().take(at);
    let after = bytes.iter().skip(at + usize::from(*left_out));
    let bytes: Vec<u8> = before.chain(text).chain(after).copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn signed_part(token: &str) -> Option<&str> {
    token.rsplit_once('.').map(|(signed, _)| signed)
}

fn is_of_key_pair(token: &str) -> bool {
    GATEWAYS.last().is_some_and(|gateway| gateway.token == token)
}

/// The token that is the same in every run.
#[cfg(test)]
pub(super) fn fixed_token() -> Vec<u8> {
    GATEWAYS[0].token.clone().into_bytes()
}
