//! TLS of a listener: its certificates, and which client certificates it requires.

use std::path::Path;
use std::sync::Arc;

use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::ALPN;
use rustls::server::danger::ClientCertVerifier;

use super::certificates::Certificates;
use super::clients;
use super::error::StartError;
use crate::config::{Certificate, Config, Findings};

/// The certificates of a listener with TLS, and of its clients.
pub(super) struct ListenerTls {
    /// The certificates that it shows.
    pub(super) certificates: Arc<Certificates>,
    /// Verifies the certificates of clients; `None` if every client may connect.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Reads the files of every listener with TLS, in the order of the configuration.
pub(super) fn load(config: &Config, findings: &mut Findings) -> Option<Vec<ListenerTls>> {
    let with_tls = config
        .listeners
        .iter()
        .enumerate()
        .filter_map(|(index, listener)| Some((index, listener.tls.as_ref()?)));
    let loaded: Vec<Option<ListenerTls>> = with_tls
        .map(|(index, tls)| {
            let clients = tls.client_ca_file.as_deref();
            load_one(&tls.certificates, clients, &format!("listeners[{index}].tls"), findings)
        })
        .collect();
    loaded.into_iter().collect()
}

/// As [`load`], for the internal listener. `Some(None)` if it has no TLS.
pub(super) fn load_internal(config: &Config, findings: &mut Findings) -> Option<Option<ListenerTls>> {
    let Some(tls) = config.internal.as_ref().and_then(|internal| internal.tls.as_ref()) else {
        return Some(None);
    };
    let clients = tls.client_ca_file.as_deref();
    load_one(&tls.certificates, clients, "internal.tls", findings).map(Some)
}

fn load_one(
    certificates: &[Certificate],
    clients: Option<&Path>,
    at: &str,
    findings: &mut Findings,
) -> Option<ListenerTls> {
    let certificates = Certificates::load(certificates, &format!("{at}.certificates"), findings);
    if let Some(certificates) = &certificates {
        certificates.warn_of_exposed(&format!("{at}.certificates"), findings);
    }
    let clients = match clients {
        None => None,
        Some(file) => Some(clients::verifier(file, &format!("{at}.client_ca_file"), findings)?),
    };
    Some(ListenerTls { certificates: Arc::new(certificates?), clients })
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
