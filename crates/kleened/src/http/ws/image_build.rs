//! `/images/build`. This version can't build; it answers as for a build that fails at once.

use std::sync::Arc;

use kleene_api::{ImageBuildConfig, MessageType, close_code};

use super::session::Session;
use crate::app::App;

const NOT_YET: &str = "image builds are not available yet in this version: make base images with \
                       'klee image create' and change them in containers\n";

pub(super) async fn run(_: Arc<App>, mut session: Session) {
    if session.config::<ImageBuildConfig>().await.is_none() {
        return;
    }
    if session.starting().await.is_ok() && session.text(NOT_YET.to_owned()).await.is_ok() {
        let (code, message) = (close_code::FAILED, "image build failed");
        session.close(code, MessageType::Error, message, "").await;
    }
}
