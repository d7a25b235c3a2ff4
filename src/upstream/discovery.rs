//! The servers of an upstream as the configuration names them, and the addresses of the names.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, ToSocketAddrs};

use async_trait::async_trait;
use pingora::lb::Backend;
use pingora::lb::discovery::ServiceDiscovery;

use crate::config::{self, Findings};

/// Resolves the names of an upstream's servers.
pub(super) struct Discovery {
    names: Vec<ServerName>,
}

/// A server as the configuration names it.
struct ServerName {
    host_and_port: String,
    weight: usize,
}

impl Discovery {
    /// Reads the servers of an upstream; a finding for each name that does not resolve.
    pub(super) fn build(config: &config::Upstream, at: &str, findings: &mut Findings) -> Self {
        let names = config.servers.iter().map(|server| ServerName {
            host_and_port: server.address().to_owned(),
            weight: server.weight().into(),
        });
        let names: Vec<ServerName> = names.collect();
        for (position, name) in names.iter().enumerate() {
            if let Err(error) = name.resolve() {
                findings
                    .error(
                        format!("{at}.servers[{position}]"),
                        format!("`{}` does not resolve: {error}", name.host_and_port),
                    )
                    .hint("write `host:port`, such as `127.0.0.1:9000` or `api.internal:8080`");
            }
        }
        Self { names }
    }
}

impl ServerName {
    fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let addresses: Vec<SocketAddr> = self.host_and_port.to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(std::io::Error::other("no address"));
        }
        Ok(addresses)
    }
}

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for name in &self.names {
            let addresses = name.resolve().map_err(|error| {
                let context = format!("`{}` does not resolve", name.host_and_port);
                pingora::Error::because(pingora::ErrorType::InternalError, context, error)
            })?;
            for address in addresses {
                backends.insert(Backend::new_with_weight(&address.to_string(), name.weight)?);
            }
        }
        Ok((backends, HashMap::new()))
    }
}
