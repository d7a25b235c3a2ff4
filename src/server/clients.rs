//! Which clients may connect to a listener: those with a certificate of a configured authority.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::config::Findings;

/// Reads the authorities whose clients may connect; a finding if there are none.
pub(super) fn verifier(
    file: &Path,
    at: &str,
    findings: &mut Findings,
) -> Option<Arc<dyn ClientCertVerifier>> {
    match read(file) {
        Ok(verifier) => Some(verifier),
        Err(reason) => {
            findings.error(at, format!("`{}` {reason}", file.display()));
            None
        }
    }
}

fn read(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let mut authorities = RootCertStore::empty();
    for certificate in certificates {
        authorities
            .add(certificate)
            .map_err(|error| format!("holds what is no certificate authority: {error}"))?;
    }
    if authorities.is_empty() {
        return Err("holds no PEM certificates".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider).build();
    verifier.map(|verifier| verifier as _).map_err(|error| format!("cannot be used: {error}"))
}
