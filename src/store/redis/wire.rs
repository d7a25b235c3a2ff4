//! Connections that carry commands to one server or to a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use tokio::sync::Notify;

use super::section::{Address, Section, Topology};
use super::sentinel::Sentinels;

/// The server of a cluster that gets a command. Ignored if there is only one server.
#[derive(Clone)]
pub(super) enum Target {
    /// The master that has this key.
    Key(String),
    /// The master that has this slot.
    Slot(u16),
}

/// How many connections are only for writes that are waited for. `WAIT` delays every later command
/// on its connection, so reads have a connection of their own.
const DURABLE_LANES: usize = 8;

/// A set of connections, replaced as a whole.
pub(super) struct ConnectionSet {
    plain: Wire,
    durable: Vec<ReplyLane>,
    broken: Arc<Broken>,
    /// Ends with the runtime that drives the connections, or earlier.
    watch: tokio::task::JoinHandle<()>,
}

/// Whether a session is broken. One waiting task is notified.
#[derive(Default)]
pub(super) struct Broken {
    is_broken: AtomicBool,
    marked: Notify,
}

#[derive(Clone)]
enum Wire {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

struct ReplyLane {
    wire: Wire,
    in_flight: AtomicUsize,
}

impl Broken {
    pub(super) fn mark(&self) {
        self.is_broken.store(true, Ordering::Release);
        // The notification is kept for a task that waits later. Only one task waits.
        self.marked.notify_one();
    }

    pub(super) async fn marked(&self) {
        self.marked.notified().await;
    }
}

impl ConnectionSet {
    /// Connects to the master, or to the cluster. Takes no longer than the limits of each attempt.
    pub(super) async fn open(section: &Arc<Section>, sentinels: &Arc<Sentinels>) -> RedisResult<Self> {
        let broken = Arc::new(Broken::default());
        let lanes = if section.durability.is_awaited() { DURABLE_LANES } else { 0 };
        let (mut wires, master) = match section.topology {
            Topology::Cluster => (cluster(section, lanes).await?, None),
            Topology::Standalone | Topology::Sentinel { .. } => {
                let master = sentinels.master(section).await?;
                (servers(section, &master, lanes, &broken).await?, Some(master))
            }
        };
        let plain = wires.pop().ok_or((ErrorKind::Client, "no connection"))?;
        let durable =
            wires.into_iter().map(|wire| ReplyLane { wire, in_flight: AtomicUsize::new(0) }).collect();
        let watch = tokio::spawn({
            let (section, sentinels, broken) =
                (Arc::clone(section), Arc::clone(sentinels), Arc::clone(&broken));
            async move {
                sentinels.watch(&section, master).await;
                broken.mark();
            }
        });
        Ok(Self { plain, durable, broken, watch })
    }

    /// Sends the commands to this server, all on one connection. Returns one answer for each
    /// command.
    pub(super) async fn send(
        &self,
        target: &Target,
        commands: &Pipeline,
        durable: bool,
    ) -> RedisResult<Vec<Value>> {
        let lane = self.durable.iter().min_by_key(|lane| lane.in_flight.load(Ordering::Relaxed));
        match lane.filter(|_| durable) {
            Some(lane) => {
                let _counted = InFlightCount::add_one(&lane.in_flight);
                lane.wire.clone().send(target, commands).await
            }
            None => self.plain.clone().send(target, commands).await,
        }
    }

    /// Whether the session is not known to be broken.
    pub(super) fn is_alive(&self) -> bool {
        !self.broken.is_broken.load(Ordering::Acquire) && !self.watch.is_finished()
    }

    pub(super) fn broken(&self) -> &Arc<Broken> {
        &self.broken
    }

    /// Whether a connection that did not answer must be given up. The connections of a cluster
    /// reconnect by themselves: one silent server is no reason to leave the others.
    pub(super) fn is_one_server(&self) -> bool {
        matches!(self.plain, Wire::Server(_))
    }
}

impl Drop for ConnectionSet {
    fn drop(&mut self) {
        self.watch.abort();
        self.broken.mark();
    }
}

struct InFlightCount<'a>(&'a AtomicUsize);

impl<'a> InFlightCount<'a> {
    fn add_one(in_flight: &'a AtomicUsize) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self(in_flight)
    }
}

impl Drop for InFlightCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wire {
    async fn send(&mut self, target: &Target, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.cmd_iter().count();
        match self {
            Self::Server(connection) => connection.send_packed_commands(commands, 0, count).await,
            Self::Cluster(connection) => {
                let route = match target {
                    Target::Key(key) => Route::with_key(key, SlotAddr::Master),
                    Target::Slot(slot) => Route::new(*slot, SlotAddr::Master),
                };
                let slot = SingleNodeRoutingInfo::SpecificNode(route);
                let answer = connection.route_pipeline(commands.clone(), 0, count, slot).await;
                match answer {
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) => {
                        ask(connection, commands, &error).await
                    }
                    answer => answer,
                }
            }
        }
    }
}

/// Follows an `ASK`: the key has already moved, but its slot has not.
async fn ask(
    connection: &mut ClusterConnection,
    commands: &Pipeline,
    error: &RedisError,
) -> RedisResult<Vec<Value>> {
    let Some((host, port)) = error.redirect_node().and_then(|(node, _)| node.rsplit_once(':')) else {
        return Err(error.clone());
    };
    let port = port.parse().map_err(|_| error.clone())?;
    let mut asking = redis::pipe();
    asking.cmd("ASKING");
    commands.cmd_iter().for_each(|command| {
        asking.add_command(command.clone());
    });
    let count = asking.cmd_iter().count();
    let node = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port };
    let mut answers = connection.route_pipeline(asking, 0, count, node).await?;
    answers.drain(..1.min(answers.len()));
    Ok(answers)
}

/// Opens `lanes` connections and one more to a master.
async fn servers(
    section: &Section,
    master: &Address,
    lanes: usize,
    broken: &Arc<Broken>,
) -> RedisResult<Vec<Wire>> {
    let connections = (0..=lanes).map(|_| server(section, master, broken));
    futures_util::future::try_join_all(connections).await
}

async fn server(section: &Section, address: &Address, broken: &Arc<Broken>) -> RedisResult<Wire> {
    let on_push = {
        let broken = Arc::clone(broken);
        move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if push.kind == PushKind::Disconnection {
                broken.mark();
            }
            Ok(())
        }
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(section.connect_timeout))
        // The caller of `send` has its own time limit, which begins earlier.
        .set_response_timeout(None)
        .set_push_sender(on_push);
    let client = Client::open(section.server(address)?)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    greet(&mut connection, section).await?;
    Ok(Wire::Server(connection))
}

/// Checks the server's role and its commands now. Without this check, a fault appears only after a
/// write was made.
async fn greet(connection: &mut MultiplexedConnection, section: &Section) -> RedisResult<()> {
    if matches!(section.topology, Topology::Sentinel { .. }) {
        let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
        let is_master = role.first().is_some_and(|name| {
            matches!(name, Value::BulkString(name) if name == b"master")
                || matches!(name, Value::SimpleString(name) if name == "master")
        });
        if !is_master {
            let reason = "the server that the sentinels name is not a master yet";
            return Err((ErrorKind::Io, "wrong role", reason.to_owned()).into());
        }
    }
    if section.durability.fsync {
        // This connection wrote nothing, so the command returns at once.
        let answer = redis::cmd("WAITAOF").arg(1).arg(0).arg(1).exec_async(connection).await;
        answer.map_err(without_waitaof)?;
    }
    redis::cmd("PING").exec_async(connection).await
}

fn without_waitaof(error: RedisError) -> RedisError {
    if error.detail().is_some_and(|detail| detail.contains("nknown command")) {
        let reason = "`durability.fsync` needs WAITAOF: Redis 7.2 or later has it";
        return (ErrorKind::InvalidClientConfig, "no WAITAOF", reason.to_owned()).into();
    }
    error
}

/// Opens connections to a cluster: one, and up to two more for writes that are waited for.
async fn cluster(section: &Section, lanes: usize) -> RedisResult<Vec<Wire>> {
    let nodes =
        section.addresses.iter().map(|address| section.server(address)).collect::<RedisResult<Vec<_>>>()?;
    let mut builder = redis::cluster::ClusterClient::builder(nodes)
        // A step that may have been made must not be made again. The engine repeats the steps that
        // were certainly not made.
        .retries(0)
        .use_protocol(redis::ProtocolVersion::RESP3)
        .connection_timeout(section.connect_timeout)
        .response_timeout(limit(section))
        .overall_response_timeout(None)
        .tcp_settings(section.tcp());
    if let Some(certificates) = &section.tls {
        builder = builder.tls(redis::TlsMode::Secure).certs(certificates.clone());
    }
    let client = builder.build()?;
    let connections = (0..=lanes.min(2)).map(|_| async {
        let mut connection = client.get_async_connection().await?;
        if section.durability.fsync {
            let mut check = redis::pipe();
            check.cmd("WAITAOF").arg(1).arg(0).arg(1);
            let answers =
                connection.route_pipeline(check, 0, 1, SingleNodeRoutingInfo::RandomPrimary).await?;
            answers
                .into_iter()
                .try_for_each(|answer| answer.extract_error().map(drop))
                .map_err(without_waitaof)?;
        }
        Ok(Wire::Cluster(connection))
    });
    futures_util::future::try_join_all(connections).await
}

/// Longest time an operation may take.
pub(super) fn limit(section: &Section) -> Duration {
    let durability = section.durability;
    if durability.is_awaited() { section.timeout + durability.timeout } else { section.timeout }
}
