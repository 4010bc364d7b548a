//! Volumes.

use kleene_api::{IdResponse, Volume, VolumeConfig, VolumeInspect};

use crate::client::{Client, segment};
use crate::error::ClientError;

impl Client {
    /// All volumes, the newest first.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn volume_list(&self) -> Result<Vec<Volume>, ClientError> {
        self.get("/volumes/list").await
    }

    /// Creates a volume; one that exists is left as it is. The answer is its name.
    ///
    /// # Errors
    /// When the name is bad.
    pub async fn volume_create(&self, config: &VolumeConfig) -> Result<String, ClientError> {
        let answer: IdResponse = self.send("/volumes/create", config).await?;
        Ok(answer.id)
    }

    /// A volume with the mounts that use it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn volume_inspect(&self, name: &str) -> Result<VolumeInspect, ClientError> {
        self.get(&format!("/volumes/{}/inspect", segment(name)))
            .await
    }

    /// Removes a volume. The answer is its name.
    ///
    /// # Errors
    /// When there is none of that name, or a container mounts it.
    pub async fn volume_remove(&self, name: &str) -> Result<String, ClientError> {
        let answer: IdResponse = self.delete(&format!("/volumes/{}", segment(name))).await?;
        Ok(answer.id)
    }

    /// Removes all volumes that no container mounts. The answer is their names, the oldest first.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn volume_prune(&self) -> Result<Vec<String>, ClientError> {
        self.post("/volumes/prune").await
    }
}
