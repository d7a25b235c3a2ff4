//! What the tests of the steps use: one configuration, and requests as Pingora reads them from a
//! socket.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest as _, SocketDigest};
use pingora::proxy::Session;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::arrival::RequestArrival;
use super::context::{Context, Decision};
use super::credential::CredentialPlace;
use super::current::Current;
use super::permit::{Caller, Permit};
use super::refusal::Refusal;
use super::request_id::RequestIds;
use super::respond;
use super::routed::Routed;
use crate::clock::{Clock as _, ManualClock};
use crate::entropy::SystemEntropy;
use crate::identity::{AppId, Identity, OpenId, Subject};
use crate::runtime::Runtime;
use crate::session::NewSession;

/// One route of each kind.
const CONFIG: &str = "
listeners: [{ address: 127.0.0.1:8080 }]
trusted_proxies: [TRUSTED]
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: 0123456789abcdef0123456789abcdef }
  site: { kind: website, appid: wxe000000000000004, secret: 0123456789abcdef0123456789abcdef }
tokens: { sources: { websocket_query: token } }
login: { origins: ['https://a.test'] }
upstreams:
  backend: { servers: ['127.0.0.1:9000'] }
  grpc: { servers: ['127.0.0.1:9001'], protocol: http2 }
routes:
  - { path: /, access: authenticated, upstream: backend }
  - { path: /own, access: authenticated, upstream: backend, forward_token: true }
  - { path: /public, access: public, upstream: backend, paths: { allow: [semicolon] } }
  - { path: /optional, access: optional, upstream: backend }
  - { path: /shop, access: authenticated, upstream: backend, apps: [shop] }
  - { path: /unionid, access: authenticated, upstream: backend, require_unionid: true }
  - { path: /read, methods: [GET], access: public, upstream: backend }
  - { path: /ws, access: authenticated, upstream: backend, websocket: true }
  - { path: /grpc, access: public, upstream: grpc }
";

pub(super) struct Bench {
    pub(super) current: Arc<Current>,
    /// Makes the store stop answering.
    pub(super) lose_store: Box<dyn Fn()>,
    clock: ManualClock,
    _folder: TempDir,
}

impl Bench {
    /// Trusts no proxy.
    pub(super) fn new() -> Self {
        Self::behind("")
    }

    /// Trusts these proxies.
    pub(super) fn behind(trusted: &str) -> Self {
        Self::with(trusted, "")
    }

    /// Trusts these proxies, and has these sections too.
    pub(super) fn with(trusted: &str, sections: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::start_now();
        let yaml = format!("{}{sections}", CONFIG.replace("TRUSTED", trusted));
        let (_, runtime, store) = Runtime::for_test_of(&yaml, folder.path(), Arc::new(clock.clone()));
        let lose_store = Box::new(move || store.set_away(true));
        Self { current: Arc::new(Current::new(runtime)), lose_store, clock, _folder: folder }
    }

    /// A request that has just arrived.
    pub(super) fn arrival(&self) -> RequestArrival {
        RequestArrival::new(&self.clock, RequestIds::new(&SystemEntropy).unwrap().next())
    }

    /// The context of a request that has just arrived.
    pub(super) fn context(&self) -> Context {
        let request_id = RequestIds::new(&SystemEntropy).unwrap().next();
        Context::new(Arc::clone(&self.current), &self.clock, request_id)
    }

    /// A request on the route of this path.
    pub(super) fn routed_on(&self, path: &str) -> Routed {
        let runtime = self.current.runtime();
        let route = runtime.routes.find("a.test", path, &Method::GET).unwrap();
        let upstream = runtime.upstreams.by_name(&route.upstream).unwrap();
        Routed {
            route: Arc::clone(route),
            upstream: Arc::clone(upstream),
            is_websocket: false,
            allowance: None,
        }
    }

    /// A request of an anonymous caller that may be forwarded on the route of this path.
    pub(super) fn permit_on(&self, path: &str) -> Permit {
        Permit::new(self.routed_on(path), Caller::Anonymous, CredentialPlace::default())
    }

    /// The answer to a refused request, whose context says what became of it.
    pub(super) fn answer(&self, refusal: Refusal, ctx: &mut Context) -> Response<Bytes> {
        let Refusal { reason, answer, routed, person } = refusal;
        let request_id = &ctx.arrival.request_id;
        let response =
            respond::refusal(reason, answer, None, routed.as_ref(), false, &self.current, request_id);
        ctx.reason = reason;
        ctx.decision = Decision::Refused { routed, person };
        response
    }

    /// Opens a session in a browser for a person who signed in to an app; returns its `Cookie`
    /// line.
    pub(super) async fn sign_in(&self, appid: &str) -> String {
        let subject = Subject { appid: AppId::parse(appid).unwrap(), openid: OpenId::parse("o1").unwrap() };
        let identity = Identity { subject, unionid: None };
        let new = NewSession { identity: &identity, session_key: None, user_agent: None, profile: None };
        let sessions = &self.current.runtime.sessions;
        let opened = sessions.open_in_browser(new, None, self.clock.now()).await.unwrap();
        format!("Cookie: {}={}\r\n", crate::cookie::SESSION, opened.cookie.expose())
    }
}

/// A request that Pingora has read, and the client that sent it.
pub(super) struct ReceivedRequest {
    pub(super) session: Session,
    _client: TcpStream,
}

/// Sends a request of HTTP/1.1 through a socket. `lines` each end with CR LF.
pub(super) async fn receive(request_line: &str, lines: &str) -> ReceivedRequest {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let request = format!("{request_line} HTTP/1.1\r\n{lines}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let (stream, peer): (TcpStream, SocketAddr) = listener.accept().await.unwrap();

    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    let mut stream = Stream::from(stream);
    digest.peer_addr.set(Some(peer.into())).unwrap();
    stream.set_socket_digest(digest);
    let mut session = Session::new_h1(Box::new(stream));
    assert!(session.read_request().await.unwrap());
    ReceivedRequest { session, _client: client }
}
