//! The gateway's binary. The code is in the library.

use std::process::ExitCode;

/// glibc's allocator keeps more memory and needs a tenth more CPU time for this work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Without this, Pingora uses ring; and rustls panics if there are two providers and none is
    // chosen.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    menshen::cli::run()
}
