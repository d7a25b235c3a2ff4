//! Which certificate a listener answers with: by the name that the client asks for. Changed files
//! are read again.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::validity::Validity;
use crate::config::{Certificate, Findings, warn_of_exposed_file};

/// The certificates of one listener.
#[derive(Debug)]
pub(super) struct Certificates {
    files: Vec<Certificate>,
    current: ArcSwap<LoadedCertificates>,
}

/// One reading of all the files.
#[derive(Debug)]
struct LoadedCertificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// In the order of the configuration.
    pairs: Vec<Arc<CertifiedKey>>,
    /// For a client that asks for no name, or for a name that no certificate carries.
    first: Arc<CertifiedKey>,
    modified: Vec<Option<SystemTime>>,
}

impl Certificates {
    /// Reads the files of a listener; a finding for each that cannot be used.
    pub(super) fn load(files: &[Certificate], at: &str, findings: &mut Findings) -> Option<Self> {
        let loaded = LoadedCertificates::read(files, at, findings)?;
        Some(Self { files: files.to_vec(), current: ArcSwap::from_pointee(loaded) })
    }

    /// Warns of each key that other users can read.
    pub(super) fn warn_of_exposed(&self, at: &str, findings: &mut Findings) {
        for (position, file) in self.files.iter().enumerate() {
            warn_of_exposed_file(&format!("{at}[{position}].key"), &file.key, findings);
        }
    }

    /// The files of the certificates in use, with how long these are valid.
    pub(super) fn validities(&self) -> Vec<(PathBuf, Validity)> {
        let loaded = self.current.load();
        let pairs = self.files.iter().zip(&loaded.pairs);
        pairs
            .filter_map(|(file, pair)| {
                Some((file.certificate.to_path_buf(), Validity::of_chain(&pair.cert)?))
            })
            .collect()
    }

    /// Reads the files again if one has changed. Keeps the old certificates if the new ones cannot
    /// be used.
    pub(super) fn refresh(&self) {
        if modified(&self.files) == self.current.load().modified {
            return;
        }
        let mut findings = Findings::default();
        match LoadedCertificates::read(&self.files, "certificates", &mut findings) {
            Some(loaded) => {
                self.current.store(Arc::new(loaded));
                tracing::info!("read {} certificates again after a change", self.files.len());
            }
            None => {
                for finding in findings.iter() {
                    tracing::error!("kept the old certificates, the new ones cannot be used: {finding}");
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.current.load();
        let named = hello.server_name().and_then(|name| loaded.by_server_name(&name.to_ascii_lowercase()));
        Some(Arc::clone(named.unwrap_or(&loaded.first)))
    }
}

impl LoadedCertificates {
    fn read(files: &[Certificate], at: &str, findings: &mut Findings) -> Option<Self> {
        let modified = modified(files);
        let mut by_name = HashMap::new();
        let mut pairs = Vec::with_capacity(files.len());
        let mut is_sound = true;
        for (position, file) in files.iter().enumerate() {
            match read_pair(file) {
                Ok((names, pair)) => {
                    for name in names {
                        by_name.entry(name).or_insert_with(|| Arc::clone(&pair));
                    }
                    pairs.push(pair);
                }
                Err(UnusablePair { reason, is_unreadable }) => {
                    findings.error(format!("{at}[{position}]"), reason).is_of_surroundings = is_unreadable;
                    is_sound = false;
                }
            }
        }
        let first = pairs.first().filter(|_| is_sound).map(Arc::clone)?;
        Some(Self { by_name, pairs, first, modified })
    }

    /// An exact name, or the wildcard one label above it; RFC 6125 §6.4.3.
    fn by_server_name(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let wildcard = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.by_name.get(name).or_else(|| self.by_name.get(&wildcard()?))
    }
}

fn modified(files: &[Certificate]) -> Vec<Option<SystemTime>> {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    files.iter().flat_map(|file| [time(&file.certificate), time(&file.key)]).collect()
}

/// Why a certificate with its key cannot be used.
struct UnusablePair {
    reason: String,
    /// A file cannot be read; nothing is known of what it holds.
    is_unreadable: bool,
}

impl UnusablePair {
    fn reading(what: &str, path: &Path, error: &pem::Error) -> Self {
        let reason = format!("{what} `{}` cannot be read: {error}", path.display());
        Self { reason, is_unreadable: matches!(error, pem::Error::Io(_)) }
    }
}

impl From<String> for UnusablePair {
    fn from(reason: String) -> Self {
        Self { reason, is_unreadable: false }
    }
}

fn read_pair(file: &Certificate) -> Result<(Vec<String>, Arc<CertifiedKey>), UnusablePair> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&file.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| UnusablePair::reading("certificate", &file.certificate, &error))?;
    let leaf = chain
        .first()
        .ok_or_else(|| format!("certificate `{}` holds no PEM certificate", file.certificate.display()))?;
    let names = names(leaf);
    let key = PrivateKeyDer::from_pem_file(&file.key)
        .map_err(|error| UnusablePair::reading("key", &file.key, &error))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| format!("key `{}` cannot be used: {error}", file.key.display()))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            return Err(UnusablePair::from(format!(
                "key `{}` does not belong to certificate `{}`",
                file.key.display(),
                file.certificate.display()
            )));
        }
    }
    Ok((names, Arc::new(pair)))
}

/// The DNS names a certificate is for.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(alternative)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns_name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    alternative.value.general_names.iter().filter_map(dns_name).collect()
}
