//! The address of the master: the one address of a standalone server, or the present answer of the
//! sentinels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisResult};
use tokio::sync::Mutex;

use super::section::{Address, Section, Topology};

/// How often the gateway asks the sentinels whether the master is still the master. A master that
/// is cut off from the sentinels continues as a master.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How many times in a row a majority of answers may be missing.
const MOST_UNANSWERED: u32 = 1;

/// The sentinels, with the connections to them.
pub(super) struct Sentinels {
    list: Vec<Arc<Sentinel>>,
}

struct Sentinel {
    address: Address,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// The answer of one sentinel. The answer with the later epoch is valid.
struct Opinion {
    epoch: u64,
    master: Address,
}

impl Sentinels {
    pub(super) fn new(section: &Section) -> Self {
        let list = match section.topology {
            Topology::Sentinel { .. } => section.addresses.as_slice(),
            Topology::Standalone | Topology::Cluster => &[],
        };
        let sentinel =
            |address: &Address| Arc::new(Sentinel { address: address.clone(), connection: Mutex::default() });
        Self { list: list.iter().map(sentinel).collect() }
    }

    /// Returns the address of the master.
    pub(super) async fn master(&self, section: &Section) -> RedisResult<Address> {
        match &section.topology {
            Topology::Sentinel { master_name } => self.ask(section, master_name).await,
            Topology::Standalone | Topology::Cluster => {
                section.addresses.first().cloned().ok_or_else(|| (ErrorKind::Client, "no address").into())
            }
        }
    }

    /// Returns when the sentinels name another master, or when fewer than a majority of them
    /// answer. Never returns if there are no sentinels.
    pub(super) async fn watch(&self, section: &Section, master: Option<Address>) {
        let Some(master) = master.filter(|_| !self.list.is_empty()) else {
            return std::future::pending().await;
        };
        let mut unanswered = 0;
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            match self.master(section).await {
                Ok(now) if now == master => unanswered = 0,
                Ok(_) => return,
                Err(_) => unanswered += 1,
            }
            if unanswered > MOST_UNANSWERED {
                return;
            }
        }
    }

    /// Asks all sentinels at once. Among the answers of a majority, the one with the latest epoch
    /// is valid. Fewer answers are not trusted: these sentinels may be cut off together with a
    /// master that the others have replaced, and that master lacks the revocations since then.
    async fn ask(&self, section: &Section, name: &str) -> RedisResult<Address> {
        let majority = self.list.len() / 2 + 1;
        let mut answers: FuturesUnordered<_> =
            self.list.iter().map(|sentinel| sentinel.ask_in_time(section, name)).collect();
        let mut count = 0;
        let mut best: Option<Opinion> = None;
        let mut error = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(opinion) => {
                    count += 1;
                    if best.as_ref().is_none_or(|best| best.epoch < opinion.epoch) {
                        best = Some(opinion);
                    }
                }
                Err(failed) => error = Some(failed),
            }
            if count == majority {
                break;
            }
        }
        match best.filter(|_| count == majority) {
            Some(opinion) => Ok(opinion.master),
            None => Err(error.unwrap_or_else(|| (ErrorKind::EmptySentinelList, "no sentinel").into())),
        }
    }
}

impl Sentinel {
    async fn ask_in_time(&self, section: &Section, name: &str) -> RedisResult<Opinion> {
        let answer = tokio::time::timeout(section.connect_timeout, self.ask(section, name)).await;
        match answer {
            Ok(Ok(opinion)) => Ok(opinion),
            Ok(Err(error)) => Err(error),
            Err(_) => Err((ErrorKind::Io, "a sentinel does not answer").into()),
        }
    }

    /// Asks this sentinel on its connection. The connection is put back only after an answer, so
    /// that one that failed, or did not answer in time, is dropped.
    async fn ask(&self, section: &Section, name: &str) -> RedisResult<Opinion> {
        let kept = self.connection.lock().await.take();
        if let Some(mut connection) = kept
            && let Ok(opinion) = opinion(&mut connection, name).await
        {
            *self.connection.lock().await = Some(connection);
            return Ok(opinion);
        }
        let client = Client::open(section.sentinel(&self.address)?)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(section.connect_timeout))
            .set_response_timeout(Some(section.connect_timeout));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let opinion = opinion(&mut connection, name).await?;
        *self.connection.lock().await = Some(connection);
        Ok(opinion)
    }
}

async fn opinion(connection: &mut MultiplexedConnection, name: &str) -> RedisResult<Opinion> {
    let answer: HashMap<String, String> =
        redis::cmd("SENTINEL").arg("MASTER").arg(name).query_async(connection).await?;
    let host = answer.get("ip").filter(|host| !host.is_empty()).cloned();
    let port = answer.get("port").and_then(|port| port.parse().ok());
    let epoch = answer.get("config-epoch").and_then(|epoch| epoch.parse().ok());
    match (host, port, epoch) {
        (Some(host), Some(port), Some(epoch)) => Ok(Opinion { epoch, master: Address { host, port } }),
        _ => Err((ErrorKind::UnexpectedReturnType, "a sentinel does not say who the master is").into()),
    }
}
