//! How a connection to a client is ended from outside, whatever it does at the moment.

use std::sync::Arc;

use tokio::sync::Notify;

/// Breaks a connection off that is stuck and would not notice anything else.
#[derive(Clone, Default)]
pub(super) struct BreakOff(Arc<Notify>);

impl BreakOff {
    /// Ends the connection without an answer. The caller logs it.
    pub(super) fn now(&self) {
        self.0.notify_one();
    }

    /// Waits until the connection is to end.
    pub(super) async fn requested(&self) {
        self.0.notified().await;
    }
}
