//! The socket: accepts connections, reads requests, and ends a connection as a fault requires.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::Emulator;
use super::answer::{CallOutcome, Reply};
use super::request::Request;
use super::transfer::{Cut, Outgoing, gzip};

/// Longest wait for the head of a request, an idle connection included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest wait for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// WeChat takes pictures of 10 MB.
const MAX_BODY_BYTES: usize = 12 * 1024 * 1024;

/// A listening emulator; dropping it closes the listener and every connection.
#[derive(Debug)]
#[must_use = "dropping this stops the emulator"]
pub struct Running {
    /// The address it listens on, with the port that the system chose if 0 was requested.
    pub address: SocketAddr,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// The base URL to write into the gateway's `wechat.hosts`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the listener and every connection, and waits until they are closed.
    pub async fn stop(mut self) {
        // It fails only if the task has already ended.
        let _ = self.stop.send(());
        self.wait().await;
    }

    /// Waits until the listener fails.
    pub async fn wait(&mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn listen(emulator: Arc<Emulator>, address: SocketAddr) -> io::Result<Running> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let (stop, mut stopped) = watch::channel(());
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&listener, &emulator, &mut connections) => {}
            _ = stopped.changed() => {}
        }
        drop(listener);
        connections.shutdown().await;
    });
    Ok(Running { address, stop, task })
}

async fn accept(listener: &TcpListener, emulator: &Arc<Emulator>, connections: &mut JoinSet<()>) {
    let room = Arc::new(Semaphore::new(emulator.max_connections));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The process is probably out of descriptors: wait until some are free.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let emulator = Arc::clone(emulator);
        connections.spawn(async move {
            serve(stream, peer, emulator).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, emulator: Arc<Emulator>) {
    let _ = stream.set_nodelay(true);
    let (cut, mut cuts) = unbounded_channel();
    let service = service_fn(|request| handle(Arc::clone(&emulator), peer, cut.clone(), request));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    // The connection is polled first, so that its output is flushed before it is closed.
    let cut = tokio::select! {
        biased;
        _ = &mut connection => return,
        cut = cuts.recv() => cut,
    };
    if cut == Some(Cut::Reset) {
        // With a linger of zero, closing the socket sends RST.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn handle(
    emulator: Arc<Emulator>,
    peer: SocketAddr,
    cut: UnboundedSender<Cut>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Outgoing>, Infallible> {
    let (parts, body) = request.into_parts();
    let closing = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
    let outcome = match read(body).await {
        Some(body) => decide(emulator, Request::new(peer, &parts, body)).await,
        None => {
            CallOutcome::Reply(Reply::page(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large"))
        }
    };
    match outcome {
        CallOutcome::Reply(reply) => Ok(response(reply, closing, &cut)),
        CallOutcome::Closed => gone(&cut, Cut::Close).await,
        CallOutcome::Reset => gone(&cut, Cut::Reset).await,
    }
}

async fn read(body: Incoming) -> Option<Bytes> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect();
    Some(tokio::time::timeout(BODY_TIMEOUT, body).await.ok()?.ok()?.to_bytes())
}

async fn decide(emulator: Arc<Emulator>, request: Request) -> CallOutcome {
    if request.path.starts_with("/__emu/") {
        return CallOutcome::Reply(emulator.control(&request));
    }
    if request.path == super::page::POLL {
        return CallOutcome::Reply(emulator.poll(&request).await);
    }
    if let Some(reply) = emulator.beside_page(&request) {
        return CallOutcome::Reply(reply);
    }
    // WeChat continues a call whose client has disconnected, and uses the code up. The emulator
    // does the same.
    let call = tokio::spawn(async move { emulator.exchange(&request).await });
    call.await.unwrap_or(CallOutcome::Closed)
}

/// Requests the end of the connection, and waits for it.
async fn gone<T>(cut: &UnboundedSender<Cut>, how: Cut) -> T {
    let _ = cut.send(how);
    std::future::pending().await
}

fn response(reply: Reply, closing: bool, cut: &UnboundedSender<Cut>) -> Response<Outgoing> {
    let body = if reply.gzip { gzip(&reply.body) } else { reply.body };
    let mut response = Response::new(Outgoing::new(body, reply.transfer, cut));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.extend(reply.headers);
    if !closing {
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    if reply.gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
