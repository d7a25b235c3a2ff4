//! The gateway's binary: see the library.

use std::process::ExitCode;

/// glibc's allocator keeps memory and costs a tenth more CPU on this work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Pingora would fall back to ring, and rustls panics when two providers are there and none is chosen.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    menshen::cli::run()
}
