//! SHA-256 of a text that is given in pieces.

use aws_lc_rs::digest;

/// Returns the SHA-256 hash of the pieces, one after the other.
///
/// The hash does not say where a piece ends: of two callers with the same first piece, all pieces
/// but the last must have a fixed length.
pub fn sha256(pieces: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_hashed_as_one_text() {
        // The example "abc" of FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

        let hash = sha256(&[b"a", b"", b"bc"]);

        assert_eq!(hash.map(|byte| format!("{byte:02x}")).concat(), expected);
    }
}
