//! The section `store.redis`, checked and read once: the settings of a connection.

use std::fs;
use std::path::Path;
use std::time::Duration;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion,
    RedisConnectionInfo, TlsCertificates, io::tcp::TcpSettings,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{Findings, RedisStore, RedisTls, RedisTopology, SecretSource, warn_of_exposed_file};

/// A server's host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// The user and password of the gateway on a server.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
}

/// The section, checked.
pub(super) struct Section {
    pub(super) topology: Topology,
    pub(super) addresses: Vec<Address>,
    pub(super) login: Login,
    pub(super) sentinel_login: Login,
    pub(super) database: u32,
    pub(super) tls: Option<TlsCertificates>,
    pub(super) prefix: String,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) max_in_flight: usize,
    pub(super) durability: Durability,
}

/// How the gateway finds the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Standalone,
    Sentinel { master_name: String },
    Cluster,
}

/// What must have stored a write before it counts as done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durability {
    pub(super) replicas: u32,
    pub(super) fsync: bool,
    pub(super) timeout: Duration,
}

impl Durability {
    pub(super) fn is_awaited(self) -> bool {
        self.replicas > 0 || self.fsync
    }
}

impl Section {
    /// Checks the section and reads its secrets and certificates; `None` if a finding says what is
    /// wrong.
    pub(super) fn build(config: &RedisStore, findings: &mut Findings) -> Option<Self> {
        findings.scope(|findings| {
            check_limits(config, findings);
            check_prefix(&config.prefix, findings);
            let addresses = addresses(&config.addresses, findings);
            let topology = topology(config, findings);
            let login = Login::read("", config.username.as_ref(), config.password.as_ref(), findings);
            let sentinel_login = Login::read(
                "sentinel_",
                config.sentinel_username.as_ref(),
                config.sentinel_password.as_ref(),
                findings,
            );
            let tls = config.tls.as_ref().map(|tls| certificates(tls, findings));
            Some(Self {
                topology: topology?,
                addresses,
                login,
                sentinel_login,
                database: config.database,
                tls,
                prefix: config.prefix.clone(),
                connect_timeout: *config.connect_timeout,
                timeout: *config.timeout,
                max_in_flight: config.max_in_flight,
                durability: Durability {
                    replicas: config.durability.replicas,
                    fsync: config.durability.fsync,
                    timeout: *config.durability.timeout,
                },
            })
        })
    }

    /// How to connect to a server to read and write rows.
    pub(super) fn server(&self, address: &Address) -> redis::RedisResult<ConnectionInfo> {
        self.connection(address, &self.login, self.database, ProtocolVersion::RESP3)
    }

    /// How to connect to a server only for its messages.
    pub(super) fn subscriber(&self, address: &Address) -> redis::RedisResult<ConnectionInfo> {
        self.connection(address, &self.login, 0, ProtocolVersion::RESP2)
    }

    /// How to connect to a sentinel.
    pub(super) fn sentinel(&self, address: &Address) -> redis::RedisResult<ConnectionInfo> {
        self.connection(address, &self.sentinel_login, 0, ProtocolVersion::RESP2)
    }

    fn connection(
        &self,
        address: &Address,
        login: &Login,
        database: u32,
        protocol: ProtocolVersion,
    ) -> redis::RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(protocol)
            .set_db(database.into())
            .set_skip_set_lib_name();
        if let Some(username) = &login.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password.expose_secret());
        }
        let (host, port) = (address.host.clone(), address.port);
        let info = match &self.tls {
            None => ConnectionAddr::Tcp(host, port).into_connection_info()?,
            Some(certificates) => {
                let plain = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                let client = Client::build_with_tls(plain.into_connection_info()?, certificates.clone())?;
                client.get_connection_info().clone()
            }
        };
        Ok(info.set_redis_settings(settings).set_tcp_settings(self.tcp()))
    }

    /// A server whose machine is gone acknowledges no packet. Without this timeout its connection
    /// stays for minutes.
    pub(super) fn tcp(&self) -> TcpSettings {
        let patience = (self.timeout * 4).max(Duration::from_secs(2));
        TcpSettings::default().set_nodelay(true).set_user_timeout(patience)
    }
}

impl Login {
    fn read(
        kind: &str,
        username: Option<&String>,
        password: Option<&SecretSource>,
        findings: &mut Findings,
    ) -> Self {
        if username.is_some() && password.is_none() {
            findings
                .error(format!("store.redis.{kind}username"), "a user needs a password")
                .hint(format!("write `{kind}password` too"));
        }
        let password =
            password.and_then(|source| source.read(&format!("store.redis.{kind}password"), findings));
        Self { username: username.cloned(), password }
    }
}

fn check_limits(config: &RedisStore, findings: &mut Findings) {
    let durability = &config.durability;
    let timeouts = [
        ("connect_timeout", config.connect_timeout, "no connection can be made in time"),
        ("timeout", config.timeout, "no answer can come in time"),
        // 0 means "without end" to Redis.
        ("durability.timeout", durability.timeout, "a write waits without end for a replica that is gone"),
    ];
    for (key, timeout, reason) in timeouts {
        if timeout.as_millis() == 0 {
            findings
                .error(format!("store.redis.{key}"), format!("`{timeout}`: {reason}"))
                .hint("write a duration such as `500ms`");
        } else if timeout.as_secs() >= 60 {
            findings
                .error(format!("store.redis.{key}"), format!("`{timeout}`: requests can wait that long"))
                .hint("write less than a minute");
        }
    }
    if config.max_in_flight == 0 || config.max_in_flight > 1_000_000 {
        let reason = format!("`{}` is out of range", config.max_in_flight);
        findings.error("store.redis.max_in_flight", reason).hint("write 1 to 1000000");
    }
}

/// A brace in the prefix moves the hash tag, and with it a row to another slot than its script. The
/// other refused characters are special in the patterns of ACL rules.
fn check_prefix(prefix: &str, findings: &mut Findings) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(is_plain) {
        findings
            .error("store.redis.prefix", format!("`{prefix}` cannot be the prefix of keys"))
            .hint("write 1 to 64 letters, digits, or `-_.:`");
    }
}

fn topology(config: &RedisStore, findings: &mut Findings) -> Option<Topology> {
    let is_sentinel = config.topology == RedisTopology::Sentinel;
    if !is_sentinel {
        let keys = [
            ("master_name", config.master_name.is_some()),
            ("sentinel_username", config.sentinel_username.is_some()),
            ("sentinel_password", config.sentinel_password.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
            findings
                .error(format!("store.redis.{key}"), "only sentinels use this key")
                .hint("remove it, or write `topology: sentinel`");
        }
    }
    match config.topology {
        RedisTopology::Standalone if config.addresses.len() > 1 => {
            findings
                .error("store.redis.addresses", "a standalone server has one address")
                .hint("write one, or another `topology`");
            None
        }
        RedisTopology::Standalone => Some(Topology::Standalone),
        RedisTopology::Sentinel => match config.master_name.as_deref() {
            None | Some("") => {
                findings
                    .error("store.redis.master_name", "the sentinels need the name of the master")
                    .hint("write the name after `sentinel monitor` in sentinel.conf");
                None
            }
            Some(name) => Some(Topology::Sentinel { master_name: name.into() }),
        },
        RedisTopology::Cluster if config.database != 0 => {
            findings
                .error("store.redis.database", format!("a cluster has no database {}", config.database))
                .hint("write `0`");
            None
        }
        RedisTopology::Cluster => Some(Topology::Cluster),
    }
}

fn addresses(texts: &[String], findings: &mut Findings) -> Vec<Address> {
    if texts.is_empty() {
        findings.error("store.redis.addresses", "no address is given").hint("write `host:port`");
    }
    let mut addresses = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match Address::parse(text) {
            Some(address) => addresses.push(address),
            None => {
                findings
                    .error(format!("store.redis.addresses[{index}]"), format!("`{text}` is not an address"))
                    .hint(
                        "write `host:port`, such as `10.0.0.5:6379`, `redis.internal:6379` or `[::1]:6379`",
                    );
            }
        }
    }
    addresses
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                !host.is_empty() && host.len() <= 253 && host.chars().all(is_plain)
            }
        };
        is_host.then(|| Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

fn certificates(config: &RedisTls, findings: &mut Findings) -> TlsCertificates {
    let mut read = |key: &str, file: &Path| {
        fs::read(file)
            .inspect_err(|error| {
                let reason = format!("file `{}` cannot be read: {error}", file.display());
                findings.error(format!("store.redis.tls.{key}"), reason).of_surroundings();
            })
            .ok()
    };
    let root_cert = config.ca_file.as_deref().map(|file| read("ca_file", file).unwrap_or_default());
    let client_tls = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            let pair = (read("certificate", certificate), read("key", key));
            if let (Some(client_cert), Some(client_key)) = pair {
                Some(ClientTlsConfig { client_cert, client_key })
            } else {
                None
            }
        }
        (None, None) => None,
        (given, _) => {
            let (given, missing) =
                if given.is_some() { ("certificate", "key") } else { ("key", "certificate") };
            findings
                .error(format!("store.redis.tls.{given}"), format!("`{missing}` is missing"))
                .hint(format!("write `{missing}` too"));
            None
        }
    };
    let certificates = TlsCertificates { client_tls, root_cert };
    if !findings.has_errors() {
        check_certificates(&certificates, findings);
        if let Some(key) = config.key.as_ref().filter(|_| !findings.has_errors()) {
            warn_of_exposed_file("store.redis.tls.key", key, findings);
        }
    }
    certificates
}

/// Checks the files now. Without this check, a file with no authority is an error only at the first
/// connection.
fn check_certificates(certificates: &TlsCertificates, findings: &mut Findings) {
    let count = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).filter(Result::is_ok).count();
    if certificates.root_cert.as_ref().is_some_and(|pem| count(pem) == 0) {
        findings
            .error("store.redis.tls.ca_file", "there is no certificate in the file")
            .hint("write a PEM file");
        return;
    }
    if certificates.client_tls.as_ref().is_some_and(|client| count(&client.client_cert) == 0) {
        findings
            .error("store.redis.tls.certificate", "there is no certificate in the file")
            .hint("write a PEM file");
        return;
    }
    let address =
        ConnectionAddr::TcpTls { host: "redis".into(), port: 6379, insecure: false, tls_params: None };
    let built =
        address.into_connection_info().and_then(|info| Client::build_with_tls(info, certificates.clone()));
    if let Err(error) = built {
        findings.error("store.redis.tls", error.to_string()).hint("write PEM files");
    }
}
