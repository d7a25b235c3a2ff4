//! The snippets of docs/tokens.md verify a token of the gateway, and refuse what is none.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use crate::common::World;

/// What each language runs: its snippet, and then this. It prints the openid, or `refused`.
const RUNNERS: [(&str, &[&str], &str); 3] = [
    (
        "python",
        &["/usr/bin/python3", "-c"],
        "
import sys
for token in sys.argv[1:]:
    try:
        print(verify(token)['openid'])
    except jwt.PyJWTError:
        print('refused')
",
    ),
    (
        "js",
        &["node", "-e"],
        "
(async () => {
  for (const token of process.argv.slice(1)) {
    await verifyToken(token, URL_OF_KEYS).then(claims => console.log(claims.openid), () => console.log('refused'))
  }
})()
",
    ),
    (
        "php",
        &["php", "-r"],
        "
foreach (array_slice($argv, 1) as $token) {
    try {
        echo verify_token($token, URL_OF_KEYS)['openid'], PHP_EOL;
    } catch (Throwable $error) {
        echo 'refused', PHP_EOL;
    }
}
",
    ),
];

#[test]
fn the_snippets_of_the_documentation_accept_a_token_and_refuse_what_is_none() {
    let world = World::new();
    let token = world.sign_in("alice");
    let keys = format!("http://{}/.well-known/jwks.json", world.address());
    let openid = part(&token, 1)["openid"].as_str().unwrap().to_owned();
    let tokens = [vec![token.clone()], what_is_none(&world, &token)].concat();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tokens.md")).unwrap();

    for (language, command, runner) in RUNNERS {
        let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
        let (snippet, _) = rest.split_once("```").unwrap();
        let snippet = snippet.replace("https://shop.example.com/.well-known/jwks.json", &keys);
        let code = format!("{}{}", snippet.replace("<?php", ""), runner)
            .replace("URL_OF_KEYS", &format!("'{keys}'"));

        let output = Command::new(command[0])
            .args(&command[1..])
            .arg(&code)
            .args(&tokens)
            .output()
            .unwrap_or_else(|error| panic!("{language}: {error}"));

        let mut expected = vec!["refused"; tokens.len()];
        expected[0] = &openid;
        let printed = String::from_utf8_lossy(&output.stdout);
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(printed, expected, "{language}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Tokens that each miss one thing; the last ones are signed with the gateway's own key.
fn what_is_none(world: &World, token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let header = part(token, 0);
    let claims = part(token, 1);
    let none = encode(&with(&header, "alg", json!("none")));
    let mallory = encode(&with(&claims, "openid", json!("o-mallory")));
    let mut texts = vec![
        format!("{}.{}.{}", parts[0], mallory, parts[2]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{}.{}", parts[0], parts[1]),
    ];
    let pem = fs::read(world.data.path().join("state/signing-key.pem")).unwrap();
    let key = EncodingKey::from_ec_pem(&pem).unwrap();
    let now = claims["iat"].as_u64().unwrap();
    for (header, claims) in [
        (header.clone(), with(&claims, "exp", json!(now - 60))),
        (header.clone(), with(&claims, "aud", json!("another"))),
        (header.clone(), with(&claims, "iss", json!("another"))),
        (with(&header, "typ", json!("logout+jwt")), claims.clone()),
        (with(&header, "kid", json!("another")), claims.clone()),
    ] {
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::ES256).unwrap();
        texts.push(format!("{message}.{signature}"));
    }
    texts
}

fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

fn with(object: &Value, member: &str, value: Value) -> Value {
    let mut object = object.clone();
    object[member] = value;
    object
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
