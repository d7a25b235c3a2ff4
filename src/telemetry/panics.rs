//! Where the message of a panic goes: to diagnostics, and nowhere if the panic is caught on
//! purpose.
//!
//! The standard library prints it to standard error, on the thread that panics. If the reader of
//! standard error stalls, that thread would wait for it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether diagnostics are installed.
static HAS_DIAGNOSTICS: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread runs [`catch`].
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// The work of [`catch`] panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs work that may panic because its input is not trusted, and prints nothing if it does.
///
/// # Errors
/// [`Panicked`].
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    install_hook();
    let was_catching = IS_CATCHING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_CATCHING.set(was_catching);
    outcome.map_err(|_| Panicked)
}

/// Sends the messages of panics to diagnostics from now on.
pub(super) fn send_to_diagnostics() {
    HAS_DIAGNOSTICS.store(true, Ordering::Relaxed);
    install_hook();
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if IS_CATCHING.get() {
                return;
            }
            if HAS_DIAGNOSTICS.load(Ordering::Relaxed) { report(panic) } else { default(panic) }
        }));
    });
}

fn report(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    // As the standard library does, only if the operator asked for it by `RUST_BACKTRACE`.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!("thread {name} {panic}\n{backtrace}");
    } else {
        tracing::error!("thread {name} {panic}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_once_for_each_call() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| -> u8 { panic!("as the test wants it to") }), Err(Panicked));
        assert_eq!(catch(|| catch(|| -> u8 { panic!("as the test wants it to") })), Ok(Err(Panicked)));
        assert!(!IS_CATCHING.get());
    }
}
