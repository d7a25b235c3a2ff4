//! Whether the gateway should be sent requests.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where the gateway is in its life; moves forward only.
#[derive(Debug)]
pub struct Health(AtomicU8);

/// A stage of the gateway's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum HealthState {
    /// Not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what is under way; new requests belong elsewhere.
    Draining,
}

impl Health {
    /// A gateway that is starting.
    pub const fn starting() -> Self {
        Self(AtomicU8::new(HealthState::Starting as u8))
    }

    /// Says that requests are served, unless the gateway is stopping already.
    pub fn set_ready(&self) {
        self.advance(HealthState::Ready);
    }

    /// Says that the gateway is stopping. There is no way back.
    pub fn set_draining(&self) {
        self.advance(HealthState::Draining);
    }

    /// The stage it is in.
    pub fn state(&self) -> HealthState {
        const STARTING: u8 = HealthState::Starting as u8;
        const READY: u8 = HealthState::Ready as u8;
        match self.0.load(Ordering::Acquire) {
            STARTING => HealthState::Starting,
            READY => HealthState::Ready,
            _ => HealthState::Draining,
        }
    }

    fn advance(&self, state: HealthState) {
        self.0.fetch_max(state as u8, Ordering::AcqRel);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::starting()
    }
}
