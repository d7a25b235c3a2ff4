//! The store's rules, and each engine held to them.

pub mod contract;
mod redis;
