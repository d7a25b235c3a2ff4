//! Composition root: listeners, signals, drain.
