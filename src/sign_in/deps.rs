//! The services that a sign-in works with.

use std::sync::Arc;

use crate::authn::Authenticator;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::page::Pages;
use crate::session::Sessions;
use crate::store::{Store, StoreHealth};
use crate::telemetry::metrics::Metrics;
use crate::throttle::Throttle;
use crate::token::Tokens;
use crate::wechat::WeChat;

/// The services that a sign-in works with.
#[derive(Clone)]
pub struct SignInDependencies {
    /// Exchanges codes.
    pub wechat: Arc<WeChat>,
    /// Mints tokens.
    pub tokens: Arc<Tokens>,
    /// Opens sessions.
    pub sessions: Arc<Sessions>,
    /// Keeps sign-ins and claims of codes.
    pub store: Arc<dyn Store>,
    /// Whether the store is available, without which no sign-in succeeds.
    pub store_health: Arc<StoreHealth>,
    /// Identifies the caller of the session and logout endpoints.
    pub authenticator: Arc<Authenticator>,
    /// The pages that users see.
    pub pages: Arc<Pages>,
    /// Limits logins.
    pub throttle: Arc<Throttle>,
    /// Counts logins.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness: the ids of tokens, states, cookies.
    pub entropy: Arc<dyn Entropy>,
}
