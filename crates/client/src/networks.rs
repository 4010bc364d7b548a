//! Networks.

use kleene_api::{EndPointConfig, IdResponse, Network, NetworkConfig, NetworkInspect};

use crate::client::{Client, segment};
use crate::error::ClientError;

impl Client {
    /// All networks by name.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn network_list(&self) -> Result<Vec<Network>, ClientError> {
        self.get("/networks/list").await
    }

    /// Creates a network. The answer is its id.
    ///
    /// # Errors
    /// When the name or addresses are taken, or a setting is bad.
    pub async fn network_create(&self, config: &NetworkConfig) -> Result<String, ClientError> {
        let answer: IdResponse = self.send("/networks/create", config).await?;
        Ok(answer.id)
    }

    /// A network with its connections.
    ///
    /// # Errors
    /// When there is no such network.
    pub async fn network_inspect(&self, network: &str) -> Result<NetworkInspect, ClientError> {
        self.get(&format!("/networks/{}/inspect", segment(network)))
            .await
    }

    /// Disconnects a network's containers and removes it. The answer is its id.
    ///
    /// # Errors
    /// When there is no such network.
    pub async fn network_remove(&self, network: &str) -> Result<String, ClientError> {
        let answer: IdResponse = self
            .delete(&format!("/networks/{}", segment(network)))
            .await?;
        Ok(answer.id)
    }

    /// Removes all networks without connections. The answer is their ids.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn network_prune(&self) -> Result<Vec<String>, ClientError> {
        self.post("/networks/prune").await
    }

    /// Connects a container to a network.
    ///
    /// # Errors
    /// When one of them is unknown, or an address is taken.
    pub async fn network_connect(&self, config: &EndPointConfig) -> Result<(), ClientError> {
        self.send_quietly("/networks/connect", Some(config)).await
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// When one of them is unknown, or they aren't connected.
    pub async fn network_disconnect(
        &self,
        network: &str,
        container: &str,
    ) -> Result<(), ClientError> {
        let path = format!(
            "/networks/{}/disconnect/{}",
            segment(network),
            segment(container)
        );
        self.send_quietly(&path, None::<&()>).await
    }
}
