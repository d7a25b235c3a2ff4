//! The connection to a server behind a WebSocket opening.
//!
//! Pingora has one timer for a server's silence, which would end an idle tunnel as well, and it can take the end
//! of the opening's empty body for the end of the tunnel. Both are settled here, where the bytes arrive.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Whether the server has switched protocols, and whether the tunnel may stay; shared by the request that asks for it
/// and its connection.
#[derive(Clone, Debug, Default)]
pub struct Opened(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_set: AtomicBool,
    /// Why the tunnel was ended on purpose.
    cut: OnceLock<&'static str>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Opened {
    /// The server has switched: from here on either side may be silent.
    pub fn set(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
    }

    /// Ends the tunnel for a reason, the first one given: its connection fails from here on, and whoever waits for it
    /// hears of that.
    pub fn cut(&self, reason: &'static str) {
        self.0.cut.get_or_init(|| reason);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// Why the tunnel was ended on purpose, if it was.
    pub fn cut_reason(&self) -> Option<&'static str> {
        self.0.cut.get().copied()
    }

    fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }
}

/// Fails where the tunnel was cut; else whoever asks is woken when it is. Registered before the look, so that a cut
/// in between is seen or wakes.
fn check(opened: &Opened, waker: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
    waker.register(cx.waker());
    if opened.cut_reason().is_some() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}

/// Connects for one opening.
#[derive(Debug)]
pub(super) struct TunnelConnector {
    /// Set when the tunnel is open.
    pub(super) opened: Opened,
    /// Longest silence of the server before that.
    pub(super) patience: Option<Duration>,
}

#[async_trait]
impl Connect for TunnelConnector {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let failed = |cause| Error::because(ErrorType::ConnectError, "connecting for a tunnel", cause);
        let address = address.as_inet().ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        let socket = TcpStream::connect(address).await.map_err(failed)?;
        let tunnel = Tunnel {
            socket,
            opened: self.opened.clone(),
            patience: self.patience,
            silence: None,
            has_written: false,
        };
        Ok(VirtualSocketStream::new(Box::new(tunnel)).into())
    }
}

#[derive(Debug)]
struct Tunnel {
    socket: TcpStream,
    opened: Opened,
    patience: Option<Duration>,
    silence: Option<Pin<Box<Sleep>>>,
    has_written: bool,
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tunnel = self.get_mut();
        check(&tunnel.opened, &tunnel.opened.0.reader, cx)?;
        if std::mem::take(&mut tunnel.has_written) && !tunnel.opened.is_set() {
            // Pingora queues the end of the opening's empty body and then waits for that and for the answer at
            // once. If it saw the answer first, the end would be that of the tunnel. So the answer comes second.
            // See https://github.com/cloudflare/pingora/issues/946
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(read) = Pin::new(&mut tunnel.socket).poll_read(cx, buf) {
            tunnel.silence = None;
            return Poll::Ready(read);
        }
        match tunnel.patience.filter(|_| !tunnel.opened.is_set()) {
            None => {
                tunnel.silence = None;
                Poll::Pending
            }
            Some(patience) => {
                let silence = tunnel.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(silence.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let tunnel = self.get_mut();
        check(&tunnel.opened, &tunnel.opened.0.writer, cx)?;
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

impl VirtualSocket for Tunnel {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // None other is asked for.
            _ => Ok(()),
        }
    }
}
