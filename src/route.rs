//! Which route a request takes: host, path and method to access and upstream.
