//! HTTP/2: how much a client may have in progress, and when its connection ends: at the deadline of
//! its first request, or after a time without requests. Pingora does the rest.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use http::Method;
use pingora::Error;
use pingora::apps::HttpServerApp as _;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::break_off::BreakOff;
use super::super::interim::{self, InterimQueue, InterimStream};
use super::frames::{InspectedStream, RequestCounts, ResetAllowance};
use super::listener::{GuardedListener, peer};
use crate::config;

/// Flow-control windows, per stream and per connection. HTTP/2's initial window is enough for
/// logins and calls, and a connection never holds more than this of bodies that a backend does not
/// read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const FRAME: u32 = 16 * 1024;
/// Bytes of an answer that wait for a client, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may at least reset at once; see [`ResetAllowance`].
const RESET_STREAMS: u32 = 100;
/// Streams that were reset for a client's mistakes; more end the connection (CVE-2025-8671).
const LOCAL_RESETS: usize = 100;
/// How long a client that was told of the end of the process, and has no request under way, may
/// take to acknowledge it.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last bytes, and the end of the client's side, may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests of one connection that Pingora refused; so many end the connection.
const MALFORMED_STREAMS: usize = 32;

/// How many requests a client may take back at once: all that it may have open.
pub(super) fn most_resets(limits: &config::Limits) -> u64 {
    limits.h2.max_concurrent_streams.max(RESET_STREAMS).into()
}

pub(super) fn options(limits: &config::Limits) -> H2Options {
    let mut options = default_h2_options();
    options.max_concurrent_streams(limits.h2.max_concurrent_streams);
    options.initial_window_size(STREAM_WINDOW);
    options.initial_connection_window_size(CONNECTION_WINDOW);
    options.max_frame_size(FRAME);
    options.max_send_buffer_size(SEND_BUFFER);
    options.max_pending_accept_reset_streams(usize::try_from(most_resets(limits)).unwrap_or(usize::MAX));
    options.max_local_error_reset_streams(Some(LOCAL_RESETS));
    options.max_header_list_size(u32::try_from(limits.max_header.0).unwrap_or(u32::MAX).saturating_mul(2));
    options
}

/// Serves a connection that speaks HTTP/2. Its first request must begin before the deadline.
pub(super) async fn serve(
    listener: &Arc<GuardedListener>,
    stream: Stream,
    deadline: Instant,
    shutdown: &ShutdownWatch,
) {
    let Some(peer) = peer(&stream) else { return };
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let connection = Http2 {
        listener: Arc::clone(listener),
        peer,
        digest,
        shutdown: shutdown.clone(),
        streams: Arc::default(),
        counts: Arc::default(),
        interim: Arc::default(),
        resets: ResetAllowance::new(listener.most_resets),
        accepted: 0,
        malformed: 0,
        malformed_streams: 0,
        has_request: false,
        is_ending: false,
    };
    Box::pin(connection.serve(stream, deadline)).await;
}

/// One connection.
struct Http2 {
    listener: Arc<GuardedListener>,
    peer: IpAddr,
    digest: Arc<Digest>,
    shutdown: ShutdownWatch,
    streams: Arc<Streams>,
    counts: Arc<RequestCounts>,
    interim: Arc<InterimQueue>,
    resets: ResetAllowance,
    /// Requests that the HTTP/2 library accepted, and those that it refused.
    accepted: u64,
    malformed: u64,
    /// Requests that Pingora refused.
    malformed_streams: usize,
    has_request: bool,
    /// Whether the client was told that the process ends.
    is_ending: bool,
}

/// The requests of one connection.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    /// Signalled when the last open one has ended.
    none_is_open: Notify,
}

/// A request that counts as open until the value is dropped.
struct OpenStream(Arc<Streams>);

impl Http2 {
    /// Accepts requests until the connection ends. Pingora's own loop does the same, but says
    /// nothing of requests that it, or the HTTP/2 library, refuses.
    async fn serve(mut self, stream: Stream, deadline: Instant) {
        let options = Some(self.listener.h2_options.clone());
        let stream =
            Box::new(InspectedStream::new(stream, Arc::clone(&self.counts), Arc::clone(&self.interim)));
        let mut connection = match timeout_at(deadline, handshake(stream, options)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.record_violation(&error),
            // The client has said nothing of HTTP/2 yet.
            Err(_) => return self.listener.connections.rejected().slow_header.inc(),
        };
        loop {
            let longest_idle = if self.is_ending { END_TIMEOUT } else { self.listener.idle_timeout };
            let accepted = tokio::select! {
                biased;
                _ = self.shutdown.changed(), if !self.is_ending => {
                    // Requests that are under way, or on their way, are still served.
                    connection.graceful_shutdown();
                    self.is_ending = true;
                    continue;
                }
                accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&self.digest)) => accepted,
                () = self.counts.too_many_taken_back(&mut self.resets) => {
                    self.record_refusal();
                    return close(connection, Reason::ENHANCE_YOUR_CALM).await;
                }
                () = self.counts.more_malformed(self.accepted, self.malformed), if !self.is_ending => {
                    self.malformed += 1;
                    self.record_refusal();
                    continue;
                }
                () = until(deadline), if !self.has_request && !self.is_ending => {
                    self.listener.connections.rejected().slow_header.inc();
                    return close(connection, Reason::NO_ERROR).await;
                }
                () = self.streams.idle_for(longest_idle) => return close(connection, Reason::NO_ERROR).await,
            };
            let id = self.counts.accepted_stream(self.accepted, self.malformed);
            self.accepted += 1;
            match accepted {
                Ok(Some(H2Accept::Session(session))) => self.spawn(session, id),
                Ok(Some(H2Accept::Rejected)) => {
                    self.record_refusal();
                    self.malformed_streams += 1;
                    if self.malformed_streams >= MALFORMED_STREAMS {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return self.record_violation(&error),
            }
        }
    }

    /// Records a request that was refused before the gateway got it.
    fn record_refusal(&self) {
        self.listener.stream_refusals.record(self.peer, self.digest.ssl_digest.is_some());
    }

    /// Records that the connection ended because its client does not keep to the protocol.
    fn record_violation(&self, error: &Error) {
        let cause = error.root_cause().downcast_ref::<h2::Error>();
        if cause.is_some_and(|cause| cause.is_go_away() && cause.is_library()) {
            self.record_refusal();
        }
    }

    /// Serves a request, on a stream that is known if all goes well.
    fn spawn(&mut self, mut session: HttpSession, id: Option<u32>) {
        self.has_request = true;
        // Pingora answers CONNECT itself, with a bare 405 that is not in the access log. Every
        // other method that is not admitted gets the gateway's answer.
        if session.req_header().method == Method::CONNECT {
            session.req_header_mut().set_method(Method::TRACE);
        }
        self.streams.open.fetch_add(1, Ordering::Relaxed);
        let open = OpenStream(Arc::clone(&self.streams));
        let (listener, shutdown) = (Arc::clone(&self.listener), self.shutdown.clone());
        let stream = InterimStream { queue: Arc::clone(&self.interim), id };
        tokio::spawn(async move {
            let _open = open;
            let request = listener.proxy.process_new_http(ServerSession::new_http2(session), &shutdown);
            interim::with_stream(stream, BreakOff::default().run(request)).await;
        });
    }
}

/// Ends a connection that has no request under way, or whose client breaks the rules, and says why.
///
/// The client is told which request was the last that was processed, and that the connection ends.
/// A request that crosses this word is not processed: its client knows, and can send it again. To
/// announce the end first, as at the end of the process, would serve it, but some clients take the
/// announcement for the end and fail.
async fn close(mut connection: Connection<Stream, Bytes>, reason: Reason) {
    connection.abrupt_shutdown(reason);
    _ = timeout(CLOSE_TIMEOUT, poll_fn(|context| connection.poll_closed(context))).await;
}

/// Waits for a time; nothing is set up unless it is polled.
async fn until(time: Instant) {
    tokio::time::sleep_until(time).await;
}

impl Streams {
    /// Waits until no request has been open for so long.
    async fn idle_for(&self, timeout: Duration) {
        while self.open.load(Ordering::Relaxed) != 0 {
            self.none_is_open.notified().await;
        }
        tokio::time::sleep(timeout).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none_is_open.notify_one();
        }
    }
}
