//! The sessions under one configuration.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::client::Client;
use super::node::core::Core;
use super::row::limits::SessionLimits;
use super::row::session_key::SealKeys;

/// The sessions under one configuration. Each operation for callers is in a file of its own.
pub struct Sessions {
    pub(super) core: Arc<Core>,
    pub(super) limits: SessionLimits,
    pub(super) keys: Arc<SealKeys>,
    /// Whether something is configured that uses WeChat's `session_key`s.
    pub(super) keeps_session_keys: bool,
}

impl Sessions {
    /// What all configurations share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Keeps the `session_key`s that sign-ins bring, if something is configured that uses them.
    #[must_use]
    pub fn keeping_session_keys(self, keeps: bool) -> Self {
        Self { keeps_session_keys: keeps, ..self }
    }

    /// Uses the seal keys of this configuration for the rows of the store, from now on.
    pub fn use_seal_keys(&self) {
        self.core.keyring.use_seal_keys(&self.keys);
    }

    /// How long a verdict is believed at most before its session is looked up again.
    pub fn recheck_after(&self) -> Duration {
        self.limits.recheck_after
    }

    /// The client that sent a request, as the one of a retry is compared with it.
    pub fn client(&self, address: IpAddr, headers: &HeaderMap) -> Client {
        Client::new(address, headers, self.limits.retry_network)
    }

    /// How long a refresh token gets the same answer again.
    pub fn refresh_grace(&self) -> Duration {
        self.limits.refresh_grace
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("core", &self.core).finish_non_exhaustive()
    }
}
