//! Sign-in with a browser: the page, the way to WeChat, and the way back.

#[allow(dead_code, reason = "until the flow uses it")]
mod origin;
#[allow(dead_code, reason = "until the flow uses it")]
mod return_to;
