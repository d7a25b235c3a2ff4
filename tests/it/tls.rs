//! TLS on either side: which certificate answers, what is accepted, and what is never believed.

mod handshakes;
mod mutual;
mod reasons;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use menshen::clock::SystemClock;
use menshen::config::Document;
use menshen::entropy::SystemEntropy;
use menshen::server::{self, Sources};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls::{SupportedProtocolVersion, version};
use tempfile::TempDir;

use crate::common::http2::{self, Http2};
use crate::common::{
    Connection, NO_THROTTLE, PATIENCE, ROUTES, Response, Tally, World, eventually, install_crypto, loopback,
    now, times,
};
use crate::proxying::http2::Client;
use crate::proxying::raw::{self, read_head};
use crate::proxying::{logged, upstream_failures};
use crate::refusals;

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

/// A certificate authority with a folder for what it issues.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key), folder }
    }

    /// Writes `<file>.pem` and `<file>.key`; the certificate's serial number tells it from another.
    pub fn issue(&self, file: &str, names: &[&str], serial: u64) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(serial.into());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(file, "pem"), certificate.pem()).unwrap();
        fs::write(self.path(file, "key"), key.serialize_pem()).unwrap();
    }

    pub fn path(&self, file: &str, extension: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{file}.{extension}"))
    }

    fn certificate_section(&self, file: &str) -> String {
        format!(
            "{{ certificate: '{}', key: '{}' }}",
            self.path(file, "pem").display(),
            self.path(file, "key").display()
        )
    }

    pub fn listeners(&self, files: &[&str]) -> String {
        let certificates: Vec<String> = files.iter().map(|file| self.certificate_section(file)).collect();
        format!(
            "listeners:\n  - address: 127.0.0.1:0\n    tls: {{ certificates: [{}] }}\n",
            certificates.join(", ")
        )
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Arc<ClientConfig> {
        install_crypto();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A TLS server that answers every request on every connection with 200, and opens a tunnel
    /// where asked to.
    fn server(&self, file: &str) -> SocketAddr {
        install_crypto();
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(self.path(file, "pem")).unwrap().collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(file, "key")).unwrap();
        Self::serve(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap())
    }

    fn serve(config: ServerConfig) -> SocketAddr {
        let config = Arc::new(config);
        raw::serve(move |stream| {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            loop {
                let head = read_head(&mut stream).to_lowercase();
                if head.is_empty() {
                    return;
                }
                if head.contains("upgrade: websocket") {
                    stream
                        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                        .unwrap();
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        })
    }
}

type Secure = Connection<StreamOwned<ClientConnection, TcpStream>>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Secure {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Connection::over(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream))
}

/// Makes a request; the serial number of the certificate that answered, or why there was none.
fn serial(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Result<u64, String> {
    let mut connection = connect(address, config, name);
    connection.stream.write_all(GET).map_err(|error| error.to_string())?;
    assert_eq!(connection.read_response(false).status, 200);
    let leaf = &connection.stream.conn.peer_certificates().unwrap()[0];
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    Ok(leaf.serial.to_string().parse().unwrap())
}

const ALL: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

#[test]
fn the_name_asked_for_chooses_the_certificate_and_the_first_answers_any_other() {
    let authority = Authority::new();
    authority.issue("first", &["one.test", "shared.test"], 1);
    authority.issue("second", &["two.test", "*.wild.test", "shared.test"], 2);
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", authority.listeners(&["first", "second"])));
    let config = authority.client(ALL, &[]);
    let ask = |name| serial(world.address(), &config, name);

    assert_eq!(ask("one.test"), Ok(1));
    assert_eq!(ask("two.test"), Ok(2));
    assert_eq!(ask("TWO.test"), Ok(2));
    assert_eq!(ask("a.wild.test"), Ok(2));
    assert_eq!(ask("shared.test"), Ok(1));
    for unknown in ["three.test", "wild.test", "a.b.wild.test"] {
        let refusal = ask(unknown).unwrap_err();
        assert!(refusal.contains("one.test"), "{unknown} is not answered by the first: {refusal}");
    }
    // A client that connects to an address asks for no name.
    assert!(ask("127.0.0.1").unwrap_err().contains("one.test"));
}

#[test]
fn tls_1_2_and_1_3_are_accepted() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", authority.listeners(&["first"])));

    for (only, expected) in [
        (&version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let config = authority.client(&[only], &[]);
        let mut client = connect(world.address(), &config, "gateway.test");
        assert_eq!(client.send(GET).status, 200);
        assert_eq!(client.send(GET).status, 200, "a second request on the same connection");
        assert_eq!(client.stream.conn.protocol_version(), Some(expected));
        assert_eq!(world.backend.last().header("x-forwarded-proto"), ["https"]);
    }
    assert_eq!(logged(&world, "/pub/x")["url.scheme"], "https");
}

/// A ClientHello that offers one old version with the cipher suites of its time.
fn old_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.push(0);
    let suites = [0xc0_u8, 0x13, 0xc0, 0x14, 0xc0, 0x09, 0x00, 0x2f, 0x00, 0x35, 0x00, 0x0a];
    hello.extend([0, u8::try_from(suites.len()).unwrap()]);
    hello.extend(suites);
    hello.extend([1, 0]);
    let mut message = vec![1, 0, 0, u8::try_from(hello.len()).unwrap()];
    message.extend(hello);
    let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

#[test]
fn lower_versions_and_plain_http_are_refused_on_a_tls_listener() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", authority.listeners(&["first"])));

    for (name, sent) in [
        ("SSL 3.0", old_hello(0)),
        ("TLS 1.0", old_hello(1)),
        ("TLS 1.1", old_hello(2)),
        ("plain HTTP", GET.to_vec()),
    ] {
        let mut client = world.connect();
        client.write(&sent);
        let mut answer = Vec::new();
        _ = client.stream.read_to_end(&mut answer);
        // 21 is an alert; a handshake that goes on would be 22.
        assert!(matches!(answer.first(), None | Some(21)), "{name}: {answer:?}");
    }
    assert_eq!(world.backend.count(), 0);
    // A client may see the end before it is counted.
    eventually("each is counted", || {
        world.metric(r#"menshen_rejected_connections_total{reason="tls_failed"}"#) == 4.0
    });
}

#[test]
fn a_handshake_counts_as_a_connection_and_must_end_in_time() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let limits = "limits: { header_timeout: 700ms, max_connections: 2 }\n";
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{limits}{}", authority.listeners(&["first"])));
    let since = now();
    let mut silent = [world.connect(), world.connect()];
    eventually("both are open", || world.metric("menshen_open_connections") == 2.0);

    assert!(world.connect().is_closed(), "there was room for a third");
    for client in &mut silent {
        assert!(client.is_closed());
    }

    let open = since.elapsed();
    assert!(open > Duration::from_millis(500) && open < Duration::from_secs(5), "{open:?}");
    eventually("both are counted", || {
        world.metric(r#"menshen_rejected_connections_total{reason="header_timeout"}"#) == 2.0
    });
    let config = authority.client(ALL, &[]);
    eventually("there is room again", || world.metric("menshen_open_connections") == 0.0);
    assert_eq!(serial(world.address(), &config, "gateway.test"), Ok(1));
    for alpn in [&b"h2"[..], b"http/1.1"] {
        eventually("there is room again", || world.metric("menshen_open_connections") == 0.0);
        let mut client = connect(world.address(), &authority.client(ALL, &[alpn]), "gateway.test");
        let since = now();
        // Completes the handshake and then says nothing.
        _ = std::io::copy(&mut client.stream, &mut std::io::sink());
        assert!(since.elapsed() < Duration::from_secs(5), "{}", String::from_utf8_lossy(alpn));
    }
}

/// The hostile requests of `refusals`, behind TLS, with ALPN and without.
#[test]
fn every_malformed_request_is_refused_over_tls_as_it_is_without() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let listeners = authority.listeners(&["first"]);
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{listeners}"));
    let mut tally = Tally::default();
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let config = authority.client(ALL, alpn);
        for (bytes, status, reason) in refusals::table() {
            let shown: String = bytes.escape_ascii().to_string().chars().take(100).collect();
            let mut connection = connect(world.address(), &config, "gateway.test");
            // The gateway may answer before it has read all of it.
            _ = connection.stream.write_all(&bytes);

            let response = connection.read_response(false);

            assert_eq!((response.status, &response.json()["code"]), (status, &reason.into()), "{shown}");
            assert_eq!(response.header("server"), Some("menshen"), "{shown}");
            tally.add(response.status, 0);
        }
    }
    assert_eq!(world.backend.count(), 0);
    tally.report("tls: hostile framings");
}

/// Without TLS's own goodbye a client cannot tell the end from an attack.
#[test]
fn a_connection_of_http_2_that_is_idle_says_goodbye_in_tls_too() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    for limits in ["h2: { idle_timeout: 300ms }", "header_timeout: 500ms"] {
        let world = World::with(&format!(
            "{ROUTES}{NO_THROTTLE}limits: {{ {limits} }}\n{}",
            authority.listeners(&["first"])
        ));
        for version in ALL {
            let config = authority.client(&[version], &[b"h2"]);
            let stream = connect(world.address(), &config, "gateway.test").stream;
            let mut client = Http2::over(stream);
            if limits.starts_with("h2") {
                assert_eq!(client.send(&http2::fields("GET", b"/pub/x", &[])).status(), 200);
            }

            assert!(client.next_of(http2::GOAWAY).is_some(), "closed without a word");
            assert!(client.is_closed());
            let end = client.stream.read(&mut [0]);
            assert_eq!(end.map_err(|error| error.to_string()), Ok(0), "{limits} {version:?}");
        }
    }
}

#[test]
fn http_2_is_spoken_where_client_and_listener_want_it() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let listeners = authority.listeners(&["first"])
        + &authority
            .listeners(&["first"])
            .replace("listeners:\n", "")
            .replace("tls: {", "tls: { http2: false,");
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{listeners}"));
    let [both, only_http1] = world.gateway().addresses() else { panic!("two listeners") };

    for (address, offered, chosen) in [
        (both, &[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (both, &[b"http/1.1"], Some(b"http/1.1")),
        (both, &[], None),
        (only_http1, &[b"h2", b"http/1.1"], Some(b"http/1.1")),
    ] {
        let mut client = connect(*address, &authority.client(ALL, offered), "gateway.test");
        client.stream.conn.complete_io(&mut client.stream.sock).unwrap();
        assert_eq!(client.stream.conn.alpn_protocol(), chosen);
        if chosen != Some(b"h2") {
            assert_eq!(client.send(GET).status, 200);
        }
    }

    let config = authority.client(ALL, &[b"h2"]);
    let address = *both;
    let client = Client::over(async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("gateway.test").unwrap();
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap()
    });
    assert_eq!(client.get("/pub/h2", &[]).status, 200);
    assert_eq!(client.get("/x", &[]).status, 401);
    assert_eq!(world.backend.last().header("x-forwarded-proto"), ["https"]);
    assert_eq!(logged(&world, "/pub/h2")["network.protocol.version"], "2");
}

#[test]
fn a_renewed_certificate_answers_without_a_restart_and_a_broken_one_never_does() {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", authority.listeners(&["first"])));
    // A configuration of its own each time: a resumed session would show the certificate it began
    // with.
    let ask = || serial(world.address(), &authority.client(ALL, &[]), "gateway.test");
    let mut kept = connect(world.address(), &authority.client(ALL, &[]), "gateway.test");
    assert_eq!(kept.send(GET).status, 200);
    let good = fs::read(authority.path("first", "pem")).unwrap();

    change(
        &authority.path("first", "pem"),
        b"-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----\n",
    );
    _ = world.gateway().reload();
    assert_eq!(ask(), Ok(1), "a broken file");
    change(&authority.path("first", "pem"), b"");
    _ = world.gateway().reload();
    assert_eq!(ask(), Ok(1), "an empty file");
    fs::remove_file(authority.path("first", "pem")).unwrap();
    _ = world.gateway().reload();
    assert_eq!(ask(), Ok(1), "a file that is gone");
    change(&authority.path("first", "pem"), &good);
    authority.issue("other", &["gateway.test"], 9);
    change(&authority.path("first", "key"), &fs::read(authority.path("other", "key")).unwrap());
    _ = world.gateway().reload();
    assert_eq!(ask(), Ok(1), "a key of another certificate");

    change(&authority.path("first", "pem"), &fs::read(authority.path("other", "pem")).unwrap());
    world.gateway().reload().unwrap();
    assert_eq!(ask(), Ok(9));
    assert_eq!(kept.send(GET).status, 200, "a connection made before goes on");
}

/// Writes a file so that its time of change differs, however quick the test is.
fn change(path: &Path, content: &[u8]) {
    let before = fs::metadata(path).and_then(|file| file.modified()).ok();
    eventually("the file's time has changed", || {
        fs::write(path, content).unwrap();
        fs::metadata(path).unwrap().modified().ok() != before
    });
}

#[test]
fn files_that_cannot_be_used_are_refused_at_start_all_at_once_and_by_name() {
    let authority = Authority::new();
    authority.issue("good", &["gateway.test"], 1);
    authority.issue("other", &["gateway.test"], 2);
    fs::write(authority.path("empty", "pem"), "").unwrap();
    fs::copy(authority.path("good", "key"), authority.path("empty", "key")).unwrap();
    fs::copy(authority.path("good", "pem"), authority.path("mixed", "pem")).unwrap();
    fs::copy(authority.path("other", "key"), authority.path("mixed", "key")).unwrap();
    fs::copy(authority.path("good", "pem"), authority.path("keyless", "pem")).unwrap();
    let yaml = format!(
        "{}admin: {{ address: 127.0.0.1:0 }}
data_dir: '{}'
apps:\n  shop: {{ kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }}
upstreams: {{ backend: {{ servers: ['127.0.0.1:1'] }} }}
{ROUTES}",
        authority.listeners(&["good", "empty", "mixed", "keyless"]),
        authority.folder.path().join("state").display(),
    );
    let document = Document::parse("test.yaml", &yaml).unwrap();
    let sources = Sources { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) };

    let error =
        server::start(&document, authority.folder.path().join("test.yaml"), sources).unwrap_err().to_string();

    let path = |file, extension| authority.path(file, extension).display().to_string();
    assert!(
        error.contains(&format!("certificate `{}` holds no PEM certificate", path("empty", "pem"))),
        "{error}"
    );
    assert!(
        error.contains(&format!(
            "key `{}` does not belong to certificate `{}`",
            path("mixed", "key"),
            path("mixed", "pem")
        )),
        "{error}"
    );
    assert!(error.contains(&format!("key `{}` cannot be read", path("keyless", "key"))), "{error}");
    for at in [
        "listeners[0].tls.certificates[1]",
        "listeners[0].tls.certificates[2]",
        "listeners[0].tls.certificates[3]",
    ] {
        assert!(error.contains(at), "{at} is not named: {error}");
    }
    assert!(!error.contains("certificates[0]"), "{error}");
}

fn secured(address: SocketAddr, tls: &str, options: &str) -> World {
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}upstreams: {{ backend: {{ servers: ['{address}'], tls: {{ {tls} }}{options} }} }}\n"
    ))
}

fn assert_refused(answer: &Response, what: &str) {
    assert_eq!(
        (answer.status, answer.json()["code"].as_str().unwrap()),
        (502, "upstream_tls_failed"),
        "{what}"
    );
}

#[test]
fn a_backend_must_prove_its_name_by_an_authority_that_is_trusted() {
    let (trusted, stranger) = (Authority::new(), Authority::new());
    trusted.issue("backend", &["backend.test"], 1);
    stranger.issue("backend", &["backend.test"], 2);
    let ca = |authority: &Authority| format!("ca_file: '{}'", authority.path("ca", "pem").display());

    for (what, server, tls, is_good) in [
        ("all is right", &trusted, format!("server_name: backend.test, {}", ca(&trusted)), true),
        ("another name", &trusted, format!("server_name: other.test, {}", ca(&trusted)), false),
        ("another authority", &stranger, format!("server_name: backend.test, {}", ca(&trusted)), false),
        ("the system's authorities", &trusted, "server_name: backend.test".to_owned(), false),
    ] {
        let world = secured(server.server("backend"), &tls, "");
        let answer = world.get("/pub/x", "");
        if is_good {
            assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()), "{what}");
        } else {
            assert_refused(&answer, what);
            assert_eq!(logged(&world, "/pub/x")["reason"], "upstream_tls_failed", "{what}");
            assert_eq!(upstream_failures(&world, "upstream_tls_failed"), 1.0, "{what}");
        }
    }
}

#[test]
fn a_tunnel_to_a_backend_is_verified_as_any_other_connection() {
    let (trusted, stranger) = (Authority::new(), Authority::new());
    trusted.issue("backend", &["backend.test"], 1);
    stranger.issue("backend", &["backend.test"], 2);
    let opening = "GET /ws HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for (server, is_good) in [(&trusted, true), (&stranger, false)] {
        let address = server.server("backend");
        let world = World::with(&format!(
            "{NO_THROTTLE}routes: [{{ path: /, access: public, upstream: backend, websocket: true }}]
upstreams: {{ backend: {{ servers: ['{address}'], tls: {{ server_name: backend.test, ca_file: '{}' }} }} }}\n",
            trusted.path("ca", "pem").display()
        ));
        let mut client = world.connect();
        client.write(opening.as_bytes());
        if is_good {
            assert_eq!(client.read_header().unwrap().status, 101);
            for round in 0..5 {
                client.write(b"hello");
                assert_eq!(client.read_exact(5), b"hello", "round {round}");
            }
        } else {
            assert_refused(&client.read_response(false), "another authority");
        }
    }
}

#[test]
fn a_backend_that_speaks_no_tls_or_never_answers_a_handshake_fails() {
    let authority = Authority::new();
    let tls = format!("server_name: backend.test, ca_file: '{}'", authority.path("ca", "pem").display());
    let plain = raw::serve(|mut stream| {
        _ = stream.read(&mut [0; 4096]);
        _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let world = secured(plain, &tls, "");
    assert_refused(&world.get("/pub/x", ""), "plain HTTP");

    let silent = raw::serve(|mut stream| _ = stream.read(&mut [0; 4096]).and_then(|_| stream.read(&mut [0])));
    let world = secured(silent, &tls, ", connect_timeout: 300ms");
    let answer = world.get("/pub/x", "");
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (504, "upstream_connect_timeout"));
}

#[test]
fn a_connection_that_another_authority_vouched_for_is_not_used_after_a_reload() {
    let (old, new) = (Authority::new(), Authority::new());
    old.issue("backend", &["backend.test"], 1);
    let ca = |authority: &Authority| authority.path("ca", "pem").display().to_string();
    let world =
        secured(old.server("backend"), &format!("server_name: backend.test, ca_file: '{}'", ca(&old)), "");
    assert_eq!(world.get("/pub/x", "").status, 200);

    let file = world.data.path().join("menshen.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&ca(&old), &ca(&new))).unwrap();
    world.gateway().reload().unwrap();

    assert_refused(&world.get("/pub/x", ""), "the authority has changed");
}

#[test]
fn a_connection_that_another_authority_vouched_for_is_not_used_after_its_file_has_changed() {
    let (old, new) = (Authority::new(), Authority::new());
    old.issue("backend", &["backend.test"], 1);
    let ca = old.path("ca", "pem");
    let tls = format!("server_name: backend.test, ca_file: '{}'", ca.display());
    let world = secured(old.server("backend"), &tls, "");
    assert_eq!(world.get("/pub/x", "").status, 200);

    fs::copy(new.path("ca", "pem"), &ca).unwrap();
    world.gateway().reload().unwrap();

    assert_refused(&world.get("/pub/x", ""), "the authority has changed");
}

#[test]
fn an_upstream_with_tls_and_no_usable_name_is_refused_at_start() {
    for name in ["''", "'two words'", "'https://backend.test'"] {
        let yaml = format!(
            "listeners: [{{ address: '{}' }}]
admin: {{ address: 127.0.0.1:0 }}
data_dir: /nowhere
apps:\n  shop: {{ kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }}
upstreams: {{ backend: {{ servers: ['127.0.0.1:1'], tls: {{ server_name: {name} }} }} }}
{ROUTES}",
            loopback()
        );
        let mut refusal = String::new();
        match Document::parse("test.yaml", &yaml) {
            Err(report) => refusal = report.to_string(),
            Ok(document) => {
                let sources = Sources { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) };
                if let Err(error) = server::start(&document, "/nowhere/test.yaml".into(), sources) {
                    refusal = error.to_string();
                }
            }
        }
        assert!(refusal.contains("upstreams.backend.tls.server_name"), "{name}: {refusal:?}");
    }
}
