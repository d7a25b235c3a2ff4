//! HTTP/2: what a client may have under way, and a deadline for its first request. All else is Pingora's.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp as _};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Listener;
use crate::config;

/// What HTTP/2 lets a client have under way, per stream and per connection: what HTTP/2 began with is enough for logins and
/// calls, and a connection never holds more than this of bodies that a backend does not take.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const FRAME: u32 = 16 * 1024;
/// Bytes of an answer that wait for a client, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client opened and took back before they were looked at; more end the connection (CVE-2023-44487).
const RESET_STREAMS: usize = 20;
/// Streams that were ended for a client's mistakes; more end the connection (CVE-2025-8671).
const LOCAL_RESETS: usize = 100;

pub(super) fn server_options(limits: &config::Limits) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(limits.h2.idle_timeout.0);
    // Pingora asks this only where there is no TLS, and here nobody arrives without who has not begun with the preface.
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
    listener: &Arc<Listener>,
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
    listener: Arc<Listener>,
    first_request: Notify,
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // What only began as the preface does is no request of HTTP/1 either.
        if !session.is_http2() {
            return None;
        }
        self.first_request.notify_one();
        self.listener.proxy.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.listener.http2)
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.listener.h2_options.clone())
    }
}
