//! Load, build, swap; on any error keep what runs.
