//! Tests through real sockets: a real gateway, an emulated WeChat, a backend that keeps what it was
//! sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "a test that cannot go on should say so and stop"
)]

mod admin;
mod answers;
mod app_token;
mod audit;
mod authorization;
mod away;
mod backends;
mod balancing;
mod binding;
mod browser;
mod cli;
mod clients;
mod cluster;
mod common;
mod config_mistakes;
mod cors;
mod crash;
mod demo;
mod docs;
mod doors;
mod erasure;
mod existing_clients;
mod expiry;
mod floods;
mod framing;
mod fronts;
mod grpc;
mod hostile;
mod identity;
mod internal;
mod layering;
mod lexicon;
mod limits;
mod login;
mod many;
mod methods;
mod metrics;
mod mobile;
mod outages;
mod paths;
mod probes;
mod process;
mod proxying;
mod refusals;
mod reload;
mod secrets;
mod stalled;
mod store;
mod throttle;
mod tls;
mod tokens;
mod under_way;
mod uploads;
mod user_data;
mod verifiers;
mod websocket;
mod wechat_api;
mod wechat_page;
