//! What the second step of the decision proves: a request has a route.

use std::sync::Arc;

use crate::route::Route;
use crate::throttle::Allowance;
use crate::upstream::Upstream;

/// A request that has a route.
#[derive(Clone, Debug)]
pub(super) struct Routed {
    pub(super) route: Arc<Route>,
    pub(super) upstream: Arc<Upstream>,
    /// A WebSocket opening on a route that lets it through.
    pub(super) is_websocket: bool,
    /// What the tightest limit of the route still allows; `None` if it has none.
    pub(super) allowance: Option<Allowance>,
}
