//! Strips what a client must not claim and injects what the gateway knows.
