//! Images of registries.

use kleene_api::{ImagePullConfig, ImagePushConfig, RegistryLoggedIn, RegistryLogin, SearchResult};

use crate::client::Client;
use crate::error::ClientError;
use crate::progress::ProgressSession;
use crate::query::Query;

impl Client {
    /// Pulls an image from a registry; the session tells how far that has come, each layer by its
    /// own. The closing's data is the image's id.
    ///
    /// # Errors
    /// When the session can't be opened; failures are events of the session.
    pub async fn image_pull(
        &self,
        config: &ImagePullConfig,
    ) -> Result<ProgressSession, ClientError> {
        self.progress("/images/pull", config).await
    }

    /// Pushes an image to a registry, as [`Client::image_pull`]. The closing's data is the digest of
    /// the manifest.
    ///
    /// # Errors
    /// When the session can't be opened; failures are events of the session.
    pub async fn image_push(
        &self,
        config: &ImagePushConfig,
    ) -> Result<ProgressSession, ClientError> {
        self.progress("/images/push", config).await
    }

    /// Asks a registry whether it takes credentials.
    ///
    /// # Errors
    /// When the registry can't be reached, or refuses them (HTTP status 401).
    pub async fn registry_login(
        &self,
        login: &RegistryLogin,
    ) -> Result<RegistryLoggedIn, ClientError> {
        self.send("/images/login", login).await
    }

    /// Searches a registry (`None`: the default one) for repositories.
    ///
    /// # Errors
    /// When the registry can't be reached, or can't be searched.
    pub async fn image_search(
        &self,
        term: &str,
        registry: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Vec<SearchResult>, ClientError> {
        let query = Query::new("/images/search")
            .text("term", term)
            .optional("registry", registry)
            .optional("limit", limit.map(|limit| limit.to_string()).as_deref());
        self.get(&query.finish()).await
    }
}
