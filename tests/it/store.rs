//! What every store does, and what each of the engines does besides.

pub mod contract;
mod embedded;
mod redis;
