//! Which program of the business sends a request to the internal listener: by its token.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::ExposeSecret as _;

use crate::config::{self, Findings, InternalPermission};
use crate::digest::sha256;

/// Shortest token, in bytes. A shorter one could be guessed.
const MIN_TOKEN_BYTES: usize = 16;
/// Longest name, in bytes: it is in every line of the audit log.
const MAX_NAME_BYTES: usize = 64;

/// The programs of the business. Empty if there is no internal listener.
#[derive(Debug, Default)]
pub struct InternalClients(Vec<InternalClient>);

/// A program of the business.
pub struct InternalClient {
    name: String,
    /// Not the token: a hash has always the same length, so a comparison takes always the same
    /// time.
    token_hash: [u8; 32],
    may: Vec<InternalPermission>,
}

impl InternalClients {
    /// Reads the tokens and checks the clients.
    pub fn build(config: Option<&config::Internal>, findings: &mut Findings) -> Option<Self> {
        let Some(config) = config else { return Some(Self::default()) };
        findings.scope(|findings| {
            let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
            let mut clients = Vec::with_capacity(config.clients.len());
            for (index, client) in config.clients.iter().enumerate() {
                let at = format!("internal.clients[{index}]");
                check_name(&client.name, &mut names, &at, findings);
                let Some(token_hash) = read_token(client, &at, findings) else { continue };
                if !hashes.insert(token_hash) {
                    findings
                        .error(format!("{at}.token"), "two clients have this token")
                        .hint("give each client a token of its own: the audit log names them by it");
                }
                let (name, may) = (client.name.clone(), client.may.clone());
                clients.push(InternalClient { name, token_hash, may });
            }
            Some(Self(clients))
        })
    }

    /// Finds the client whose token a request carries; `None` if it carries none, two, or one that
    /// no client has.
    pub fn find(&self, headers: &HeaderMap) -> Option<&InternalClient> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let hash = sha256(&[token.trim_matches(' ').as_bytes()]);
        let mut found = None;
        // All of them, so that the time does not tell which client came near.
        for client in &self.0 {
            if verify_slices_are_equal(&client.token_hash, &hash).is_ok() {
                found = Some(client);
            }
        }
        found
    }
}

impl InternalClient {
    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the client may ask for this.
    pub fn may(&self, permission: InternalPermission) -> bool {
        self.may.contains(&permission)
    }
}

impl fmt::Debug for InternalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalClient").field("name", &self.name).finish_non_exhaustive()
    }
}

fn check_name<'n>(name: &'n str, names: &mut BTreeSet<&'n str>, at: &str, findings: &mut Findings) {
    let is_valid = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !is_valid {
        findings
            .error(format!("{at}.name"), format!("`{name}` is not a name of a client"))
            .hint("write 1 to 64 characters of A-Z a-z 0-9 . _ -");
    } else if !names.insert(name) {
        findings
            .error(format!("{at}.name"), format!("`{name}` names two clients"))
            .hint("the audit log names clients: give each a name of its own");
    }
}

fn read_token(client: &config::InternalClient, at: &str, findings: &mut Findings) -> Option<[u8; 32]> {
    let at = format!("{at}.token");
    let token = client.token.read(&at, findings)?;
    let token = token.expose_secret();
    if token.len() < MIN_TOKEN_BYTES {
        findings
            .error(at, format!("the token has {} bytes, and could be guessed", token.len()))
            .hint("make one with `openssl rand -base64 32`");
        return None;
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        findings
            .error(at, "the token has characters that cannot stand in `Authorization`")
            .hint("make one with `openssl rand -base64 32`");
        return None;
    }
    Some(sha256(&[token.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::SecretSource;

    fn client(name: &str, token: &str) -> config::InternalClient {
        config::InternalClient {
            name: name.into(),
            token: SecretSource::Inline(token.into()),
            may: vec![InternalPermission::Bind],
        }
    }

    fn build(clients: Vec<config::InternalClient>) -> Result<InternalClients, String> {
        let config = config::Internal { address: "127.0.0.1:1".parse().unwrap(), tls: None, clients };
        let mut findings = Findings::default();
        let built = InternalClients::build(Some(&config), &mut findings);
        built.ok_or_else(|| findings.iter().map(|finding| format!("{finding}\n")).collect())
    }

    #[test]
    fn client_is_found_by_its_one_token() {
        let (crm, shop) = ("crm-token-crm-token", "shop-token-shop-tok");
        let clients = build(vec![client("crm", crm), client("shop", shop)]).unwrap();
        for (values, expected) in [
            (vec![format!("Bearer {crm}")], Some("crm")),
            (vec![format!("bearer  {shop}")], Some("shop")),
            (vec![], None),
            (vec![format!("Bearer {crm}"), format!("Bearer {crm}")], None),
            (vec![format!("Bearer {crm}x")], None),
            (vec![format!("Bearer {crm} {crm}")], None),
            (vec![crm.to_owned()], None),
            (vec![format!("Basic {crm}")], None),
            (vec!["Bearer ".to_owned()], None),
            (vec!["Bearer".to_owned()], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }

            assert_eq!(clients.find(&headers).map(InternalClient::name), expected, "{values:?}");
        }
    }

    #[test]
    fn clients_that_cannot_be_told_apart_or_guessed_are_refused() {
        let good = "0123456789abcdef";
        for (clients, expected) in [
            (vec![client("crm", "0123456789abcde")], "internal.clients[0].token: the token has 15 bytes"),
            (vec![client("crm", "0123456789 abcdef")], "internal.clients[0].token: the token has characters"),
            (vec![client("", good)], "internal.clients[0].name: "),
            (vec![client("uid:0", good)], "internal.clients[0].name: "),
            (vec![client("a", good), client("b", good)], "internal.clients[1].token: two clients"),
            (vec![client("a", good), client("a", "another-token-of-it")], "internal.clients[1].name: "),
        ] {
            let said = build(clients).unwrap_err();

            assert!(said.contains(expected), "{said}");
        }
    }
}
