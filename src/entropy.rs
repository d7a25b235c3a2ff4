//! Randomness as a parameter, so that tests can fix it. In production the operating system provides
//! it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A source of random bytes fit for keys and identifiers.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills the whole buffer.
    ///
    /// # Errors
    /// [`NoEntropy`] if the source gave no bytes; the caller must then fail.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The source of randomness failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoEntropy;

/// The operating system's generator, through aws-lc-rs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        aws_lc_rs::rand::fill(buffer).map_err(|_| NoEntropy)
    }
}

/// A fixed source without randomness: keys made with it are the same in every run.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NotRandom;

#[cfg(any(test, feature = "fuzzing"))]
impl Entropy for NotRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        buffer.fill(7);
        Ok(())
    }
}

/// Draws `N` random bytes.
///
/// # Errors
/// [`NoEntropy`], as [`Entropy::fill`].
pub fn bytes<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], NoEntropy> {
    let mut buffer = [0; N];
    entropy.fill(&mut buffer)?;
    Ok(buffer)
}

/// Draws a random 128-bit identifier: 22 characters of base64url.
///
/// # Errors
/// [`NoEntropy`], as [`Entropy::fill`].
pub fn identifier(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<16>(entropy)?))
}
