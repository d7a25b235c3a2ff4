//! Lock-outs of clients whose requests keep failing: clients that try paths, tokens or ids one
//! after another.

use std::net::IpAddr;

use super::{Limit, Throttle, Throttled};

/// Statuses 4xx that are no sign of guessing: the client was slow, was rate-limited, or
/// disconnected.
const NOT_COUNTED: [u16; 3] = [408, 429, 499];

impl Throttle {
    /// Checks that this client is not locked out for its errors.
    ///
    /// # Errors
    /// [`Throttled`] while the client is locked out.
    pub fn check_request(&self, client: IpAddr) -> Result<(), Throttled> {
        let Some(errors) = &self.client_errors else { return Ok(()) };
        let network = self.clients.network(client);
        match errors.remaining(network.key) {
            Some(remaining) => Err(self.refuse_named(Limit::ClientError, network.name, remaining)),
            None => Ok(()),
        }
    }

    /// Counts a response to this client: a 4xx adds an error, and a status below 400 removes one. A
    /// 5xx counts neither way, since it is the server's failure.
    pub fn record_response(&self, client: IpAddr, status: u16) {
        let Some(errors) = &self.client_errors else { return };
        match status {
            status if NOT_COUNTED.contains(&status) => {}
            400..=499 => errors.record_failure(self.clients.key(client)),
            100..=399 => errors.record_success(self.clients.key(client)),
            _ => {}
        }
    }
}
