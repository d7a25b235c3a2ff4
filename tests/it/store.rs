//! What every store does, and what each of the engines does besides.

mod commands;
mod compaction;
pub mod contract;
mod damage;
mod embedded;
mod full;
mod redis;
