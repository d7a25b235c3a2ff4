//! When a certificate is valid. It warns of a certificate that clients refuse now, or soon will.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Timestamp;

/// How long before its end a certificate is warned of: half of what ACME clients leave to
/// themselves for a renewal.
const RENEWAL_DAYS: i64 = 14;
const SECONDS_A_DAY: i64 = 86_400;

/// What to warn of; `None` for a certificate that is valid, and goes on to be.
pub(super) fn doubt(certificate: &CertificateDer<'_>, now: Timestamp) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let seconds = i64::try_from(now.seconds()).ok()?;
    let day = |seconds: i64| Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0));
    if until < seconds {
        return Some(format!("expired at {}", day(until)));
    }
    if from > seconds {
        return Some(format!("is not valid before {}", day(from)));
    }
    (until - seconds < RENEWAL_DAYS * SECONDS_A_DAY)
        .then(|| format!("ends at {}, within {RENEWAL_DAYS} days", day(until)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Of a certificate from 2026-03-01 to 2026-06-01.
    fn doubt_at(now: &str) -> Option<String> {
        let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 3, 1), date_time_ymd(2026, 6, 1));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        doubt(certificate.der(), now.parse().unwrap())
    }

    #[test]
    fn a_certificate_outside_its_time_or_near_its_end_is_doubtful() {
        for (now, expected) in [
            ("2026-02-28T23:59:59Z", Some("is not valid before 2026-03-01T00:00:00Z")),
            ("2026-03-01T00:00:00Z", None),
            ("2026-05-18T00:00:00Z", None),
            ("2026-05-18T00:00:01Z", Some("ends at 2026-06-01T00:00:00Z, within 14 days")),
            ("2026-06-01T00:00:00Z", Some("ends at 2026-06-01T00:00:00Z, within 14 days")),
            ("2026-06-01T00:00:01Z", Some("expired at 2026-06-01T00:00:00Z")),
        ] {
            assert_eq!(doubt_at(now).as_deref(), expected, "{now}");
        }
    }
}
