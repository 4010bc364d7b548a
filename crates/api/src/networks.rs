//! Networks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::EndPoint;

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name.
    pub name: String,
    /// `bridge`, `loopback` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the interface, at most 15 characters; empty: generated.
    #[serde(default)]
    pub interface: String,
    /// IPv4 subnet in CIDR notation; empty: none.
    #[serde(default)]
    pub subnet: String,
    /// IPv6 subnet in CIDR notation; empty: none.
    #[serde(default)]
    pub subnet6: String,
    /// IPv4 gateway; empty: none, `<auto>`: the subnet's first address.
    #[serde(default)]
    pub gateway: String,
    /// IPv6 gateway; likewise.
    #[serde(default)]
    pub gateway6: String,
    /// Interface for address translation; empty: none, `<host-gateway>`: the host's.
    #[serde(default)]
    pub nat: String,
    /// Whether containers of the network reach each other.
    #[serde(default)]
    pub icc: bool,
    /// Whether the network is cut off from the outside.
    #[serde(default)]
    pub internal: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Twelve hexadecimal digits.
    pub id: String,
    /// The configuration with its values resolved.
    #[serde(flatten)]
    pub config: NetworkConfig,
}

/// A network with its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkInspect {
    /// The network.
    pub network: Network,
    /// Its connections.
    pub network_endpoints: Vec<EndPoint>,
}

/// A connection to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndPointConfig {
    /// The container.
    pub container: String,
    /// The network.
    pub network: String,
    /// IPv4 address; empty: none, `<auto>`: the next free one.
    #[serde(default)]
    pub ip_address: String,
    /// IPv6 address; likewise.
    #[serde(default)]
    pub ip_address6: String,
}
