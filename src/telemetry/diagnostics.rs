//! What the gateway says of itself on standard error.
