//! Sign-in with a browser: the page, the way to WeChat, and the way back.
