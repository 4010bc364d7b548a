//! Images.

use kleene_api::{HistoryEntry, IdResponse, Image, ImageCreateConfig, PruneReport};

use crate::client::{Client, segment};
use crate::error::ClientError;
use crate::progress::ProgressSession;
use crate::query::Query;

/// What is removed when images are pruned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Images with a name, too.
    pub all: bool,
    /// What is kept for the next build, too.
    pub build_cache: bool,
    /// Nothing: only tell what would be.
    pub dry_run: bool,
    /// Only what fits all of them, each as `KEY=VALUE`.
    pub filters: Vec<String>,
}

impl Client {
    /// The images, the newest first; `all`: with those that only keep steps of builds.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn image_list(&self, all: bool) -> Result<Vec<Image>, ClientError> {
        let all = all.then_some("true");
        let query = Query::new("/images/list").optional("all", all);
        self.get(&query.finish()).await
    }

    /// An image.
    ///
    /// # Errors
    /// When there is no such image.
    pub async fn image_inspect(&self, image: &str) -> Result<Image, ClientError> {
        self.get(&format!("/images/{}/inspect", segment(image)))
            .await
    }

    /// Removes an image. The answer is its id.
    ///
    /// # Errors
    /// When there is no such image, or containers or images need it.
    pub async fn image_remove(&self, image: &str) -> Result<String, ClientError> {
        let answer: IdResponse = self.delete(&format!("/images/{}", segment(image))).await?;
        Ok(answer.id)
    }

    /// Gives an image another name and tag, `NAME[:TAG]`. The answer is its id.
    ///
    /// # Errors
    /// When there is no such image, or the name is bad.
    pub async fn image_tag(&self, image: &str, nametag: &str) -> Result<String, ClientError> {
        let path = format!(
            "/images/{}/tag?nametag={}",
            segment(image),
            segment(nametag)
        );
        let answer: IdResponse = self.post(&path).await?;
        Ok(answer.id)
    }

    /// The steps that an image was made by, the newest first.
    ///
    /// # Errors
    /// When there is no such image.
    pub async fn image_history(&self, image: &str) -> Result<Vec<HistoryEntry>, ClientError> {
        self.get(&format!("/images/{}/history", segment(image)))
            .await
    }

    /// Removes images that nothing needs: those without a name, and what the options say. The answer
    /// names what went, children before parents.
    ///
    /// # Errors
    /// When the request fails, or a filter is bad.
    pub async fn image_prune(&self, options: &PruneOptions) -> Result<PruneReport, ClientError> {
        let mut query = Query::new("/images/prune")
            .flag("all", options.all)
            .flag("build_cache", options.build_cache)
            .flag("dry_run", options.dry_run)
            .flag("report", true);
        for filter in &options.filters {
            query = query.text("filters", filter);
        }
        self.post(&query.finish()).await
    }

    /// Makes a base image; the session tells how far that has come. The closing's data is the image's
    /// id.
    ///
    /// # Errors
    /// When the session can't be opened; failures are events of the session.
    pub async fn image_create(
        &self,
        config: &ImageCreateConfig,
    ) -> Result<ProgressSession, ClientError> {
        self.progress("/images/create", config).await
    }
}
