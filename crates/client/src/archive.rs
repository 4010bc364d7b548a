//! Files of containers, as tar archives.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use kleene_api::PathStat;
use tokio::sync::oneshot;

use crate::body::Download;
use crate::client::{Client, refusal};
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
        // What the daemon has answered about needn't be sent any more.
        let (answered, answer) = oneshot::channel::<()>();
        let archive = archive.map_ok(Frame::data).take_until(answer);
        let body = StreamBody::new(archive).boxed_unsync();
        let mut request = self.request(Method::PUT, &path, Bytes::new())?;
        *request.body_mut() = body;
        let tar = HeaderValue::from_static(TAR);
        request.headers_mut().insert(CONTENT_TYPE, tar);
        let (response, sender) = self.exchange(request).await?;
        drop(answered);
        let status = response.status();
        let answer = self.read_body(response).await?;
        if status.is_success() {
            self.give_back(sender).await;
            return Ok(());
        }
        Err(refusal(status, &answer))
    }
}
