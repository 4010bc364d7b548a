//! `/images/create`: makes a base image.

use std::sync::Arc;

use kleene_api::{ImageCreateConfig, ProgressInfo};
use kleene_doors::userland::Progress;

use super::session::Session;
use super::work;
use crate::app::App;
use crate::http::convert;

pub(super) async fn run(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ImageCreateConfig>().await else {
        return;
    };
    let (done, failed) = ("image created", "image creation failed");
    work::run(&app, session, done, failed, |engine, tell| {
        let new = convert::new_image(config)?;
        let id = engine.image_create(new, &mut |progress| tell(progress_info(progress)))?;
        Ok(id.to_string())
    })
    .await;
}

/// How far a base image is, as the contract shows it.
pub(in crate::http) fn progress_info(progress: Progress) -> ProgressInfo {
    ProgressInfo {
        step: progress.step,
        done: progress.done,
        total: progress.total,
        error: None,
        id: None,
    }
}
