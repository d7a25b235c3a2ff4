//! The backend of the demo: plain HTTP/1.1, without any knowledge of WeChat.
//!
//! It answers every request with the request it received, as plain text. The caller comes first.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use http::request::Parts;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The headers that it reads to identify the caller, as backends for WeChat Cloud Run do.
const IDENTITY_HEADERS: [&str; 4] = ["X-WX-OPENID", "X-WX-UNIONID", "X-WX-APPID", "X-WX-SOURCE"];

/// A running backend. Dropping it closes its listener.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Backend {
    /// Serves on a port that the system chooses.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener)) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async {
        let mut response = Response::new(describe(&request.into_parts().0));
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        Ok::<_, Infallible>(response)
    });
    // The gateway can close the connection at any time.
    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn describe(request: &Parts) -> String {
    let mut text = format!("{} {} {:?}\n\n", request.method, request.uri, request.version);
    let value =
        |name: &str| request.headers.get(name).map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
    if value("X-WX-OPENID").is_none() {
        text.push_str("no user is signed in\n");
    }
    for name in IDENTITY_HEADERS {
        if let Some(value) = value(name) {
            // Writing to a string cannot fail.
            _ = writeln!(text, "{name}: {value}");
        }
    }
    text.push('\n');
    for (name, value) in &request.headers {
        if !IDENTITY_HEADERS.iter().any(|identity| identity.eq_ignore_ascii_case(name.as_str())) {
            _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_comes_before_everything_else() {
        let request = Request::builder()
            .uri("/orders/7")
            .header("Accept", "*/*")
            .header("X-WX-SOURCE", "wx_client")
            .header("X-WX-OPENID", "o1")
            .body(())
            .unwrap();

        let text = describe(&request.into_parts().0);

        assert_eq!(
            text,
            "GET /orders/7 HTTP/1.1\n\nX-WX-OPENID: o1\nX-WX-SOURCE: wx_client\n\naccept: */*\n"
        );
    }

    #[test]
    fn request_without_an_openid_has_no_caller() {
        let request = Request::builder().uri("/").header("X-WX-SOURCE", "wx_client").body(()).unwrap();

        assert!(describe(&request.into_parts().0).contains("no user is signed in"));
    }
}
