//! Hides a token in what WeChat answers: each of its characters becomes `*`, so that the length of
//! the answer stays.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use secrecy::{ExposeSecret as _, SecretString};

/// Hides one token in a body that comes in pieces.
pub(super) struct TokenMask {
    token: SecretString,
    /// The end of what came, if the token may begin in it.
    held: BytesMut,
}

impl TokenMask {
    pub(super) fn new(token: &str) -> Self {
        Self { token: token.into(), held: BytesMut::new() }
    }

    /// Takes the next piece, and returns what may be passed on.
    pub(super) fn pass(&mut self, piece: Bytes) -> Bytes {
        let token = self.token.expose_secret().as_bytes();
        if self.held.is_empty() && memmem::find(&piece, token).is_none() {
            let kept = begun(&piece, token);
            if kept == 0 {
                return piece;
            }
        }
        self.held.extend_from_slice(&piece);
        let found: Vec<usize> = memmem::find_iter(&self.held, token).collect();
        for at in found {
            if let Some(place) = self.held.get_mut(at..at + token.len()) {
                place.fill(b'*');
            }
        }
        let kept = begun(&self.held, token);
        self.held.split_to(self.held.len() - kept).freeze()
    }

    /// What is left when the body has ended: it is no token.
    pub(super) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }
}

/// How many bytes at the end of a text may be the beginning of a token.
fn begun(text: &[u8], token: &[u8]) -> usize {
    let longest = token.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|length| text.ends_with(token.get(..*length).unwrap_or_default())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(token: &str, pieces: &[&[u8]]) -> Vec<u8> {
        let mut mask = TokenMask::new(token);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&mask.pass(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&mask.finish());
        out
    }

    #[test]
    fn a_token_is_hidden_wherever_the_pieces_are_cut() {
        let token = "66_abcabcabd";
        let body = format!("{token}x66_abcabc{token}66_{token}");
        let hidden = "************x66_abcabc************66_************";
        for first in 0..body.len() {
            for second in first..body.len() {
                let bytes = body.as_bytes();
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(masked(token, &pieces), hidden.as_bytes(), "{first} {second}");
            }
        }
        let single = body.bytes().map(|byte| vec![byte]).collect::<Vec<_>>();
        let single = single.iter().map(Vec::as_slice).collect::<Vec<_>>();
        assert_eq!(masked(token, &single), hidden.as_bytes());
    }

    #[test]
    fn a_body_without_the_token_passes_without_a_copy() {
        let piece = Bytes::from_static(b"no token here");
        let mut mask = TokenMask::new("66_abc");

        let passed = mask.pass(piece.clone());

        assert_eq!(passed.as_ptr(), piece.as_ptr());
    }

    proptest! {
        #[test]
        fn nothing_but_the_token_changes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let pieces = pieces.iter().map(Vec::as_slice).collect::<Vec<_>>();
            prop_assert_eq!(masked("66_abcdefghij", &pieces), pieces.concat());
        }

        #[test]
        fn no_text_of_few_letters_lets_the_token_through(pieces in prop::collection::vec("[ab]{0,6}", 0..8)) {
            let bytes = pieces.iter().map(String::as_bytes).collect::<Vec<_>>();
            let out = masked("abaab", &bytes);
            prop_assert!(memmem::find(&out, b"abaab").is_none());
            prop_assert_eq!(out.len(), bytes.concat().len());
        }
    }
}
