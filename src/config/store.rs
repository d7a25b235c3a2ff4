//! Where the gateway stores sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration, FilePath, SecretSource};

/// `store`: where the gateway stores sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `embedded`: a file of this gateway alone. `redis`: a Redis or Valkey that several gateways
    /// share.
    pub engine: StoreEngine,
    /// The embedded engine.
    pub embedded: EmbeddedStore,
    /// The Redis engine.
    pub redis: RedisStore,
}

/// The engine that stores the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreEngine {
    /// One file in the data directory. It needs no other program.
    #[default]
    Embedded,
    /// Redis 6.2 or later, or Valkey.
    Redis,
}

/// `store.embedded`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedStore {
    /// The file. Default: `sessions.redb` in `data_dir`.
    pub file: Option<FilePath>,
    /// Memory for rows that were read lately.
    pub cache: ByteSize,
}

impl Default for EmbeddedStore {
    fn default() -> Self {
        Self { file: None, cache: ByteSize::mib(64) }
    }
}

/// `store.redis`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisStore {
    /// How the gateway finds the servers.
    pub topology: RedisTopology,
    /// `host:port` of the server, of each sentinel, or of some nodes of the cluster.
    pub addresses: Vec<String>,
    /// The master's name at the sentinels. With `topology: sentinel`.
    pub master_name: Option<String>,
    /// The ACL user. Not set: the default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretSource>,
    /// The user at the sentinels, if they ask for one.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels, if they ask for one.
    pub sentinel_password: Option<SecretSource>,
    /// Number of the database. A cluster has only 0.
    pub database: u32,
    /// TLS to every server and sentinel. Not set: plain TCP.
    pub tls: Option<RedisTls>,
    /// Prefix of every key. Gateways with different prefixes can use one server without a conflict.
    pub prefix: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Maximum number of operations under way. Further operations are refused, not queued.
    pub max_in_flight: usize,
    /// What must have stored a write before it counts as done.
    pub durability: RedisDurability,
}

impl Default for RedisStore {
    fn default() -> Self {
        Self {
            topology: RedisTopology::Standalone,
            addresses: vec!["127.0.0.1:6379".into()],
            master_name: None,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            database: 0,
            tls: None,
            prefix: "menshen".into(),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            max_in_flight: 4096,
            durability: RedisDurability::default(),
        }
    }
}

/// How the gateway finds the servers of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisTopology {
    /// One server.
    Standalone,
    /// Sentinels. They know the master.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// `store.redis.tls`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTls {
    /// PEM file of the certificate authorities to trust. Default: the system's.
    pub ca_file: Option<FilePath>,
    /// PEM file of the client certificate. With `key`.
    pub certificate: Option<FilePath>,
    /// PEM file of the client certificate's private key. With `certificate`.
    pub key: Option<FilePath>,
}

/// `store.redis.durability`: what must have stored a write before it counts as done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisDurability {
    /// Number of replicas that must have the write. 0: none. A failover can then lose the last
    /// writes.
    pub replicas: u32,
    /// Whether the write must be on disk, on the master and on as many replicas (`WAITAOF`). It
    /// needs Redis 7.2 or later with `appendonly yes`.
    pub fsync: bool,
    /// Longest wait for this. After it the login is refused.
    pub timeout: Duration,
}

impl Default for RedisDurability {
    fn default() -> Self {
        Self { replicas: 0, fsync: false, timeout: Duration::from_secs(1) }
    }
}
