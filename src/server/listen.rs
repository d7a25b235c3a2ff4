//! From a listener's configuration to a service that accepts connections.
//!
//! Sockets are bound before anything is served, so that an address that is in use gives one plain
//! message at start. Pingora gets bound sockets: if it cannot bind an address itself, it panics.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use socket2::{SockRef, TcpKeepalive};

use super::error::StartError;

/// Bytes read ahead from a client; few, because each open connection holds this buffer. Requests
/// and TLS read into buffers of their own, so it serves only what is read byte by byte, such as the
/// PROXY protocol's header.
const READ_BUFFER: usize = 256;
/// Connections that may wait to be accepted; the system's own limit is often 4,096. The standard
/// library's 128 are too few when many clients reconnect at once: each of the others waits a second
/// or more.
const BACKLOG: i32 = 4096;
/// How long a connection is silent before the system asks whether the client is still there, and
/// how long it waits before it asks again. Without an answer the connection ends after a few times.
/// Otherwise a tunnel, or a stream without a limit on silence, would outlive a client that is gone.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// One packet's worth, so that a short header and body leave together.
const WRITE_BUFFER: usize = 1460;

/// A socket that is bound, but not served yet.
#[derive(Debug)]
pub(super) struct BoundSocket {
    /// The address, with the port that the system chose if 0 was configured.
    pub(super) address: SocketAddr,
    socket: TcpListener,
}

impl BoundSocket {
    /// Binds an address.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address, source };
        let socket = TcpListener::bind(address).map_err(failed)?;
        SockRef::from(&socket).listen(BACKLOG).map_err(failed)?;
        // The sockets of accepted connections inherit it.
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
        SockRef::from(&socket).set_tcp_keepalive(&probes).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { address, socket })
    }

    /// The socket, for what does not serve through Pingora.
    pub(super) fn into_socket(self) -> TcpListener {
        self.socket
    }

    /// Accepts connections until the shutdown.
    pub(super) async fn serve<A>(self, name: &str, app: A, shutdown: ShutdownWatch)
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let address = self.address.to_string();
        let mut fds = Fds::new();
        fds.add(address.clone(), self.socket.into_raw_fd());
        let fds: ListenFds = Arc::new(Mutex::new(fds));

        let listener =
            ListenerConfig::tcp(address).l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER));
        let mut service = Service::new(name.to_owned(), app);
        service.add_listener(listener);
        service.start_service(Some(fds), shutdown, 1).await;
    }
}
