//! Where sessions are kept.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration, SecretSource};

/// `store`: where sessions are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `embedded`: a file of this gateway alone. `redis`: a Redis or Valkey that several gateways share.
    pub engine: StoreEngine,
    /// The embedded engine.
    pub embedded: EmbeddedStore,
    /// The Redis engine.
    pub redis: RedisStore,
}

/// What keeps the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreEngine {
    /// One file in the data directory; needs nothing else.
    #[default]
    Embedded,
    /// Redis 6.2 or later, or Valkey.
    Redis,
}

/// `store.embedded`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedStore {
    /// The file. Not set: `sessions.redb` in `data_dir`.
    pub file: Option<PathBuf>,
    /// Memory for rows read lately.
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
    /// How the servers are found.
    pub topology: RedisTopology,
    /// `host:port` of the server, of each sentinel, or of some nodes of the cluster.
    pub addresses: Vec<String>,
    /// The sentinels' name for the master; with `topology: sentinel`.
    pub master_name: Option<String>,
    /// The ACL user. Not set: the default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretSource>,
    /// The sentinels' own user, where they ask for one.
    pub sentinel_username: Option<String>,
    /// The sentinels' own password, where they ask for one.
    pub sentinel_password: Option<SecretSource>,
    /// Number of the database; a cluster has 0 alone.
    pub database: u32,
    /// TLS to every server, and sentinel. Not set: plain TCP.
    pub tls: Option<RedisTls>,
    /// What every key begins with, so that several gateways may share a server without meeting.
    pub prefix: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Operations under way at once; more are refused at once rather than queued.
    pub max_in_flight: usize,
    /// What must have a write before it counts as done.
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

/// How the servers of a Redis are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisTopology {
    /// One server.
    Standalone,
    /// Sentinels, which know the master.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// `store.redis.tls`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTls {
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate; with `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the client certificate's key; with `certificate`.
    pub key: Option<PathBuf>,
}

/// `store.redis.durability`: what must have a write before it counts as done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisDurability {
    /// Replicas that must have it. 0 waits for none: a failover may then lose the last moments.
    pub replicas: u32,
    /// Whether it must be on disk: the master's, and that of as many replicas (`WAITAOF`, Redis 7.2 or later with
    /// `appendonly yes`).
    pub fsync: bool,
    /// Longest wait for that; after it the login is refused.
    pub timeout: Duration,
}

impl Default for RedisDurability {
    fn default() -> Self {
        Self { replicas: 0, fsync: false, timeout: Duration::from_secs(1) }
    }
}
