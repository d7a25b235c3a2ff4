//! What every store does, and what each of the engines does besides.

mod redis;
