//! TLS of a listener: its certificates, and which client certificates it requires.

use std::path::Path;
use std::sync::Arc;

use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::ALPN;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;

use super::certificates::Certificates;
use super::clients;
use super::error::StartError;
use super::validity;
use crate::clock::Timestamp;
use crate::config::{Certificate, Config, FilePath, Findings, StoreEngine};

/// The certificates of a listener with TLS, and of its clients.
pub(super) struct ListenerTls {
    /// The certificates that it shows.
    pub(super) certificates: Arc<Certificates>,
    /// Verifies the certificates of clients; `None` if every client may connect.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Reads the files of every listener with TLS, in the order of the configuration; warns of
/// certificates that are not valid `now`, or not for long.
pub(super) fn load(config: &Config, now: Timestamp, findings: &mut Findings) -> Option<Vec<ListenerTls>> {
    let with_tls = config
        .listeners
        .iter()
        .enumerate()
        .filter_map(|(index, listener)| Some((index, listener.tls.as_ref()?)));
    let loaded: Vec<Option<ListenerTls>> = with_tls
        .map(|(index, tls)| {
            let clients = tls.client_ca_file.as_deref();
            load_one(&tls.certificates, clients, &format!("listeners[{index}].tls"), now, findings)
        })
        .collect();
    loaded.into_iter().collect()
}

/// As [`load`], for the internal listener. `Some(None)` if it has no TLS.
pub(super) fn load_internal(
    config: &Config,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<Option<ListenerTls>> {
    let Some(tls) = config.internal.as_ref().and_then(|internal| internal.tls.as_ref()) else {
        return Some(None);
    };
    let clients = tls.client_ca_file.as_deref();
    load_one(&tls.certificates, clients, "internal.tls", now, findings).map(Some)
}

fn load_one(
    certificates: &[Certificate],
    clients: Option<&Path>,
    at: &str,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<ListenerTls> {
    let certificates = Certificates::load(certificates, &format!("{at}.certificates"), findings);
    if let Some(certificates) = &certificates {
        certificates.warn_of_doubtful(now, &format!("{at}.certificates"), findings);
    }
    let clients = match clients {
        None => None,
        Some(file) => Some(clients::verifier(file, &format!("{at}.client_ca_file"), findings)?),
    };
    Some(ListenerTls { certificates: Arc::new(certificates?), clients })
}

/// Warns of each certificate that the gateway shows to servers, and of each file of authorities, if
/// it is not valid `now`, or ends soon. A file that cannot be read is left to what uses it.
pub(super) fn warn_of_other_certificates(config: &Config, now: Timestamp, findings: &mut Findings) {
    let redis_tls = config.store.redis.tls.as_ref();
    let redis_tls = redis_tls.filter(|_| config.store.engine == StoreEngine::Redis);
    let shown = config.upstreams.iter().filter_map(|(name, upstream)| {
        let certificate = upstream.tls.as_ref()?.client_certificate.as_ref()?;
        Some((format!("upstreams.{name}.tls.client_certificate.certificate"), &certificate.certificate))
    });
    let redis = redis_tls.and_then(|tls| tls.certificate.as_ref());
    for (at, file) in shown.chain(redis.map(|file| ("store.redis.tls.certificate".to_owned(), file))) {
        let name = format!("certificate `{}`", file.display());
        warn_of(at, name, validity::doubt_of_chain(&read_certificates(file), now), findings);
    }
    for (at, file) in authority_files(config) {
        let name = format!("the authority in `{}`", file.display());
        warn_of(at, name, validity::doubt_of_authorities(&read_certificates(file), now), findings);
    }
}

/// The files of authorities that verify clients and servers.
fn authority_files(config: &Config) -> impl Iterator<Item = (String, &FilePath)> {
    let listeners = config.listeners.iter().enumerate().filter_map(|(index, listener)| {
        let file = listener.tls.as_ref()?.client_ca_file.as_ref()?;
        Some((format!("listeners[{index}].tls.client_ca_file"), file))
    });
    let internal = config.internal.as_ref().and_then(|internal| internal.tls.as_ref());
    let internal = internal.and_then(|tls| tls.client_ca_file.as_ref());
    let upstreams = config.upstreams.iter().filter_map(|(name, upstream)| {
        Some((format!("upstreams.{name}.tls.ca_file"), upstream.tls.as_ref()?.ca_file.as_ref()?))
    });
    let is_redis = config.store.engine == StoreEngine::Redis;
    let redis = config.store.redis.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
    listeners
        .chain(internal.map(|file| ("internal.tls.client_ca_file".to_owned(), file)))
        .chain(upstreams)
        .chain(redis.filter(|_| is_redis).map(|file| ("store.redis.tls.ca_file".to_owned(), file)))
        .chain(config.wechat.ca_file.as_ref().map(|file| ("wechat.ca_file".to_owned(), file)))
}

fn read_certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<_, _>>);
    read.unwrap_or_default()
}

fn warn_of(at: String, name: String, doubt: Option<String>, findings: &mut Findings) {
    if let Some(doubt) = doubt {
        findings.warning(at, format!("{name} {doubt}")).hint("renew it, and restart the gateway");
    }
}

impl ListenerTls {
    /// TLS 1.2 and 1.3 without early data, with certificates that may change while it runs.
    ///
    /// # Errors
    /// [`StartError::Tls`] when Pingora does not take the settings; plain HTTP is never served
    /// instead.
    pub(super) fn acceptor(&self, http2: bool) -> Result<Acceptor, StartError> {
        // The paths are not read: the resolver takes their place.
        let mut settings =
            TlsSettings::intermediate("", "").map_err(|error| StartError::Tls(error.to_string()))?;
        settings.set_cert_resolver(Arc::<Certificates>::clone(&self.certificates));
        if let Some(clients) = &self.clients {
            settings.set_client_cert_verifier(Arc::clone(clients));
        }
        settings.set_alpn(if http2 { ALPN::H2H1 } else { ALPN::H1 });
        Ok(settings.build())
    }
}
