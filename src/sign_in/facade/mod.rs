//! Façades: endpoints that sign in as `POST /auth/login` does, in the protocol of clients that
//! exist already. The operator says where the code is and what the answers look like; everything
//! else is the login's own.
//!
//! A façade sets no cookie and reads none as a sign-in. A page of another site that makes a browser
//! call it therefore changes nothing in the browser, and its requests are refused before they count
//! against the visitor's address.

mod build;
mod endpoint;
mod request;
mod respond;

pub(super) use self::build::build_facades;
pub(super) use self::endpoint::Facade;
pub(super) use self::request::precheck;
pub(super) use self::respond::respond;
