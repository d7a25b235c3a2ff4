//! The fuzz targets: one function for each place that reads bytes from outside.
//!
//! Each target runs the real code and asserts what must hold for its result: a panic is a finding.
//! The functions are next to the code that they run; this is their list. `fuzz/` runs them guided
//! by coverage. The tests here run them on the seeds in `fuzz/corpus/` and on mutants of the seeds,
//! with any toolchain.

mod token;

#[cfg(test)]
mod tests;

/// A function that reads an input.
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
    /// A request path: it has one canonical form, and backends read the path that was matched.
    path => crate::route::fuzz::path,
    /// The lines of a request's header: an admitted request is unambiguous, and is admitted again
    /// unchanged.
    request => crate::proxy::fuzz::request,
    /// Values of `X-Forwarded-For`, one on each line: nothing left of an untrusted address counts.
    forwarded_for => crate::proxy::fuzz::forwarded_for,
    /// The start of a connection behind a load balancer: it is read the same in any pieces.
    proxy_protocol => crate::proxy::fuzz::proxy_protocol,
    /// Header names, one on each line: none remains that a backend reads as one of the gateway's.
    header_names => crate::identity_headers::fuzz::header_names,
    /// `Cookie` lines: the gateway's own cookies are found once or not at all, and not passed on.
    cookies => crate::sign_in::fuzz::cookies,
    /// An access token, and a change to a valid one: only the valid one verifies.
    token => token::token,
    /// A refresh token, session cookie or session id: a credential has exactly one text.
    credential => crate::session::fuzz::credential,
    /// A `return_to` address: an accepted one has an allowed origin.
    return_to => crate::sign_in::fuzz::return_to,
    /// The query of the callback from WeChat: state and code have only allowed characters.
    callback_query => crate::sign_in::fuzz::callback_query,
    /// The body of a login, a refresh or a logout: an accepted body has one meaning.
    login_body => crate::sign_in::fuzz::login_body,
    /// The row of a code that another node exchanged: only a row that it sealed is accepted.
    claim_row => crate::sign_in::fuzz::claim_row,
    /// The row of a sign-in under way.
    sign_in_row => crate::sign_in::fuzz::sign_in_row,
    /// Rows of sessions: a row with a wrong checksum is refused, and an accepted row is written the
    /// same.
    session_row => crate::session::fuzz::row,
    /// WeChat's reply to a mini program's code: only the user that it names is signed in.
    wechat_reply => crate::wechat::fuzz::reply,
    /// WeChat's replies to a page's code, a refresh and a profile request.
    wechat_page_reply => crate::wechat::fuzz::page_reply,
    /// WeChat's sealed user data: nothing that opens is of another user or app.
    user_data => crate::user_data::fuzz::sealed,
    /// `Accept-Language` lines.
    accept_language => crate::page::fuzz::accept_language,
    /// The scope that an operator or program names: it is never wider than what is written.
    admin_names => crate::management::fuzz::scope_names,
    /// A configuration file: an accepted one can be written and read again without a change.
    configuration => crate::config::fuzz::configuration,
}
