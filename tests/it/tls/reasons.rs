//! Why TLS with a backend failed, in words; and certificates of backends that are pinned.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use menshen::clock::{Clock as _, SystemClock};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};

use super::{Authority, secured};
use crate::common::{NO_THROTTLE, PATIENCE, ROUTES, World, eventually, install_crypto, leaks};
use crate::proxying::logged;
use crate::proxying::raw;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now().millis())
}

fn params(days: (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["backend.test".to_owned()]).unwrap();
    let at = |days: i64| {
        let distance = DAY * u32::try_from(days.abs()).unwrap();
        if days < 0 { today() - distance } else { today() + distance }
    };
    (params.not_before, params.not_after) = (at(days.0).into(), at(days.1).into());
    params
}

fn server_config(certificate: &Certificate, key: &KeyPair) -> ServerConfig {
    install_crypto();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()
}

/// A backend with a certificate of this authority.
fn certified(authority: &Authority, params: CertificateParams) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    Authority::serve(server_config(&certificate, &key))
}

/// A backend with a certificate that it signed itself, and the certificate.
fn self_signed(params: &CertificateParams) -> (SocketAddr, Certificate) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (Authority::serve(server_config(&certificate, &key)), certificate)
}

fn authority_params() -> CertificateParams {
    let mut params = params((-1, 90));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// The lines of the log about this address, at this level.
fn lines_of(level: &str, address: SocketAddr) -> Vec<String> {
    let log = String::from_utf8(leaks::logged_since(0)).unwrap();
    let is_one = |line: &&str| line.contains(level) && line.contains(&address.to_string());
    log.lines().filter(is_one).map(str::to_owned).collect()
}

fn assert_reason(world: &World, address: SocketAddr, expected: &str) {
    for _ in 0..3 {
        assert_eq!(world.get("/pub/x", "").status, 502, "{expected}");
    }
    assert_eq!(logged(world, "/pub/x")["upstream.error"], expected);
    let warnings = lines_of(" WARN ", address);
    assert_eq!(warnings.len(), 1, "{expected}: {warnings:?}");
    assert!(warnings[0].contains(&format!("of upstream `backend` is down: {expected}")), "{warnings:?}");
    let up = format!(r#"menshen_upstream_server_up{{server="{address}",upstream="backend"}} 0"#);
    assert!(world.metrics().contains(&up), "{expected}");
}

#[test]
fn a_handshake_that_fails_says_why_in_the_log_and_in_the_line_of_the_request() {
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let tls = |name: &str| format!("server_name: {name}, ca_file: '{}'", trusted.path("ca", "pem").display());
    let mut for_clients = params((-1, 90));
    for_clients.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let mut others = Vec::new();
    for (server, name, expected) in [
        (certified(&stranger, params((-1, 90))), "backend.test", "unknown issuer of the certificate"),
        (self_signed(&params((-1, 90))).0, "backend.test", "unknown issuer of the certificate"),
        (certified(&trusted, params((-1, 90))), "other.test", "the certificate is for another name"),
        (certified(&trusted, params((-90, -1))), "backend.test", "certificate expired"),
        (certified(&trusted, params((1, 90))), "backend.test", "certificate not yet valid"),
        (certified(&trusted, authority_params()), "backend.test", "certificate of an authority used as leaf"),
        (certified(&trusted, for_clients), "backend.test", "the certificate is not for servers"),
        (
            raw::serve(|mut stream: TcpStream| {
                use std::io::Write as _;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
                raw::read_head(&mut stream);
            }),
            "backend.test",
            "the server does not speak TLS",
        ),
        (raw::serve(drop), "backend.test", "the server ended the connection during the handshake"),
        (
            raw::serve(|mut stream: TcpStream| {
                use std::io::{Read as _, Write as _};
                _ = stream.read(&mut [0; 4096]);
                // A fatal alert: protocol_version.
                stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).unwrap();
                _ = stream.read(&mut [0; 4096]);
            }),
            "backend.test",
            "no common version of TLS",
        ),
        (
            raw::serve(|mut stream: TcpStream| {
                use std::io::{Read as _, Write as _};
                _ = stream.read(&mut [0; 4096]);
                // A fatal alert: handshake_failure.
                stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).unwrap();
                _ = stream.read(&mut [0; 4096]);
            }),
            "backend.test",
            "the server refused the handshake",
        ),
    ] {
        let world = secured(server, &tls(name), "");
        world.get("/pub/x", "");
        let told = logged(&world, "/pub/x")["upstream.error"].to_string();
        if told != format!("{expected:?}") {
            others.push((expected, told));
            continue;
        }
        assert_reason(&world, server, expected);
    }
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn a_server_that_refuses_the_gateways_certificate_says_so_with_either_version_of_tls() {
    for version in [&version::TLS12, &version::TLS13] {
        let (servers, clients) = (Authority::new(), Authority::new());
        let key = KeyPair::generate().unwrap();
        let certificate = params((-1, 90)).signed_by(&key, &servers.issuer).unwrap();
        install_crypto();
        let mut roots = RootCertStore::empty();
        roots.add(clients.certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let config = ServerConfig::builder_with_protocol_versions(&[version])
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        let address = Authority::serve(config.unwrap());
        let tls = format!("server_name: backend.test, ca_file: '{}'", servers.path("ca", "pem").display());
        let world = secured(address, &tls, "");

        assert_eq!(world.get("/pub/x", "").status, 502);

        let line = logged(&world, "/pub/x");
        let expected = "the server requires a certificate of the gateway, or refuses the one shown";
        assert_eq!(
            (&line["reason"], &line["upstream.error"]),
            (&"upstream_tls_failed".into(), &expected.into())
        );
        let warnings = lines_of(" WARN ", address);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(expected), "{warnings:?}");
    }
}

/// A world whose backend must show one of these certificates.
fn pinned(address: SocketAddr, certificates: &[&Certificate], name: &str) -> World {
    let folder = Box::leak(Box::new(tempfile::tempdir().unwrap())).path();
    let files = certificates.iter().enumerate().map(|(number, certificate)| {
        let file = folder.join(format!("{number}.pem"));
        fs::write(&file, certificate.pem()).unwrap();
        format!("'{}'", file.display())
    });
    let files = files.collect::<Vec<_>>().join(", ");
    secured(address, &format!("server_name: {name}, pinned_certificates: [{files}]"), "")
}

#[test]
fn a_pinned_certificate_is_accepted_whoever_signed_it_and_whatever_it_says() {
    for (what, params, name) in [
        ("self-signed", params((-1, 90)), "backend.test"),
        ("one of an authority", authority_params(), "backend.test"),
        ("for another name", params((-1, 90)), "other.test"),
        ("expired", params((-90, -1)), "backend.test"),
    ] {
        let (address, certificate) = self_signed(&params);
        let (_, other) = self_signed(&params);
        for certificates in [&[&certificate][..], &[&other, &certificate]] {
            let world = pinned(address, certificates, name);
            let answer = world.get("/pub/x", "");
            assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()), "{what}");
        }
    }
}

#[test]
fn a_certificate_that_is_not_pinned_is_refused_before_anything_is_sent() {
    let params = params((-1, 90));
    let (_, expected) = self_signed(&params);
    let authority = Authority::new();
    let (heard, hears) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let key = KeyPair::generate().unwrap();
    // Signed by an authority that is pinned as a certificate: it is no authority here.
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let config = Arc::new(server_config(&certificate, &key));
    let address = raw::serve(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        heard.lock().unwrap().send(raw::read_head(&mut stream)).unwrap();
    });
    let file = authority.path("ca", "pem");
    fs::write(authority.path("expected", "pem"), expected.pem()).unwrap();
    let tls = format!(
        "server_name: backend.test, pinned_certificates: ['{}', '{}']",
        file.display(),
        authority.path("expected", "pem").display()
    );
    let routes = ROUTES.replace("upstream: backend }", "upstream: backend, websocket: true }");
    let world = World::with(&format!(
        "{routes}{NO_THROTTLE}upstreams: {{ backend: {{ servers: ['{address}'], tls: {{ {tls} }} }} }}\n"
    ));

    assert_reason(&world, address, "certificate not pinned");

    let opening = "GET /pub/ws HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(world.send(opening).status, 502);
    for _ in 0..4 {
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), "", "a request was sent");
    }
}

#[test]
fn a_server_without_the_key_of_a_pinned_certificate_is_refused() {
    let (_, certificate) = self_signed(&params((-1, 90)));
    let other = KeyPair::generate().unwrap();
    install_crypto();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(
        &PrivateKeyDer::try_from(other.serialize_der()).unwrap(),
    )
    .unwrap();
    #[derive(Debug)]
    struct Stolen(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Stolen {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let stolen = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], key);
    let config =
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(Stolen(Arc::new(stolen))));
    let world = pinned(Authority::serve(config), &[&certificate], "backend.test");

    assert_eq!(world.get("/pub/x", "").status, 502);
    assert_eq!(logged(&world, "/pub/x")["reason"], "upstream_tls_failed");
}

#[test]
fn a_certificate_that_is_no_longer_pinned_is_refused_after_a_reload() {
    let (address, certificate) = self_signed(&params((-1, 90)));
    let (_, next) = self_signed(&params((-1, 90)));
    let world = pinned(address, &[&certificate, &next], "backend.test");
    assert_eq!(world.get("/pub/x", "").status, 200);

    let file = world.data.path().join("menshen.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let first = text.split("pinned_certificates: [").nth(1).unwrap().split(", ").next().unwrap();
    fs::write(&file, text.replace(&format!("{first}, "), "")).unwrap();
    world.gateway().reload().unwrap();

    assert_eq!(world.get("/pub/x", "").status, 502);
    eventually("the log says why", || {
        lines_of(" WARN ", address).iter().any(|line| line.contains("certificate not pinned"))
    });
}
