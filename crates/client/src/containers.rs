//! Containers.

use kleene_api::{ContainerConfig, ContainerInspect, ContainerSummary, IdResponse};

use crate::client::{Client, segment};
use crate::error::ClientError;

impl Client {
    /// The running containers, or `all`, the newest first.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn container_list(&self, all: bool) -> Result<Vec<ContainerSummary>, ClientError> {
        self.get(&format!("/containers/list?all={all}")).await
    }

    /// Creates a container. The answer is its id.
    ///
    /// # Errors
    /// When the image is unknown, the name taken, or a setting bad.
    pub async fn container_create(&self, config: &ContainerConfig) -> Result<String, ClientError> {
        let answer: IdResponse = self.send("/containers/create", config).await?;
        Ok(answer.id)
    }

    /// Changes a container; fields that are `None` stay as they are. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, the name is taken, or a setting bad.
    pub async fn container_update(
        &self,
        container: &str,
        config: &ContainerConfig,
    ) -> Result<String, ClientError> {
        let path = format!("/containers/{}/update", segment(container));
        let answer: IdResponse = self.send(&path, config).await?;
        Ok(answer.id)
    }

    /// Stops a running container. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or it doesn't run.
    pub async fn container_stop(&self, container: &str) -> Result<String, ClientError> {
        let path = format!("/containers/{}/stop", segment(container));
        let answer: IdResponse = self.post(&path).await?;
        Ok(answer.id)
    }

    /// A container with its connections and mounts.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn container_inspect(
        &self,
        container: &str,
    ) -> Result<ContainerInspect, ClientError> {
        self.get(&format!("/containers/{}/inspect", segment(container)))
            .await
    }

    /// Removes a stopped container. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or it runs.
    pub async fn container_remove(&self, container: &str) -> Result<String, ClientError> {
        let answer: IdResponse = self
            .delete(&format!("/containers/{}", segment(container)))
            .await?;
        Ok(answer.id)
    }

    /// Removes all stopped containers that are not kept. The answer is their ids, the oldest first.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn container_prune(&self) -> Result<Vec<String>, ClientError> {
        self.post("/containers/prune").await
    }
}
