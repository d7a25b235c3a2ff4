//! Menshen (门神): a reverse-proxy authentication gateway for applications whose users sign in with WeChat.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod identity;
pub mod problem;
pub mod telemetry;
