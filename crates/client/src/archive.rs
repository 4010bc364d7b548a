//! Files of containers, and images, as tar archives.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use hyper::Method;
use kleene_api::{ContainerCommitConfig, IdResponse, LoadedImage, PathStat};

use crate::body::Download;
use crate::client::{Client, json, segment};
use crate::containers::of;
use crate::error::ClientError;
use crate::query::Query;

const TAR: &str = "application/x-tar";

impl Client {
    /// What is at an absolute path in a container.
    ///
    /// # Errors
    /// When there is no such container, or nothing is there.
    pub async fn stat_path(&self, container: &str, path: &str) -> Result<PathStat, ClientError> {
        let query = Query::new(&of(container, "stat")).text("path", path);
        self.get(&query.finish()).await
    }

    /// A tar archive of what is at an absolute path in a container.
    ///
    /// # Errors
    /// When there is no such container, or nothing is there.
    pub async fn get_archive(&self, container: &str, path: &str) -> Result<Download, ClientError> {
        let query = Query::new(&of(container, "archive")).text("path", path);
        self.download(&query.finish(), TAR).await
    }

    /// Unpacks a tar archive in a directory of a container. With `keep_owner` the archive's owners
    /// are kept; otherwise everything belongs to root. An error of `archive` breaks the transfer
    /// off.
    ///
    /// # Errors
    /// When there is no such container or directory, it can't be written, or the archive is bad.
    pub async fn put_archive(
        &self,
        container: &str,
        path: &str,
        keep_owner: bool,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ClientError> {
        let query = Query::new(&of(container, "archive")).text("path", path);
        let path = query.flag("keep_owner", keep_owner).finish();
        self.upload(Method::PUT, &path, TAR, archive)
            .await
            .map(drop)
    }

    /// The whole root of a container as a tar archive.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn container_export(&self, container: &str) -> Result<Download, ClientError> {
        self.download(&of(container, "export"), TAR).await
    }

    /// Makes an image of what is in a container. The answer is its id.
    ///
    /// # Errors
    /// When there is no such container, or a change or the name is bad.
    pub async fn container_commit(
        &self,
        container: &str,
        config: &ContainerCommitConfig,
    ) -> Result<IdResponse, ClientError> {
        self.send(&of(container, "commit"), config).await
    }

    /// The files of an image as a tar archive.
    ///
    /// # Errors
    /// When there is no such image.
    pub async fn image_export(&self, image: &str) -> Result<Download, ClientError> {
        let path = format!("/images/{}/export", segment(image));
        self.download(&path, TAR).await
    }

    /// Images with their layers and settings, as a tar archive for [`Client::image_load`]: an OCI
    /// layout.
    ///
    /// # Errors
    /// When there is no such image.
    pub async fn image_save(&self, images: &[String]) -> Result<Download, ClientError> {
        let query = Query::new("/images/save");
        let query = images
            .iter()
            .fold(query, |query, name| query.text("names", name));
        self.download(&query.finish(), TAR).await
    }

    /// Takes in the images of an archive. An error of `archive` breaks the transfer off.
    ///
    /// # Errors
    /// When the archive is bad.
    pub async fn image_load(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Vec<LoadedImage>, ClientError> {
        json(
            &self
                .upload(Method::POST, "/images/load", TAR, archive)
                .await?,
        )
    }

    /// Makes an image of the files in an archive, which may be compressed. `changes` are instructions
    /// of a Dockerfile for its settings. The answer is its id. An error of `archive` breaks the
    /// transfer off.
    ///
    /// # Errors
    /// When the archive, a change or the name is bad.
    pub async fn image_import(
        &self,
        tag: Option<&str>,
        comment: Option<&str>,
        changes: &[String],
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<IdResponse, ClientError> {
        let query = Query::new("/images/import")
            .optional("tag", tag)
            .optional("comment", comment);
        let query = changes
            .iter()
            .fold(query, |query, change| query.text("changes", change));
        let path = query.finish();
        json(&self.upload(Method::POST, &path, TAR, archive).await?)
    }
}
