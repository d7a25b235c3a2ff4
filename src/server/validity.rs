//! When a certificate is valid. It warns of a certificate that clients refuse now, or soon will.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Timestamp;

/// How long before its end a certificate is warned of: half of what ACME clients leave to
/// themselves for a renewal.
const RENEWAL_DAYS: i64 = 14;
const SECONDS_A_DAY: i64 = 86_400;

/// When a certificate, or a file of them, is valid: Unix seconds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    from: i64,
    pub(super) until: i64,
}

/// What to warn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It expired at that time.
    Expired(i64),
    /// It is valid only from that time on.
    NotYetValid(i64),
    /// It expires at that time, which is near.
    Ending(i64),
}

impl Validity {
    /// Of one certificate; `None` if it does not parse.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() })
    }

    /// Of a certificate with its intermediates: as long as all of them are valid.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let both = |one: Self, other: Self| Self {
            from: one.from.max(other.from),
            until: one.until.min(other.until),
        };
        chain.iter().filter_map(Self::of).reduce(both)
    }

    /// Of a file of which one certificate is enough, such as one of authorities: of the one that is
    /// valid longest. An old one next to a new one is not doubtful.
    pub(super) fn of_any(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        certificates.iter().filter_map(Self::of).max_by_key(|validity| validity.until)
    }

    /// What to warn of; `None` if it is valid, and goes on to be.
    pub(super) fn doubt(self, now: Timestamp) -> Option<Doubt> {
        let seconds = i64::try_from(now.seconds()).ok()?;
        if self.until < seconds {
            return Some(Doubt::Expired(self.until));
        }
        if self.from > seconds {
            return Some(Doubt::NotYetValid(self.from));
        }
        (self.until - seconds < RENEWAL_DAYS * SECONDS_A_DAY).then_some(Doubt::Ending(self.until))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds: i64| Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0));
        match *self {
            Self::Expired(at) => write!(f, "expired at {}", time(at)),
            Self::NotYetValid(from) => write!(f, "is not valid before {}", time(from)),
            Self::Ending(at) => write!(f, "ends at {}, within {RENEWAL_DAYS} days", time(at)),
        }
    }
}

/// What to warn of in a certificate with its intermediates: the first that is doubtful.
pub(super) fn doubt_of_chain(chain: &[CertificateDer<'_>], now: Timestamp) -> Option<String> {
    let mut doubts = chain.iter().enumerate().filter_map(|(place, one)| Some((place, doubt(one, now)?)));
    doubts.next().map(|(place, doubt)| match place {
        0 => doubt.to_string(),
        place => format!("has an intermediate, number {place}, that {doubt}"),
    })
}

/// What to warn of in a file of which one certificate is enough: that none of them is valid, or
/// goes on to be.
pub(super) fn doubt_of_any(certificates: &[CertificateDer<'_>], now: Timestamp) -> Option<String> {
    let doubts = certificates.iter().map(|one| doubt(one, now)).collect::<Option<Vec<_>>>()?;
    doubts.into_iter().next_back().map(|doubt| doubt.to_string())
}

fn doubt(certificate: &CertificateDer<'_>, now: Timestamp) -> Option<Doubt> {
    Validity::of(certificate)?.doubt(now)
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
        doubt(certificate.der(), now.parse().unwrap()).map(|doubt| doubt.to_string())
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
            assert_eq!(says_expired(doubt_of_any(&certificates, now)), authorities);
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
