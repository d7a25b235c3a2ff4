//! The sealed bytes: read from a client's text, and decrypted.

use std::fmt;

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

const BLOCK: usize = 16;
/// Reads base64 with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Sealed user data as a client sends them.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptedUserData {
    /// At least one block, and only whole ones.
    blocks: Vec<u8>,
    iv: [u8; BLOCK],
}

impl EncryptedUserData {
    /// Reads `encryptedData` and `iv`; `None` if no key could open them. What clients do to base64
    /// on its way is repaired: a form turns `+` into a space, some libraries write base64url, break
    /// lines, or leave the padding out.
    pub fn parse(encrypted_data: &str, iv: &str) -> Option<Self> {
        let blocks = decode(encrypted_data)?;
        let iv = decode(iv)?.try_into().ok()?;
        let is_whole = !blocks.is_empty() && blocks.len().is_multiple_of(BLOCK);
        is_whole.then_some(Self { blocks, iv })
    }

    /// Decrypts the blocks. Returns the text without its padding and whether the padding was right;
    /// with a wrong one the text has all of it, and takes as long to read. `None` if the library
    /// fails, which does not depend on the text.
    pub(super) fn decrypt(&self, key: &[u8; 16]) -> Option<(Zeroizing<Vec<u8>>, bool)> {
        let key = UnboundCipherKey::new(&AES_128, key).and_then(DecryptingKey::cbc).ok()?;
        let mut text = Zeroizing::new(self.blocks.clone());
        let context = DecryptionContext::Iv128(self.iv.into());
        key.decrypt(&mut text, context).ok()?;
        let padding = padding(&text);
        let length = text.len() - padding.unwrap_or_default();
        text.truncate(length);
        Some((text, padding.is_some()))
    }
}

impl fmt::Debug for EncryptedUserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptedUserData([redacted])")
    }
}

/// The length of the padding; `None` if it is not PKCS#7 for blocks of 16 bytes. See RFC 5652 §6.3.
/// It looks at all of the last block, whatever the block says.
fn padding(text: &[u8]) -> Option<usize> {
    let last = text.last_chunk::<BLOCK>()?;
    let [.., length] = *last;
    let mut is_wrong = u8::from(length == 0) | u8::from(length > 16);
    for (from_end, byte) in (1_u8..).zip(last.iter().rev()) {
        is_wrong |= u8::from(from_end <= length) & u8::from(*byte != length);
    }
    (is_wrong == 0).then_some(usize::from(length))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let repaired: String = text
        .chars()
        .filter(|character| !matches!(character, '\r' | '\n' | '\t'))
        .map(|character| match character {
            ' ' | '-' => '+',
            '_' => '/',
            character => character,
        })
        .collect();
    BASE64.decode(repaired).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_pkcs7_for_blocks_of_16_bytes_and_nothing_else() {
        for length in 0..=255_u8 {
            let mut block = [length; BLOCK];
            let expected = (1..=16).contains(&length).then_some(usize::from(length));
            assert_eq!(padding(&block), expected, "{length}");
            for wrong in 1..usize::from(length).min(BLOCK) {
                block[BLOCK - 1 - wrong] ^= 1;
                assert_eq!(padding(&block), None, "{length} {wrong}");
                block[BLOCK - 1 - wrong] ^= 1;
            }
            if length < 16 {
                block[0] ^= 1;
                assert_eq!(padding(&block), expected, "what is before the padding does not matter");
            }
        }
        assert_eq!(padding(&[1; 15]), None);
    }

    #[test]
    fn what_clients_do_to_base64_is_repaired() {
        let iv = "r7BXXKkLb8qrSNn05n0qiA==";
        let data = "+/+/CiyLU1Aw2KjvrjMd+A==";
        let parsed = EncryptedUserData::parse(data, iv).unwrap();
        for (data, iv) in [
            (" / /CiyLU1Aw2KjvrjMd A==", iv),
            ("-_-_CiyLU1Aw2KjvrjMd-A", "r7BXXKkLb8qrSNn05n0qiA"),
            ("+/+/CiyL\r\nU1Aw2KjvrjMd+A==\n", iv),
        ] {
            assert_eq!(EncryptedUserData::parse(data, iv).as_ref(), Some(&parsed), "{data}");
        }
        for (data, iv) in [
            ("", iv),
            (data, ""),
            (data, "AAAA"),
            ("AAAA", iv),
            ("+/+/CiyLU1Aw2KjvrjMd+AA=", iv),
            ("*/+/CiyLU1Aw2KjvrjMd+A==", iv),
            (data, "r7BXXKkLb8qrSNn05n0qiAA="),
        ] {
            assert_eq!(EncryptedUserData::parse(data, iv), None, "{data} {iv}");
        }
    }
}
