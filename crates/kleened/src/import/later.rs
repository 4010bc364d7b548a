//! What has no place in our records yet: networks, addresses in them, published ports. It is kept in a
//! file of JSON.

use std::collections::BTreeMap;

use kleene_store::original::Original;
use kleene_types::ContainerId;
use serde::Serialize;
use serde_json::Value;

/// What is kept for later, in the original's own words.
#[derive(Debug, Default, Serialize)]
pub(super) struct Later {
    /// Networks, with their ids in them.
    networks: Vec<Value>,
    /// Addresses of containers in networks.
    endpoints: Vec<Value>,
    /// Published ports of containers.
    public_ports: BTreeMap<String, Vec<Value>>,
}

impl Later {
    /// Takes the networks and the addresses in them.
    pub(super) fn collect(&mut self, original: &Original) {
        for row in &original.networks {
            let mut network = row.record.clone();
            if let Value::Object(fields) = &mut network {
                fields.insert("id".to_owned(), Value::from(row.key.clone()));
            }
            self.networks.push(network);
        }
        self.endpoints.clone_from(&original.endpoints);
    }

    /// Takes the published ports of a container.
    pub(super) fn ports(&mut self, container: &ContainerId, ports: Vec<Value>) {
        if !ports.is_empty() {
            self.public_ports.insert(container.to_string(), ports);
        }
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.endpoints.is_empty() && self.public_ports.is_empty()
    }

    /// Names of the networks.
    pub(super) fn networks(&self) -> impl Iterator<Item = &str> {
        let names = self.networks.iter().filter_map(|it| it.get("name"));
        names.filter_map(Value::as_str)
    }

    /// How many containers have addresses in networks or published ports.
    pub(super) fn containers(&self) -> usize {
        let addressed = self
            .endpoints
            .iter()
            .filter_map(|it| it.get("container_id"));
        let mut containers: Vec<&str> = addressed
            .filter_map(Value::as_str)
            .chain(self.public_ports.keys().map(String::as_str))
            .collect();
        containers.sort_unstable();
        containers.dedup();
        containers.len()
    }
}
