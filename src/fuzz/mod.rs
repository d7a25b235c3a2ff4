//! What fuzzing drives: one function for each place where bytes of somebody else's are read.
//!
//! Each runs the real code and asserts what must hold of its answer, not only that there is one: a panic is a finding.
//! The functions stand beside the code they drive; this is their list. `fuzz/` runs them with coverage as a guide, the
//! tests here over the seeds in `fuzz/corpus/` and over mutants of those, on any toolchain.

mod token;

#[cfg(test)]
mod tests;

/// Reads an input.
pub type FuzzTarget = fn(&[u8]);

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident => $entry:path,)*) => {
        $($(#[$doc])* pub fn $name(data: &[u8]) {
            $entry(data);
        })*

        /// Every target with its name.
        pub const TARGETS: &[(&str, FuzzTarget)] = &[$((stringify!($name), $name)),*];
    };
}

targets! {
    /// A request path: one canonical form, of which no backend reads another than was matched.
    path => crate::route::fuzz::path,
    /// A request's line and header, a line each: what is admitted is unambiguous, and is admitted again as it stands.
    request => crate::proxy::fuzz::request,
    /// Values of `X-Forwarded-For`, a line each: nothing left of an untrusted address counts.
    forwarded_for => crate::proxy::fuzz::forwarded_for,
    /// The beginning of a connection behind a balancer: read in any pieces, it says the same.
    proxy_protocol => crate::proxy::fuzz::proxy_protocol,
    /// Names of headers, a line each: none that a backend takes for a managed one survives.
    header_names => crate::identity_headers::fuzz::header_names,
    /// `Cookie` lines: the gateway's own are found once or not at all, and never passed on.
    cookies => crate::sign_in::fuzz::cookies,
    /// An access token, and a change to a good one: nothing but the good one verifies.
    token => token::token,
    /// A refresh token, session cookie or session id: one credential has one text.
    credential => crate::session::fuzz::credential,
    /// A place to go back to: whatever is accepted is of an allowed origin.
    return_to => crate::sign_in::fuzz::return_to,
    /// The query of a way back from WeChat: a state and a code have an alphabet.
    callback_query => crate::sign_in::fuzz::callback_query,
    /// The body of a login, a refresh or a logout: whatever is accepted says one thing.
    login_body => crate::sign_in::fuzz::login_body,
    /// What another node is said to have made of a code: nothing but what it sealed is believed.
    claim_row => crate::sign_in::fuzz::claim_row,
    /// The record of a sign-in under way.
    sign_in_row => crate::sign_in::fuzz::sign_in_row,
    /// Rows of sessions: nothing without its checksum is read, and whatever is read is written the same.
    session_row => crate::session::fuzz::row,
    /// WeChat's reply for a mini program's code: nobody is signed in but whom it names.
    wechat_reply => crate::wechat::fuzz::reply,
    /// WeChat's replies for a page's code, a refresh and a profile.
    wechat_page_reply => crate::wechat::fuzz::page_reply,
    /// `Accept-Language` lines.
    accept_language => crate::page::fuzz::accept_language,
    /// Whose sessions an operator means: never more than is written.
    admin_names => crate::admin::fuzz::admin_names,
    /// A configuration file: what is accepted is written out and read again alike.
    configuration => crate::config::fuzz::configuration,
}
