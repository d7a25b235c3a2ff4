//! Which program of the business sends a request to the internal listener: by its token.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHORIZATION};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::wechat_api::WeChatApiAccess;
use crate::config::{self, Findings, InternalPermission};
use crate::digest::sha256;

/// Shortest token, in bytes. A shorter one could be guessed.
const MIN_TOKEN_BYTES: usize = 16;
/// Longest name, in bytes: it is in every line of the audit log.
const MAX_NAME_BYTES: usize = 64;

/// The programs of the business. Empty if there is no internal listener.
#[derive(Debug, Default)]
pub struct InternalClients {
    clients: Vec<InternalClient>,
    /// The name of the client that calls WeChat's API at an address of its own.
    alias: Option<String>,
}

/// A program of the business.
pub struct InternalClient {
    name: String,
    /// Not the token: a hash has always the same length, so a comparison takes always the same
    /// time.
    token_hash: [u8; 32],
    may: Vec<InternalPermission>,
    wechat_api: Option<WeChatApiAccess>,
}

impl InternalClients {
    /// Reads the tokens and checks the clients.
    pub fn build(
        config: Option<&config::Internal>,
        apps: &BTreeMap<String, config::App>,
        findings: &mut Findings,
    ) -> Option<Self> {
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
                let wechat_api = WeChatApiAccess::build(client, apps, &at, findings);
                let (name, may) = (client.name.clone(), client.may.clone());
                clients.push(InternalClient { name, token_hash, may, wechat_api });
            }
            check_alias(config, findings);
            let alias = config.wechat_alias.as_ref().map(|alias| alias.client.clone());
            Some(Self { clients, alias })
        })
    }

    /// Finds the client whose token a request carries; `None` if it carries none, two, or one that
    /// no client has.
    pub fn find(&self, headers: &HeaderMap) -> Option<&InternalClient> {
        self.with_token(credentials(headers, &AUTHORIZATION, "bearer")?)
    }

    /// As [`InternalClients::find`], for a program that uses the listener as a proxy and shows the
    /// client's name and token: `Proxy-Authorization: Basic …`. See RFC 7617.
    pub fn find_proxied(&self, headers: &HeaderMap) -> Option<&InternalClient> {
        let encoded = credentials(headers, &PROXY_AUTHORIZATION, "basic")?;
        let text = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let (name, token) = str::from_utf8(&text).ok()?.split_once(':')?;
        self.with_token(token).filter(|client| client.name == name)
    }

    /// The client that calls WeChat's API at an address of its own, without a credential.
    pub fn of_alias(&self) -> Option<&InternalClient> {
        let name = self.alias.as_ref()?;
        self.clients.iter().find(|client| client.name == *name)
    }

    fn with_token(&self, token: &str) -> Option<&InternalClient> {
        let hash = sha256(&[token.as_bytes()]);
        let mut found = None;
        // All of them, so that the time does not tell which client came near.
        for client in &self.clients {
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

    /// Which calls of WeChat's API the client may make.
    pub const fn wechat_api(&self) -> Option<&WeChatApiAccess> {
        self.wechat_api.as_ref()
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

/// The credentials of a header that a request has once, if they are of this scheme.
fn credentials<'h>(headers: &'h HeaderMap, name: &HeaderName, scheme: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (given, credentials) = value.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credentials.trim_matches(' '))
}

/// Checks the address where a client shows no token.
fn check_alias(config: &config::Internal, findings: &mut Findings) {
    let Some(alias) = &config.wechat_alias else { return };
    let address = alias.address;
    if !address.ip().to_canonical().is_loopback() {
        findings
            .error(
                "internal.wechat_alias.address",
                format!("`{address}` is not loopback: everybody who reaches it could call WeChat's API"),
            )
            .hint("write a loopback address such as `127.0.0.1:80`");
    }
    let client = config.clients.iter().find(|client| client.name == alias.client);
    if !client.is_some_and(|client| client.may.contains(&InternalPermission::WechatApi)) {
        findings
            .error(
                "internal.wechat_alias.client",
                format!("`{}` is no client that may call WeChat's API", alias.client),
            )
            .hint("name one of `internal.clients` whose `may` has `wechat_api`");
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
            wechat_api: None,
        }
    }

    fn build(clients: Vec<config::InternalClient>) -> Result<InternalClients, String> {
        let address = "127.0.0.1:1".parse().unwrap();
        let config = config::Internal { address, tls: None, clients, wechat_alias: None };
        let mut findings = Findings::default();
        let built = InternalClients::build(Some(&config), &BTreeMap::new(), &mut findings);
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
    fn proxied_client_is_found_by_its_name_and_token() {
        let clients =
            build(vec![client("crm", "crm-token-crm-token"), client("shop", "shop:token-shop-to")]).unwrap();
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (values, expected) in [
            (vec![basic("crm:crm-token-crm-token")], Some("crm")),
            (vec![basic("shop:shop:token-shop-to").replace("Basic", "bASIC")], Some("shop")),
            (vec![basic("shop:crm-token-crm-token")], None),
            (vec![basic("crm:crm-token-crm-tokex")], None),
            (vec![basic("crm")], None),
            (vec![basic(":crm-token-crm-token")], None),
            (vec!["Bearer crm-token-crm-token".to_owned()], None),
            (vec!["Basic crm:crm-token-crm-token".to_owned()], None),
            (vec![basic("crm:crm-token-crm-token"), basic("crm:crm-token-crm-token")], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(PROXY_AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }

            assert_eq!(clients.find_proxied(&headers).map(InternalClient::name), expected, "{values:?}");
        }
    }

    #[test]
    fn an_address_without_a_credential_is_loopback_and_of_a_client_that_may_call() {
        let caller = config::InternalClient {
            may: vec![InternalPermission::WechatApi],
            ..client("crm", "crm-token-crm-token")
        };
        for (address, name, expected) in [
            ("127.0.0.1:80", "crm", None),
            ("[::1]:80", "crm", None),
            ("[::ffff:127.0.0.1]:80", "crm", None),
            ("0.0.0.0:80", "crm", Some("internal.wechat_alias.address: ")),
            ("192.0.2.1:80", "crm", Some("internal.wechat_alias.address: ")),
            ("[::]:80", "crm", Some("internal.wechat_alias.address: ")),
            ("127.0.0.1:80", "shop", Some("internal.wechat_alias.client: ")),
            ("127.0.0.1:80", "other", Some("internal.wechat_alias.client: ")),
        ] {
            let config = config::Internal {
                address: "127.0.0.1:1".parse().unwrap(),
                tls: None,
                clients: vec![caller.clone(), client("shop", "shop-token-shop-tok")],
                wechat_alias: Some(config::WeChatAlias {
                    address: address.parse().unwrap(),
                    client: name.into(),
                }),
            };
            let mut findings = Findings::default();

            check_alias(&config, &mut findings);

            let said = findings.iter().map(|finding| format!("{finding}\n")).collect::<String>();
            assert_eq!(said.is_empty(), expected.is_none(), "{address} {name}: {said}");
            assert!(said.contains(expected.unwrap_or_default()), "{said}");
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
