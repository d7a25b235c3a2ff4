//! tmp
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
/// tmp
#[derive(Debug)]
pub struct Health;
impl Health {
    /// t
    pub fn starting() -> Self {
        Self
    }
    /// t
    pub fn set_ready(&self) {}
    /// t
    pub fn set_draining(&self) {}
}
/// tmp
pub struct Admin;
impl Admin {
    /// t
    pub fn new(_m: Arc<Metrics>, _h: Arc<Health>) -> Self {
        Self
    }
}
#[async_trait::async_trait]
impl pingora::apps::http_app::ServeHttp for Admin {
    async fn response(&self, _s: &mut pingora::protocols::http::ServerSession) -> http::Response<Vec<u8>> {
        http::Response::new(vec![])
    }
}
