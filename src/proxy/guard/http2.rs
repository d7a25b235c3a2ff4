//! HTTP/2: how much a client may have in progress, and a deadline for its first request. Pingora
//! does the rest.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp as _};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::break_off::BreakOff;
use super::listener::GuardedListener;
use crate::config;

/// Flow-control windows, per stream and per connection. HTTP/2's initial window is enough for
/// logins and calls, and a connection never holds more than this of bodies that a backend does not
/// read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const FRAME: u32 = 16 * 1024;
/// Bytes of an answer that wait for a client, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client opened and reset before they were accepted; more end the connection
/// (CVE-2023-44487).
const RESET_STREAMS: usize = 20;
/// Streams that were reset for a client's mistakes; more end the connection (CVE-2025-8671).
const LOCAL_RESETS: usize = 100;

pub(super) fn server_options(limits: &config::Limits) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(limits.h2.idle_timeout.0);
    // Pingora asks this only without TLS, and a connection without TLS comes here only if it began
    // with the preface.
    options.h2c = true;
    options
}

pub(super) fn options(limits: &config::Limits) -> H2Options {
    let mut options = default_h2_options();
    options.max_concurrent_streams(limits.h2.max_concurrent_streams);
    options.initial_window_size(STREAM_WINDOW);
    options.initial_connection_window_size(CONNECTION_WINDOW);
    options.max_frame_size(FRAME);
    options.max_send_buffer_size(SEND_BUFFER);
    options.max_pending_accept_reset_streams(RESET_STREAMS);
    options.max_local_error_reset_streams(Some(LOCAL_RESETS));
    options.max_header_list_size(u32::try_from(limits.max_header.0).unwrap_or(u32::MAX).saturating_mul(2));
    options
}

/// Serves a connection that speaks HTTP/2.
pub(super) async fn serve(
    listener: &Arc<GuardedListener>,
    stream: Stream,
    deadline: Instant,
    shutdown: &ShutdownWatch,
) {
    let http2 = Arc::new(Http2 { listener: Arc::clone(listener), first_request: Notify::new() });
    let mut served = http2.process_new(stream, shutdown);
    tokio::select! {
        biased;
        _ = &mut served => return,
        () = http2.first_request.notified() => {}
        () = tokio::time::sleep_until(deadline) => {
            listener.connections.rejected().slow_header.inc();
            return;
        }
    }
    served.await;
}

/// One connection.
struct Http2 {
    listener: Arc<GuardedListener>,
    first_request: Notify,
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // Bytes that only begin like the preface are no request of HTTP/1 either.
        if !session.is_http2() {
            return None;
        }
        self.first_request.notify_one();
        BreakOff::default().run(self.listener.proxy.process_new_http(session, shutdown)).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.listener.http2)
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.listener.h2_options.clone())
    }
}
