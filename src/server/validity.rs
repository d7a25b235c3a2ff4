//! When a certificate is valid. It warns of a certificate that clients refuse now, or soon will.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Timestamp;

/// How long before its end a certificate is warned of: half of what ACME clients leave to
/// themselves for a renewal.
const RENEWAL_DAYS: i64 = 14;
const SECONDS_A_DAY: i64 = 86_400;

/// What to warn of in a certificate with its intermediates: the first that is doubtful.
pub(super) fn doubt_of_chain(chain: &[CertificateDer<'_>], now: Timestamp) -> Option<String> {
    let mut doubts = chain.iter().enumerate().filter_map(|(place, one)| Some((place, doubt(one, now)?)));
    doubts.next().map(|(place, doubt)| match place {
        0 => doubt,
        place => format!("has an intermediate, number {place}, that {doubt}"),
    })
}

/// What to warn of in a file of authorities: that none of them is valid, or goes on to be. An old
/// one next to a new one is not doubtful.
pub(super) fn doubt_of_authorities(authorities: &[CertificateDer<'_>], now: Timestamp) -> Option<String> {
    let doubts = authorities.iter().map(|one| doubt(one, now)).collect::<Option<Vec<_>>>()?;
    doubts.into_iter().next_back()
}

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

    /// A certificate from the first day of one month of 2026 to that of another.
    fn certificate(months: (u8, u8)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, months.0, 1), date_time_ymd(2026, months.1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_chain_is_as_good_as_its_worst_certificate_and_authorities_as_their_best() {
        let now = "2026-05-01T00:00:00Z".parse().unwrap();
        let (good, old) = (certificate((3, 8)), certificate((1, 4)));
        let says_expired = |doubt: Option<String>| doubt.map(|doubt| doubt.contains("expired at 2026-04-01"));
        for (certificates, chain, authorities) in [
            (vec![good.clone()], None, None),
            (vec![old.clone()], Some(true), Some(true)),
            (vec![good.clone(), old.clone()], Some(true), None),
            (vec![old.clone(), good], Some(true), None),
            (vec![old.clone(), old], Some(true), Some(true)),
            (vec![], None, None),
        ] {
            assert_eq!(says_expired(doubt_of_chain(&certificates, now)), chain, "{}", certificates.len());
            assert_eq!(says_expired(doubt_of_authorities(&certificates, now)), authorities);
        }
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
