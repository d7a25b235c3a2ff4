//! The stage of the gateway's life, for readiness probes.

use std::sync::atomic::{AtomicU8, Ordering};

/// The stage of the gateway's life. It only moves forward.
#[derive(Debug)]
pub struct GatewayHealth(AtomicU8);

/// A stage of the gateway's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum HealthState {
    /// Not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing the requests under way; new requests should go to another gateway.
    Draining,
}

impl GatewayHealth {
    /// A gateway that is starting.
    pub const fn starting() -> Self {
        Self(AtomicU8::new(HealthState::Starting as u8))
    }

    /// Marks the gateway as ready, unless it is draining already.
    pub fn set_ready(&self) {
        self.advance(HealthState::Ready);
    }

    /// Marks the gateway as draining. It cannot become ready again.
    pub fn set_draining(&self) {
        self.advance(HealthState::Draining);
    }

    /// The current stage.
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

impl Default for GatewayHealth {
    fn default() -> Self {
        Self::starting()
    }
}
