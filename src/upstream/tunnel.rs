//! The connection to a server behind a WebSocket opening.
//!
//! Pingora has one timer for a server's silence, which would end an idle tunnel as well, and it can
//! take the end of the opening's empty body for the end of the tunnel. This connection prevents
//! both.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::peer::{PROBE_AFTER, PROBE_INTERVAL};

/// Whether the server has switched protocols, and whether the tunnel was cut. The request that asks
/// for the tunnel and its connection share it.
#[derive(Clone, Debug, Default)]
pub struct TunnelSwitch(Arc<SwitchState>);

#[derive(Debug, Default)]
struct SwitchState {
    is_open: AtomicBool,
    is_cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl TunnelSwitch {
    /// Opens the tunnel, because the server has switched. Either side may be silent from here on.
    pub fn open(&self) {
        self.0.is_open.store(true, Ordering::Relaxed);
    }

    /// Cuts the tunnel: its connection fails from here on, and tasks that wait for it are woken.
    pub fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    fn is_cut(&self) -> bool {
        self.0.is_cut.load(Ordering::Acquire)
    }

    fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Relaxed)
    }
}

/// Fails if the tunnel was cut; otherwise wakes the task when it is. The waker is registered before
/// the check, so that a cut in between is seen or wakes the task.
fn check_uncut(switch: &TunnelSwitch, waker: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
    waker.register(cx.waker());
    if switch.is_cut() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}

/// Connects to the server for one WebSocket opening.
#[derive(Debug)]
pub(super) struct TunnelConnector {
    pub(super) switch: TunnelSwitch,
    /// Longest silence of the server before the tunnel is open.
    pub(super) longest_silence: Option<Duration>,
}

#[async_trait]
impl Connect for TunnelConnector {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let failed = |cause| Error::because(ErrorType::ConnectError, "connecting for a tunnel", cause);
        let address = address.as_inet().ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        let socket = TcpStream::connect(address).await.map_err(failed)?;
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
        SockRef::from(&socket).set_tcp_keepalive(&probes).map_err(failed)?;
        let tunnel = TunnelStream {
            socket,
            switch: self.switch.clone(),
            longest_silence: self.longest_silence,
            silence: None,
            has_written: false,
        };
        Ok(VirtualSocketStream::new(Box::new(tunnel)).into())
    }
}

#[derive(Debug)]
struct TunnelStream {
    socket: TcpStream,
    switch: TunnelSwitch,
    longest_silence: Option<Duration>,
    silence: Option<Pin<Box<Sleep>>>,
    has_written: bool,
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tunnel = self.get_mut();
        check_uncut(&tunnel.switch, &tunnel.switch.0.reader, cx)?;
        if std::mem::take(&mut tunnel.has_written) && !tunnel.switch.is_open() {
            // Pingora queues the end of the opening's empty body, and then waits for it and for the
            // answer at the same time. If it saw the answer first, it would take that end for the
            // end of the tunnel. See https://github.com/cloudflare/pingora/issues/946
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(read) = Pin::new(&mut tunnel.socket).poll_read(cx, buf) {
            tunnel.silence = None;
            return Poll::Ready(read);
        }
        match tunnel.longest_silence.filter(|_| !tunnel.switch.is_open()) {
            None => {
                tunnel.silence = None;
                Poll::Pending
            }
            Some(longest_silence) => {
                let silence =
                    tunnel.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(longest_silence)));
                ready!(silence.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let tunnel = self.get_mut();
        check_uncut(&tunnel.switch, &tunnel.switch.0.writer, cx)?;
        tunnel.has_written = true;
        Pin::new(&mut tunnel.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl VirtualSocket for TunnelStream {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // Pingora asks for no other.
            _ => Ok(()),
        }
    }
}
