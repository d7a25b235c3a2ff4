//! Which clients may connect to a listener: those with a certificate of a configured authority.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
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
        Err(UnusableAuthorities { reason, is_unreadable }) => {
            let finding = findings.error(at, format!("`{}` {reason}", file.display()));
            finding.is_of_surroundings = is_unreadable;
            None
        }
    }
}

/// Why a file of authorities cannot be used.
struct UnusableAuthorities {
    reason: String,
    is_unreadable: bool,
}

impl From<String> for UnusableAuthorities {
    fn from(reason: String) -> Self {
        Self { reason, is_unreadable: false }
    }
}

fn read(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, UnusableAuthorities> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| UnusableAuthorities {
        reason: format!("cannot be read: {error}"),
        is_unreadable: matches!(error, pem::Error::Io(_)),
    })?;
    let mut authorities = RootCertStore::empty();
    for certificate in certificates {
        authorities
            .add(certificate)
            .map_err(|error| format!("holds what is no certificate authority: {error}"))?;
    }
    if authorities.is_empty() {
        return Err("holds no PEM certificates".to_owned().into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider).build();
    let verifier = verifier.map_err(|error| format!("cannot be used: {error}"))?;
    Ok(verifier)
}
