//! The files of certificates that a configuration names, and how long they are valid.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::validity::{self, Validity};
use crate::clock::Timestamp;
use crate::config::{Config, Findings, StoreEngine};

/// A file of certificates that the configuration names.
pub(super) struct CertificateFile<'c> {
    /// The key that names it.
    at: String,
    pub(super) file: &'c Path,
    pub(super) used_for: Use,
    pub(super) is_read: ReadingTime,
}

/// What a file of certificates is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The gateway shows the certificate, with its intermediates.
    Shown,
    /// Authorities that verify others.
    Authorities,
    /// Certificates of servers.
    Pinned,
}

/// When a file of certificates is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadingTime {
    /// Whenever it changes.
    OnChange,
    /// At start and at each reload.
    OnReload,
    /// Only at start.
    AtStart,
}

impl<'c> CertificateFile<'c> {
    /// All of a configuration.
    pub(super) fn all(config: &'c Config) -> Vec<Self> {
        let mut files = Vec::new();
        let mut add = |at: String, file: &'c Path, used_for, is_read| {
            files.push(Self { at, file, used_for, is_read });
        };
        let listeners = config.listeners.iter().enumerate();
        let listeners = listeners.filter_map(|(index, listener)| {
            let tls = listener.tls.as_ref()?;
            Some((format!("listeners[{index}].tls"), &tls.certificates, &tls.client_ca_file))
        });
        let internal = config.internal.iter().filter_map(|internal| {
            let tls = internal.tls.as_ref()?;
            Some(("internal.tls".to_owned(), &tls.certificates, &tls.client_ca_file))
        });
        for (at, pairs, clients) in listeners.chain(internal) {
            for (index, pair) in pairs.iter().enumerate() {
                let at = format!("{at}.certificates[{index}].certificate");
                add(at, &pair.certificate, Use::Shown, ReadingTime::OnChange);
            }
            if let Some(file) = clients {
                add(format!("{at}.client_ca_file"), file, Use::Authorities, ReadingTime::AtStart);
            }
        }
        for (name, upstream) in &config.upstreams {
            let Some(tls) = &upstream.tls else { continue };
            let at = format!("upstreams.{name}.tls");
            if let Some(pair) = &tls.client_certificate {
                let at = format!("{at}.client_certificate.certificate");
                add(at, &pair.certificate, Use::Shown, ReadingTime::OnReload);
            }
            if let Some(file) = &tls.ca_file {
                add(format!("{at}.ca_file"), file, Use::Authorities, ReadingTime::OnReload);
            }
            for (index, file) in tls.pinned_certificates.iter().enumerate() {
                add(format!("{at}.pinned_certificates[{index}]"), file, Use::Pinned, ReadingTime::OnReload);
            }
        }
        let redis = config.store.redis.tls.as_ref();
        if let Some(tls) = redis.filter(|_| config.store.engine == StoreEngine::Redis) {
            if let Some(file) = &tls.certificate {
                add("store.redis.tls.certificate".into(), file, Use::Shown, ReadingTime::AtStart);
            }
            if let Some(file) = &tls.ca_file {
                add("store.redis.tls.ca_file".into(), file, Use::Authorities, ReadingTime::AtStart);
            }
        }
        if let Some(file) = &config.wechat.ca_file {
            add("wechat.ca_file".into(), file, Use::Authorities, ReadingTime::OnReload);
        }
        files
    }

    /// How long the certificates are valid; `None` if the file cannot be read.
    pub(super) fn validity(&self) -> Option<Validity> {
        let certificates = self.read();
        match self.used_for {
            Use::Shown => Validity::of_chain(&certificates),
            Use::Authorities | Use::Pinned => Validity::of_any(&certificates),
        }
    }

    fn read(&self) -> Vec<CertificateDer<'static>> {
        let read = CertificateDer::pem_file_iter(self.file).and_then(Iterator::collect::<Result<_, _>>);
        // A file that cannot be read is left to what uses it.
        read.unwrap_or_default()
    }

    fn warn(&self, now: Timestamp, findings: &mut Findings) {
        let certificates = self.read();
        let name = self.file.display();
        let (what, doubt) = match self.used_for {
            Use::Shown => (format!("certificate `{name}`"), validity::doubt_of_chain(&certificates, now)),
            Use::Authorities => {
                (format!("the authority in `{name}`"), validity::doubt_of_any(&certificates, now))
            }
            Use::Pinned => {
                (format!("the pinned certificate `{name}`"), validity::doubt_of_any(&certificates, now))
            }
        };
        let Some(doubt) = doubt else { return };
        findings.warning(&self.at, format!("{what} {doubt}")).hint(match self.is_read {
            ReadingTime::OnChange => "renew it; the gateway reads a file again when it changes",
            ReadingTime::OnReload => "renew it, and reload the gateway",
            ReadingTime::AtStart => "renew it, and restart the gateway",
        });
    }
}

/// Warns of each certificate that is not valid `now`, or ends soon.
pub(super) fn warn_of_doubtful(config: &Config, now: Timestamp, findings: &mut Findings) {
    for file in CertificateFile::all(config) {
        file.warn(now, findings);
    }
}
