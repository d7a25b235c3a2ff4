//! Menshen (门神): a reverse-proxy authentication gateway for applications whose users sign in with
//! WeChat.
//!
//! A request passes these modules: [`server`] accepts the connection, [`proxy`] checks the request,
//! [`route`] finds the route and its rules, [`authn`] identifies the caller, [`identity_headers`]
//! writes the identity for the backend. A user signs in through [`sign_in`], which asks [`wechat`]
//! and issues a [`token`].
//!
//! Modules are listed from the lowest layer to the highest. A module imports only modules listed
//! above it. `tests/it/layering.rs` holds the exact rule, and `docs/architecture.md` describes the
//! modules in the same order.

pub mod address;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod digest;
pub mod entropy;
pub mod host;
pub mod identity;
pub mod path;
pub mod places;
pub mod problem;
pub mod single_flight;

pub mod cors;
pub mod emulator;
pub mod hazard;
pub mod json_template;
pub mod key_file;
pub mod page;
pub mod route;
pub mod telemetry;
pub mod token;
pub mod upstream;
pub mod user_data;

pub mod store;
pub mod wechat;

pub mod session;
pub mod throttle;

pub mod app_token;

pub mod authn;

pub mod identity_headers;
pub mod sign_in;

pub mod runtime;

pub mod management;

pub mod admin;
pub mod control;
pub mod internal;
pub mod proxy;

pub mod reload;

pub mod server;

pub mod demo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

pub mod cli;
