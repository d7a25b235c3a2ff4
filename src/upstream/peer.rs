//! How the servers of an upstream are connected to: protocol, timeouts, and TLS with its
//! certificates.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pingora::protocols::ALPN;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{self, Findings, UpstreamProtocol, warn_of_exposed_file};

/// Builds the peer that every connection of an upstream is made from.
pub(super) fn build(
    name: &str,
    config: &config::Upstream,
    at: &str,
    findings: &mut Findings,
) -> Option<HttpPeer> {
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
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    match config.protocol {
        UpstreamProtocol::Http1 => options.alpn = ALPN::H1,
        UpstreamProtocol::Http2 => {
            options.alpn = ALPN::H2;
            options.max_h2_streams = 100;
        }
    }
    if let Some(file) = config.tls.as_ref().and_then(|tls| tls.ca_file.as_ref()) {
        let authorities = certificates(file).and_then(|list| {
            list.iter().for_each(|certificate| certificate.as_ref().hash(&mut pool_group));
            list.iter().map(authority).collect::<Option<Vec<WrappedX509>>>()
        });
        let Some(authorities) = authorities else {
            let reason = format!("`{}` holds no PEM certificates", file.display());
            findings.error(format!("{at}.tls.ca_file"), reason);
            return None;
        };
        options.ca = Some(Arc::from(authorities));
    }
    if let Some(pair) = config.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()) {
        match client_certificate(pair) {
            Ok((chain, key)) => {
                let key_at = format!("{at}.tls.client_certificate.key");
                warn_of_exposed_file(&key_at, &pair.key, findings);
                chain.iter().for_each(|certificate| certificate.hash(&mut pool_group));
                peer.client_cert_key = Some(Arc::new(CertKey::new(chain, key.secret_der().to_vec())));
            }
            Err(reason) => {
                findings.error(format!("{at}.tls.client_certificate"), reason);
                return None;
            }
        }
    }
    // Pingora's pool distinguishes neither authorities nor protocols, and outlives a reload: a
    // connection to a server that an authority certified must not be reused after that authority is
    // no longer trusted.
    peer.group_key = pool_group.finish();
    Some(peer)
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

/// Reads the certificates of a file, at least one.
fn certificates(file: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let list = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    list.ok().filter(|list| !list.is_empty())
}

fn authority(der: &CertificateDer<'_>) -> Option<WrappedX509> {
    // The constructor below cannot fail, so the certificate is parsed here first.
    X509Certificate::from_der(der).ok()?;
    Some(WrappedX509::new(der.to_vec(), |raw| {
        #[expect(clippy::expect_used, reason = "the same bytes were parsed on the lines above")]
        X509Certificate::from_der(raw).expect("parsed before").1
    }))
}

/// Reads the certificate that the gateway shows to servers. Pingora does not check the bytes and
/// panics if they do not parse, so they are checked here.
fn client_certificate(pair: &config::Certificate) -> Result<(Vec<Vec<u8>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(&pair.certificate)
        .filter(|chain| chain.iter().all(|der| X509Certificate::from_der(der).is_ok()))
        .ok_or_else(|| format!("`{}` holds no PEM certificates", pair.certificate.display()))?;
    let unusable =
        |error: &dyn std::fmt::Display| format!("key `{}` cannot be used: {error}", pair.key.display());
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| unusable(&error))?;
    let signer =
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| unusable(&error))?;
    CertifiedKey::new(chain.clone(), signer).keys_match().map_err(|_| {
        format!(
            "key `{}` does not belong to certificate `{}`",
            pair.key.display(),
            pair.certificate.display()
        )
    })?;
    Ok((chain.into_iter().map(|der| der.to_vec()).collect(), key))
}
