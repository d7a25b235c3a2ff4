//! Certificates of clients: those that the gateway asks for, and the one that it shows itself.

use rustls::server::WebPkiClientVerifier;

use super::*;

/// A client that shows a certificate of its authority, and believes the gateway's.
fn client_of(
    own: &Authority,
    file: &str,
    gateway: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    install_crypto();
    let mut roots = RootCertStore::empty();
    roots.add(gateway.certificate.clone()).unwrap();
    let (chain, key) = pair(own, file);
    let builder = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
    Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
}

fn pair(authority: &Authority, file: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(authority.path(file, "pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path(file, "key")).unwrap();
    (chain.collect::<Result<_, _>>().unwrap(), key)
}

/// The status that a client gets, or nothing where it is not let in.
fn status(world: &World, config: &Arc<ClientConfig>) -> Option<u16> {
    let mut client = connect(world.address(), config, "gateway.test");
    // In TLS 1.3 a client learns only with its first answer that it was not let in.
    client.stream.write_all(GET).ok()?;
    let mut first = [0];
    client.stream.read_exact(&mut first).ok()?;
    Some(if first == *b"H" { 200 } else { 0 })
}

#[test]
fn a_listener_accepts_only_clients_of_its_authority() {
    let (gateway, clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    gateway.issue("first", &["gateway.test"], 1);
    clients.issue("alice", &["alice.test"], 2);
    stranger.issue("mallory", &["alice.test"], 2);
    let listeners = gateway
        .listeners(&["first"])
        .replace("tls: {", &format!("tls: {{ client_ca_file: '{}/ca.pem',", clients.folder.path().display()));
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{listeners}"));

    for version in ALL {
        let versions = &[*version];
        let known = client_of(&clients, "alice", &gateway, versions);
        assert_eq!(status(&world, &known), Some(200), "{version:?}");
        // One that was let in before is let in again by its ticket.
        assert_eq!(status(&world, &known), Some(200), "{version:?}");
        let unknown = client_of(&stranger, "mallory", &gateway, versions);
        assert_eq!(status(&world, &unknown), None, "{version:?}");
        assert_eq!(status(&world, &gateway.client(versions, &[])), None, "{version:?}");
    }
    assert_eq!(world.backend.count(), 4);
}

#[test]
fn authorities_that_are_none_are_named_before_the_start() {
    let gateway = Authority::new();
    gateway.issue("first", &["gateway.test"], 1);
    for (content, expected) in
        [("", "holds no PEM certificates"), ("not a certificate", "holds no PEM certificates")]
    {
        fs::write(gateway.folder.path().join("clients.pem"), content).unwrap();
        let listeners = gateway.listeners(&["first"]).replace(
            "tls: {",
            &format!("tls: {{ client_ca_file: '{}/clients.pem',", gateway.folder.path().display()),
        );
        let yaml = crate::common::yaml(&format!("{ROUTES}{listeners}"));
        let document = Document::parse(
            "f",
            &yaml
                .replace("{backend}", "127.0.0.1:1")
                .replace("{emulator}", "http://127.0.0.1:1")
                .replace("{data}", gateway.folder.path().to_str().unwrap()),
        )
        .unwrap();
        let mut findings = menshen::config::Findings::default();
        server::check(&document.config, &Sources::default(), &mut findings).unwrap();

        let report = document.report(findings).to_string();

        assert!(report.contains("listeners[0].tls.client_ca_file") && report.contains(expected), "{report}");
    }
}

#[test]
fn a_load_balancer_speaks_before_tls_does() {
    let gateway = Authority::new();
    gateway.issue("first", &["gateway.test"], 1);
    let listeners =
        gateway.listeners(&["first"]).replace("    tls:", "    proxy_protocol: [127.0.0.1]\n    tls:");
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{listeners}"));
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n").unwrap();
    let name = ServerName::try_from("gateway.test").unwrap();
    let client = ClientConnection::new(gateway.client(ALL, &[]), name).unwrap();

    let response = Connection::over(StreamOwned::new(client, stream)).send(GET);

    assert_eq!(response.status, 200);
    assert_eq!(world.backend.last().header("x-forwarded-for"), ["203.0.113.7"]);
    assert_eq!(world.backend.last().header("x-forwarded-proto"), ["https"]);
}

#[test]
fn the_gateway_shows_its_certificate_to_servers_that_ask_for_one() {
    install_crypto();
    let (servers, gateways) = (Authority::new(), Authority::new());
    servers.issue("backend", &["backend.test"], 1);
    gateways.issue("gateway", &["gateway.test"], 2);
    let mut roots = RootCertStore::empty();
    roots.add(gateways.certificate.clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let (chain, key) = pair(&servers, "backend");
    let config = ServerConfig::builder().with_client_cert_verifier(clients).with_single_cert(chain, key);
    let address = Authority::serve(config.unwrap());
    let upstream = |certificate: &str| {
        let ca = servers.folder.path().join("ca.pem");
        format!(
            "upstreams: {{ backend: {{ servers: ['{address}'], tls: {{ server_name: backend.test, ca_file: '{}'{certificate} }} }} }}\n",
            ca.display()
        )
    };
    let shown = format!(", client_certificate: {}", gateways.certificate_section("gateway"));

    let with = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", upstream(&shown)));
    let without = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", upstream("")));

    assert_eq!(with.connect().send(GET).status, 200);
    assert_eq!(without.connect().send(GET).status, 502);
}

#[test]
fn no_request_is_read_before_the_handshake_is_over() {
    let gateway = Authority::new();
    gateway.issue("first", &["gateway.test"], 1);
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{}", gateway.listeners(&["first"])));
    let mut config = Arc::unwrap_or_clone(gateway.client(&[&version::TLS13], &[]));
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..3 {
        let mut client = connect(world.address(), &config, "gateway.test");

        assert!(client.stream.conn.early_data().is_none(), "early data is offered");
        assert_eq!(client.send(GET).status, 200);
    }
}
