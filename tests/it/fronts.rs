//! The gateway behind proxies and caches as people run them: Debian's nginx and Varnish.

mod cache;
mod front;
mod proxy;

pub use front::{Front, KINDS};
