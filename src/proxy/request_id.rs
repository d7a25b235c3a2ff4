//! The id of a request, in the answer, in the log and in the request to the backend.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::entropy::{self, Entropy, NoEntropy};

/// An id, at most 64 visible characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; MAX_LENGTH],
    length: usize,
}

const MAX_LENGTH: usize = 64;
/// Hexadecimal digits of an id of our own: 128 bits, so that it may serve as a trace id too.
const OWN_LENGTH: usize = 32;

/// Makes ids that no other process makes: from a random start, counted and mixed.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Draws the random start.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self {
            prefix: u64::from_be_bytes(entropy::bytes(entropy)?),
            next: AtomicU64::new(u64::from_be_bytes(entropy::bytes(entropy)?)),
        })
    }

    /// The next id.
    pub fn next(&self) -> RequestId {
        let suffix = mix(self.next.fetch_add(1, Ordering::Relaxed));
        let number = (u128::from(self.prefix) << 64) | u128::from(suffix);
        let mut text = [b'0'; MAX_LENGTH];
        for (position, digit) in text.iter_mut().take(OWN_LENGTH).enumerate() {
            let nibble = (number >> (4 * (OWN_LENGTH - 1 - position))) & 0xf;
            *digit = b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'0');
        }
        RequestId { text, length: OWN_LENGTH }
    }
}

impl RequestId {
    /// Parses an id that a trusted proxy gave; `None` if it has characters that do not belong in a log line.
    pub fn parse(given: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if given.is_empty() || !given.bytes().all(is_plain) {
            return None;
        }
        let mut text = [b'0'; MAX_LENGTH];
        text.get_mut(..given.len())?.copy_from_slice(given.as_bytes());
        Some(Self { text, length: given.len() })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.text.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// Returns the `traceparent` of a trace that begins with this request, W3C Trace Context §3.2; `None` for an id that is
    /// not our own.
    pub fn traceparent(&self) -> Option<String> {
        let id = self.as_str();
        let is_trace_id =
            id.len() == OWN_LENGTH && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let span = id.get(OWN_LENGTH / 2..)?;
        is_trace_id.then(|| ["00-", id, "-", span, "-00"].concat())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The finaliser of SplitMix64. It is one to one, so that distinct counts stay distinct.
const fn mix(count: u64) -> u64 {
    let count = (count ^ (count >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let count = (count ^ (count >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    count ^ (count >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn ids_are_distinct_and_hexadecimal() {
        let ids = RequestIds::new(&SystemEntropy).unwrap();

        let seen: HashSet<String> = (0..1000).map(|_| ids.next().as_str().to_owned()).collect();

        assert_eq!(seen.len(), 1000);
        assert!(seen.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_accepted() {
        for given in ["", "a b", "a\nb", "a\"b", "é", &"a".repeat(65)] {
            assert!(RequestId::parse(given).is_none(), "{given:?}");
        }
        assert_eq!(RequestId::parse("req-1_2.3").unwrap().as_str(), "req-1_2.3");
    }
}
