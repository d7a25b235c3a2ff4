//! How the servers of an upstream are connected to: protocol, timeouts, and TLS with its
//! certificates.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::tls::SslDigest;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{self, Findings, UpstreamProtocol, warn_of_exposed_file};
use crate::digest::sha256;

/// How long a connection is silent before the system asks whether the server is still there, how
/// long it waits before it asks again, and how often it asks. Otherwise a request whose server may
/// be silent for ever would never end if that machine is gone.
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(60);
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: usize = 6;

/// What every connection of an upstream is made from.
pub(super) struct PeerTemplate {
    pub(super) peer: HttpPeer,
    pub(super) pins: Pins,
}

/// SHA-256 of the certificates that the servers may show. Empty: an authority vouches for them.
#[derive(Debug, Default)]
pub(super) struct Pins(Vec<[u8; 32]>);

impl Pins {
    /// Whether the certificate of a connection is one of these.
    pub(super) fn accept(&self, tls: Option<&SslDigest>) -> bool {
        let shown = tls.map(|tls| tls.cert_digest.as_slice());
        self.0.is_empty() || shown.is_some_and(|shown| self.0.iter().any(|pinned| pinned == shown))
    }
}

/// Builds what the connections of an upstream are made from.
pub(super) fn build(
    name: &str,
    config: &config::Upstream,
    at: &str,
    findings: &mut Findings,
) -> Option<PeerTemplate> {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let server_name = server_name(config.tls.as_ref(), at, findings)?;
    let mut peer = HttpPeer::new(unspecified, config.tls.is_some(), server_name.to_owned());
    let mut pool_group = DefaultHasher::new();
    (name, config.protocol).hash(&mut pool_group);
    let options = &mut peer.options;
    options.connection_timeout = Some(config.connect_timeout.0);
    options.total_connection_timeout = Some(config.connect_timeout.0);
    options.read_timeout = Some(config.read_timeout.0);
    options.write_timeout = Some(config.write_timeout.0);
    options.idle_timeout = Some(config.idle_timeout.0);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: PROBE_AFTER,
        interval: PROBE_INTERVAL,
        count: PROBES,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::ZERO,
    });
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    match config.protocol {
        UpstreamProtocol::Http1 => options.alpn = ALPN::H1,
        UpstreamProtocol::Http2 => {
            options.alpn = ALPN::H2;
            options.max_h2_streams = 100;
        }
    }
    let tls = config.tls.as_ref();
    let pins = set_trust(&mut peer, tls, at, &mut pool_group, findings)?;
    if let Some(pair) = tls.and_then(|tls| tls.client_certificate.as_ref()) {
        match client_certificate(pair) {
            Ok((chain, key)) => {
                let key_at = format!("{at}.tls.client_certificate.key");
                warn_of_exposed_file(&key_at, &pair.key, findings);
                chain.iter().for_each(|certificate| certificate.hash(&mut pool_group));
                peer.client_cert_key = Some(Arc::new(CertKey::new(chain, key.secret_der().to_vec())));
            }
            Err(UnusableClientPair { reason, is_unreadable }) => {
                let finding = findings.error(format!("{at}.tls.client_certificate"), reason);
                finding.is_of_surroundings = is_unreadable;
                return None;
            }
        }
    }
    // Pingora's pool distinguishes neither authorities nor protocols, and outlives a reload: a
    // connection to a server that an authority certified must not be reused after that authority is
    // no longer trusted.
    peer.group_key = pool_group.finish();
    Some(PeerTemplate { peer, pins })
}

/// Sets which certificates of servers are trusted: those of the system's authorities, of others, or
/// single ones.
fn set_trust(
    peer: &mut HttpPeer,
    tls: Option<&config::UpstreamTls>,
    at: &str,
    pool_group: &mut DefaultHasher,
    findings: &mut Findings,
) -> Option<Pins> {
    let Some(tls) = tls else { return Some(Pins::default()) };
    let is_pinned = !tls.pinned_certificates.is_empty();
    is_pinned.hash(pool_group);
    if is_pinned && tls.ca_file.is_some() {
        findings
            .error(format!("{at}.tls.ca_file"), "no authority is asked if certificates are pinned")
            .hint("write `ca_file` or `pinned_certificates`");
        return None;
    }
    let pinned = tls.pinned_certificates.iter().enumerate();
    let pinned = pinned.map(|(place, file)| (format!("{at}.tls.pinned_certificates[{place}]"), file));
    let authorities = tls.ca_file.iter().map(|file| (format!("{at}.tls.ca_file"), file));
    let mut trusted = Vec::new();
    let mut is_sound = true;
    for (at, file) in authorities.chain(pinned) {
        match certificates(file).and_then(|list| list.iter().map(usable).collect::<Result<Vec<_>, _>>()) {
            Ok(list) => trusted.extend(list),
            Err(error) => {
                error.report(&at, file, findings);
                is_sound = false;
            }
        }
    }
    if !is_sound {
        return None;
    }
    let mut pins = Pins::default();
    if !trusted.is_empty() {
        trusted.iter().for_each(|(der, _)| der.as_ref().hash(pool_group));
        if is_pinned {
            pins.0.extend(trusted.iter().map(|(der, _)| sha256(&[der.as_ref()])));
        }
        // Where certificates are pinned they are no authorities. Pingora wants a list of them all
        // the same, also if the system has none.
        peer.options.ca = Some(trusted.into_iter().map(|(_, parsed)| parsed).collect());
    }
    if is_pinned {
        // Pingora then verifies that the server has the certificate's key, and nothing else:
        // `Upstream::verify` compares the certificate. What is pinned needs neither a name nor an
        // authority, and does not expire; compare RFC 7671 §5.1.
        peer.options.verify_cert = false;
        peer.options.verify_hostname = false;
    }
    Some(pins)
}

/// Returns the name that the servers' certificates must carry; empty for plain HTTP.
fn server_name<'c>(
    tls: Option<&'c config::UpstreamTls>,
    at: &str,
    findings: &mut Findings,
) -> Option<&'c str> {
    let Some(tls) = tls else { return Some("") };
    if rustls::pki_types::ServerName::try_from(tls.server_name.as_str()).is_err() {
        // Without a name Pingora verifies nothing.
        findings
            .error(format!("{at}.tls.server_name"), format!("`{}` is not a DNS name", tls.server_name))
            .hint("write the name the servers' certificate carries");
        return None;
    }
    Some(&tls.server_name)
}

/// Why a file of certificates cannot be used.
enum UnusableCertificates {
    Unreadable(pem::Error),
    Empty,
    Unsupported,
}

impl UnusableCertificates {
    fn report(&self, at: &str, file: &Path, findings: &mut Findings) {
        let name = file.display();
        match self {
            Self::Unreadable(pem::Error::Io(error)) => {
                findings.error(at, format!("`{name}` cannot be read: {error}")).of_surroundings()
            }
            Self::Unreadable(error) => {
                findings.error(at, format!("`{name}` holds no PEM certificates: {error}"))
            }
            Self::Empty => findings.error(at, format!("`{name}` holds no PEM certificates")),
            Self::Unsupported => {
                findings.error(at, format!("`{name}` holds a certificate that is not of X.509 version 3"))
            }
        };
    }
}

/// Reads the certificates of a file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableCertificates> {
    let list = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let list = list.map_err(UnusableCertificates::Unreadable)?;
    if list.is_empty() { Err(UnusableCertificates::Empty) } else { Ok(list) }
}

/// A certificate in the form that Pingora takes, which it parses without asking whether that fails.
fn usable(
    der: &CertificateDer<'static>,
) -> Result<(CertificateDer<'static>, WrappedX509), UnusableCertificates> {
    rustls::RootCertStore::empty().add(der.clone()).map_err(|_| UnusableCertificates::Unsupported)?;
    X509Certificate::from_der(der).map_err(|_| UnusableCertificates::Unsupported)?;
    let parsed = WrappedX509::new(der.to_vec(), |raw| {
        #[expect(clippy::expect_used, reason = "the same bytes were parsed on the lines above")]
        X509Certificate::from_der(raw).expect("parsed before").1
    });
    Ok((der.clone(), parsed))
}

/// The certificate that the gateway shows to servers, and its key.
type ClientPair = (Vec<Vec<u8>>, PrivateKeyDer<'static>);

/// Why the certificate that the gateway shows to servers cannot be used.
struct UnusableClientPair {
    reason: String,
    /// A file cannot be read; nothing is known of what it holds.
    is_unreadable: bool,
}

/// Reads the certificate that the gateway shows to servers. Pingora does not check the bytes and
/// panics if they do not parse, so they are checked here.
fn client_certificate(pair: &config::Certificate) -> Result<ClientPair, UnusableClientPair> {
    let (certificate, key_file) = (pair.certificate.display(), pair.key.display());
    let wrong = |reason: String| UnusableClientPair { reason, is_unreadable: false };
    let no_certificate = || wrong(format!("`{certificate}` holds no PEM certificates"));
    let chain = certificates(&pair.certificate).map_err(|error| match error {
        UnusableCertificates::Unreadable(pem::Error::Io(error)) => UnusableClientPair {
            reason: format!("`{certificate}` cannot be read: {error}"),
            is_unreadable: true,
        },
        _ => no_certificate(),
    })?;
    if chain.iter().any(|der| X509Certificate::from_der(der).is_err()) {
        return Err(no_certificate());
    }
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| UnusableClientPair {
        reason: format!("key `{key_file}` cannot be used: {error}"),
        is_unreadable: matches!(error, pem::Error::Io(_)),
    })?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| wrong(format!("key `{key_file}` cannot be used: {error}")))?;
    CertifiedKey::new(chain.clone(), signer)
        .keys_match()
        .map_err(|_| wrong(format!("key `{key_file}` does not belong to certificate `{certificate}`")))?;
    Ok((chain.into_iter().map(|der| der.to_vec()).collect(), key))
}
