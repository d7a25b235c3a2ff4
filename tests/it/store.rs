//! The store's rules, and each engine held to them.

mod commands;
pub mod contract;
mod damage;
mod embedded;
mod redis;
