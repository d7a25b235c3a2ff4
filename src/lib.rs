//! Menshen (门神): a reverse-proxy authentication gateway for applications whose users sign in with WeChat.
//!
//! What happens to a request, in module order: [`server`] accepts it, [`proxy`] admits it, [`route`] says who may
//! call, [`authn`] finds out who does, [`identity_headers`] tells the backend. A person signs in through [`sign_in`],
//! which asks [`wechat`] and mints a [`token`]. The lower modules know nothing of the upper ones;
//! `tests/it/layering.rs` holds the exact rule.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

pub mod cli;
pub mod demo;

pub mod reload;
pub mod server;

pub mod admin;
pub mod proxy;

pub mod runtime;

pub mod identity_headers;
pub mod sign_in;

pub mod authn;
pub mod page;
pub mod route;
pub mod session;
pub mod throttle;
pub mod upstream;
pub mod wechat;

pub mod store;
pub mod token;

pub mod telemetry;

pub mod address;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod entropy;
pub mod host;
pub mod identity;
pub mod key_file;
pub mod path;
pub mod problem;

pub mod emulator;
