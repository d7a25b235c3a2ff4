//! The only place that knows WeChat's wire.
