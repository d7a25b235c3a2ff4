//! The id of a request, in the answer, in the log and in the request to the backend.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::cipher::{AES_128, AES_128_KEY_LEN, EncryptingKey, UnboundCipherKey};

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

/// Makes ids that no other process makes. Two ids do not show how many requests came between them.
///
/// An id is a count, encrypted by one block of AES-128 under a key that is drawn at the start: a
/// keyed permutation, so that distinct counts have distinct ids.
#[derive(Debug)]
pub struct RequestIds {
    key: EncryptingKey,
}

/// How many threads have counted requests.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The next request of this thread: the thread's number in the upper half, the count in the
    /// lower. One count for all threads would be a memory cell that every request of every core
    /// writes.
    static NEXT: Cell<u128> = Cell::new(u128::from(THREADS.fetch_add(1, Ordering::Relaxed)) << 64);
}

impl RequestIds {
    /// Draws the key.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let key = entropy::bytes::<{ AES_128_KEY_LEN }>(entropy)?;
        // A key of the right length is never refused.
        let key = UnboundCipherKey::new(&AES_128, &key).and_then(EncryptingKey::ecb);
        Ok(Self { key: key.map_err(|_| NoEntropy)? })
    }

    /// The next id.
    pub fn next(&self) -> RequestId {
        let count = NEXT.with(|next| next.replace(next.get().wrapping_add(1)));
        let mut block = count.to_be_bytes();
        // A whole block is never refused. An id of zeros would still not tell the count.
        if self.key.encrypt(&mut block).is_err() {
            block = [0; 16];
        }
        let number = u128::from_be_bytes(block);
        let mut text = [b'0'; MAX_LENGTH];
        for (position, digit) in text.iter_mut().take(OWN_LENGTH).enumerate() {
            let nibble = (number >> (4 * (OWN_LENGTH - 1 - position))) & 0xf;
            *digit = b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'0');
        }
        RequestId { text, length: OWN_LENGTH }
    }
}

impl RequestId {
    /// Parses an id that a trusted proxy gave; `None` if it has characters that do not belong in a
    /// log line.
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

    /// Returns the `traceparent` of a trace that begins with this request, W3C Trace Context §3.2;
    /// `None` for an id that is not our own.
    pub fn traceparent(&self) -> Option<String> {
        let id = self.as_str();
        // Looks at every byte: then the compiler compares many at once.
        let is_hex = id.bytes().fold(true, |so_far, byte| so_far & matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_trace_id = is_hex && id.len() == OWN_LENGTH;
        let span = id.get(OWN_LENGTH / 2..)?;
        is_trace_id.then(|| ["00-", id, "-", span, "-00"].concat())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn ids_are_distinct_and_hexadecimal() {
        let ids = RequestIds::new(&SystemEntropy).unwrap();

        let seen: HashSet<String> = std::thread::scope(|scope| {
            let draw = || (0..1000).map(|_| ids.next().as_str().to_owned()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });

        assert_eq!(seen.len(), 4000);
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        assert!(seen.iter().all(|id| id.len() == 32 && id.bytes().all(is_digit)));
    }

    #[test]
    fn two_ids_share_nothing_from_which_the_requests_between_could_be_counted() {
        let ids = RequestIds::new(&SystemEntropy).unwrap();
        let numbers: Vec<u128> =
            (0..1001).map(|_| u128::from_str_radix(ids.next().as_str(), 16).unwrap()).collect();

        // Of independent ids each bit differs in half of the pairs: 500 times, and 16 more or
        // fewer.
        for bit in 0..128 {
            let differing = numbers.windows(2).filter(|pair| (pair[0] ^ pair[1]) >> bit & 1 == 1).count();
            assert!((400..600).contains(&differing), "bit {bit} differs {differing} times of 1000");
        }
    }

    #[test]
    fn an_id_cannot_be_turned_back_into_a_count_without_the_key() {
        let ids = RequestIds::new(&SystemEntropy).unwrap();
        let counts: Vec<u64> = (0..100)
            .map(|_| unmix(u64::from_str_radix(ids.next().as_str().split_at(16).1, 16).unwrap()))
            .collect();

        assert!(counts.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) > 1_000_000), "{counts:?}");
    }

    /// The inverse of SplitMix64's finaliser, which needs no key.
    fn unmix(mixed: u64) -> u64 {
        let undo_shift =
            |value: u64, bits: u32| (0..64 / bits).fold(value, |undone, _| value ^ (undone >> bits));
        let undo_multiply = |value: u64, factor: u64| {
            // Newton's iteration doubles the correct bits of the inverse.
            let inverse =
                (0..6).fold(factor, |x, _| x.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(x))));
            value.wrapping_mul(inverse)
        };
        let value = undo_multiply(undo_shift(mixed, 31), 0x94d0_49bb_1331_11eb);
        undo_shift(undo_multiply(undo_shift(value, 27), 0xbf58_476d_1ce4_e5b9), 30)
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_accepted() {
        for given in ["", "a b", "a\nb", "a\"b", "é", &"a".repeat(65)] {
            assert!(RequestId::parse(given).is_none(), "{given:?}");
        }
        assert_eq!(RequestId::parse("req-1_2.3").unwrap().as_str(), "req-1_2.3");
    }
}
