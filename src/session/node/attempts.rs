//! How often a write is tried again when another writer was faster.

use std::time::Duration;

use crate::entropy::{self, Entropy};
use crate::store::StoreError;

const MOST_ATTEMPTS: u32 = 16;

/// The attempts that are left.
pub(in crate::session) struct Attempts {
    left: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { left: MOST_ATTEMPTS }
    }
}

impl Attempts {
    /// Waits before the next attempt, longer each time.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: no attempt is left.
    pub(in crate::session) async fn wait(&mut self, entropy: &dyn Entropy) -> Result<(), StoreError> {
        if self.left == 0 {
            return Err(StoreError::Busy);
        }
        self.left -= 1;
        let longest: u8 = 2 << (MOST_ATTEMPTS - self.left).min(5);
        // Without randomness all writers wait the same time, which costs attempts and nothing else.
        let [random] = entropy::bytes::<1>(entropy).unwrap_or([u8::MAX]);
        tokio::time::sleep(Duration::from_millis(u64::from(random % longest))).await;
        Ok(())
    }
}
