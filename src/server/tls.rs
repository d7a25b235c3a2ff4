//! TLS of a listener: its certificates, and which client certificates it requires.

use std::sync::Arc;

use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::ALPN;
use rustls::server::danger::ClientCertVerifier;

use super::certificates::Certificates;
use super::clients;
use super::error::StartError;
use crate::clock::Timestamp;
use crate::config::{Config, Findings};

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
            let at = format!("listeners[{index}].tls");
            let certificates = Certificates::load(&tls.certificates, &format!("{at}.certificates"), findings);
            if let Some(certificates) = &certificates {
                certificates.warn_of_doubtful(now, &format!("{at}.certificates"), findings);
            }
            let clients = match &tls.client_ca_file {
                None => None,
                Some(file) => Some(clients::verifier(file, &format!("{at}.client_ca_file"), findings)?),
            };
            Some(ListenerTls { certificates: Arc::new(certificates?), clients })
        })
        .collect();
    loaded.into_iter().collect()
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
