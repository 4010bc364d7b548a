//! `/images/pull` and `/images/push`: images from and to registries.

use std::sync::Arc;

use kleene_api::{ImagePullConfig, ImagePushConfig, ProgressInfo};
use kleene_doors::distribution::{BlobProgress, BlobStep};

use super::session::Session;
use super::work;
use crate::app::App;
use crate::http::convert::images;

pub(super) async fn pull(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ImagePullConfig>().await else {
        return;
    };
    let (done, failed) = ("image pulled", "pulling failed");
    work::run(&app, session, done, failed, |engine, tell| {
        let pull = images::new_pull(config)?;
        let id = engine.image_pull(&pull, &mut |progress| tell(blob_info(progress)))?;
        Ok(id.to_string())
    })
    .await;
}

pub(super) async fn push(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ImagePushConfig>().await else {
        return;
    };
    // A digest leaves little room in the close reason.
    let (done, failed) = ("pushed", "pushing failed");
    work::run(&app, session, done, failed, |engine, tell| {
        let push = images::new_push(config)?;
        let digest = engine.image_push(&push, &mut |progress| tell(blob_info(progress)))?;
        Ok(digest.to_string())
    })
    .await;
}

/// How far a blob is, as the contract shows it.
fn blob_info(progress: BlobProgress) -> ProgressInfo {
    let step = match progress.step {
        BlobStep::Waiting => "waiting".to_owned(),
        BlobStep::Exists => "exists already".to_owned(),
        BlobStep::Downloading => "downloading".to_owned(),
        BlobStep::Uploading => "uploading".to_owned(),
        BlobStep::Unpacking => "unpacking".to_owned(),
        BlobStep::Mounted => "mounted from another repository".to_owned(),
        BlobStep::Retrying(reason) => format!("trying again: {reason}"),
        BlobStep::Done => "done".to_owned(),
    };
    ProgressInfo {
        step,
        done: progress.done,
        total: (progress.total > 0).then_some(progress.total),
        error: None,
        id: Some(progress.digest.short().to_owned()),
    }
}
