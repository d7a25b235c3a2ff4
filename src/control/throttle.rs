//! The pages about throttled addresses. They show and change what this node counts.

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Control, check_post};
use crate::management::{ManagementAnswer, ManagementBodyError, Requester, read_json};
use crate::telemetry::audit_log::AuditEvent;
use crate::throttle::ThrottledAddress;

#[derive(Serialize)]
struct ListAnswer {
    throttled: Vec<ListedAddress>,
}

#[derive(Serialize)]
struct ListedAddress {
    address: String,
    limit: &'static str,
    since: String,
    refused: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiftRequest {
    address: String,
}

#[derive(Serialize)]
struct LiftAnswer {
    /// How many limits refused the address.
    lifted: usize,
}

impl From<ThrottledAddress> for ListedAddress {
    fn from(listed: ThrottledAddress) -> Self {
        let ThrottledAddress { address, limit, since, refused } = listed;
        Self { address, limit: limit.as_str(), since: since.to_string(), refused }
    }
}

impl Control {
    /// The addresses that a limit refuses now.
    pub(super) fn list_throttled(
        &self,
        request: &Parts,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(ManagementAnswer::method_not_allowed("GET, HEAD"));
        }
        let listed = self.management.runtime().throttle.list();
        self.audit(requester, AuditEvent::Listing, "ok");
        let throttled = listed.into_iter().map(Into::into).collect();
        Ok(ManagementAnswer::json(&ListAnswer { throttled }))
    }

    /// Forgets what was counted of an address.
    pub(super) async fn lift_throttle(
        &self,
        request: &Parts,
        requester: &Requester,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        check_post(&request.method)?;
        let body = read_json(request, body).await?;
        let address = read_address(&body)?;
        let lifted = self.management.runtime().throttle.lift(address).await;
        let outcome = if lifted.is_ok() { "ok" } else { "store_unavailable" };
        info!(requester.name = requester.name, "{requester} lifted the limits of {address}: {outcome}");
        self.audit(requester, AuditEvent::ThrottleLift, outcome);
        match lifted {
            Ok(lifted) => Ok(ManagementAnswer::json(&LiftAnswer { lifted })),
            Err(error) => {
                let detail = format!("this gateway has lifted it, the store has not: {error}");
                Err(ManagementAnswer::problem(StatusCode::SERVICE_UNAVAILABLE, outcome, Some(&detail)))
            }
        }
    }
}

/// An address, or a network as the list shows it.
fn read_address(body: &[u8]) -> Result<IpAddr, ManagementAnswer> {
    let bad =
        |detail: &str| ManagementAnswer::problem(StatusCode::BAD_REQUEST, "request_malformed", Some(detail));
    let LiftRequest { address } = serde_json::from_slice(body)
        .map_err(|_| bad("send one JSON object with `address`, such as {\"address\": \"192.0.2.1\"}"))?;
    let (host, _) = address.split_once('/').unwrap_or((&address, ""));
    host.parse().map_err(|_| {
        bad("`address` is no IP address: write one such as 192.0.2.1, or a network as the list shows it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_or_network_of_the_list_is_read() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::/48", Some("2001:db8::")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("", None),
            ("gateway.test", None),
            ("192.0.2.1:80", None),
            ("192.0.2", None),
        ] {
            let body = serde_json::json!({ "address": text }).to_string();

            let read = read_address(body.as_bytes()).ok();

            assert_eq!(read, expected.map(|address| address.parse().unwrap()), "{text}");
        }
        for body in ["", "{}", "[]", r#"{"address":1}"#, r#"{"address":"192.0.2.1","more":1}"#] {
            assert!(read_address(body.as_bytes()).is_err(), "{body}");
        }
    }
}
