//! The names of `libz-ng-sys`, served by stock zlib. The README beside this package says why.
pub use libz_sys::*;
