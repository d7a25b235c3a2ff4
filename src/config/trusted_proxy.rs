//! A proxy in front of the gateway, and the headers that the gateway believes from it.

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::value;

/// `trusted_proxies[]`: the addresses of a proxy, or an object that says what the gateway believes
/// from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenProxy")]
pub struct TrustedProxy {
    /// Addresses of the proxy.
    pub from: Vec<IpNet>,
    /// Names of the headers that are believed.
    pub believe: Vec<String>,
    /// The header that alone names the client's address.
    pub client_address: Option<String>,
}

/// The headers that a proxy is believed about if nothing else is said.
const BELIEVED: [&str; 2] = ["X-Forwarded-For", "X-Forwarded-Proto"];

impl TrustedProxy {
    /// A proxy of these addresses, believed as one of which nothing else is said.
    pub fn at(from: Vec<IpNet>) -> Self {
        Self { from, believe: BELIEVED.map(str::to_owned).to_vec(), client_address: None }
    }
}

impl From<WrittenProxy> for TrustedProxy {
    fn from(written: WrittenProxy) -> Self {
        match written {
            WrittenProxy::Addresses(network) => Self::at(vec![network]),
            WrittenProxy::Rules(BelievedProxy { from, believe, client_address }) => {
                // The address header replaces the list of addresses, unless that is believed too.
                let default = BELIEVED.iter().skip(usize::from(client_address.is_some()));
                let believe = believe.unwrap_or_else(|| default.map(|name| (*name).to_owned()).collect());
                Self { from, believe, client_address }
            }
        }
    }
}

impl JsonSchema for TrustedProxy {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TrustedProxy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules = generator.subschema_for::<BelievedProxy>();
        json_schema!({ "anyOf": [{ "type": "string", "format": "ip-network" }, rules] })
    }
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenProxy {
    Addresses(#[serde(deserialize_with = "value::one_network")] IpNet),
    Rules(BelievedProxy),
}

/// `{ from, believe, client_address }`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BelievedProxy {
    /// Addresses or CIDR blocks of the proxy: one, or a list. If several entries have an address,
    /// the smallest block decides.
    #[serde(deserialize_with = "value::one_or_more_networks")]
    #[schemars(schema_with = "value::one_or_more_networks_schema")]
    from: Vec<IpNet>,
    /// Headers that the gateway believes from this proxy, by name, or by the beginning of their
    /// names: `X-SSL-Client-*`. The gateway removes each of them from all other requests. Name only
    /// headers that the proxy itself writes: it passes on other headers as the client wrote them.
    /// Default: `X-Forwarded-For` and `X-Forwarded-Proto`; with `client_address` only
    /// `X-Forwarded-Proto`. See docs/headers.md.
    #[serde(default)]
    believe: Option<Vec<String>>,
    /// Header in which this proxy names the client's address, such as `X-WX-Client-IP`. Only this
    /// header counts. If it is missing, occurs twice or is not an address, the proxy itself counts
    /// as the client. Default: the gateway reads `X-Forwarded-For`.
    #[serde(default)]
    client_address: Option<String>,
}
