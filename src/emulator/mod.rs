//! WeChat, for the demo and for tests: never on by itself.
