//! `/images/create`: makes a base image and tells how far that has come.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use kleene_api::{ImageCreateConfig, MessageType, ProgressInfo, close_code};
use kleene_doors::userland::Progress;
use kleene_engine::{EngineError, NewImage};
use kleene_types::ImageId;
use tokio::sync::watch;
use tokio::time::interval;

use super::session::{Gone, Session};
use crate::app::App;
use crate::http::convert;
use crate::http::error::log;

/// Time between two messages at least.
const PACE: Duration = Duration::from_millis(100);

pub(super) async fn run(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ImageCreateConfig>().await else {
        return;
    };
    if session.starting().await.is_err() {
        return;
    }
    let created = match convert::new_image(config) {
        Ok(new) => create(&app, &mut session, new).await,
        Err(error) => Ok(Err(error)),
    };
    match created {
        Ok(Ok(id)) => {
            let (code, message) = (close_code::FINISHED, "image created");
            session.close(code, MessageType::Closing, message, id).await;
        }
        Ok(Err(error)) => failed(&mut session, &error).await,
        Err(Gone) => {}
    }
}

async fn failed(session: &mut Session, error: &EngineError) {
    log(error);
    let message = error.to_string();
    // The close reason is short, so the whole message goes ahead of it.
    let whole = match session.subprotocol {
        true => progress_json(&failed_step(), Some(message.clone())),
        false => format!("error: {message}\n"),
    };
    if session.text(whole).await.is_ok() {
        let message = format!("image creation failed: {message}");
        let code = close_code::FAILED;
        session.close(code, MessageType::Error, message, "").await;
    }
}

fn failed_step() -> Progress {
    Progress {
        step: "failed".to_owned(),
        done: 0,
        total: None,
    }
}

/// Makes the image. A client that goes away cancels that, and so does the daemon's end.
async fn create(
    app: &App,
    session: &mut Session,
    new: NewImage,
) -> Result<Result<ImageId, EngineError>, Gone> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let (tell, mut told) = watch::channel(None);
    let cancel = Arc::clone(&cancelled);
    let work = app.run(move |engine| {
        engine.image_create(new, &mut |progress| {
            tell.send_replace(Some(progress));
            match cancel.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    });
    let mut work = std::pin::pin!(work);
    let mut pace = interval(PACE);
    let mut step = String::new();
    loop {
        let text = tokio::select! {
            biased;
            created = &mut work => return Ok(created),
            () = gone(&mut session.source) => Err(Gone),
            () = app.stop.wait() => Err(Gone),
            _ = pace.tick() => Ok(news(&mut told, session.subprotocol, &mut step)),
        };
        let sent = match text {
            Ok(Some(text)) => session.text(text).await,
            Ok(None) => Ok(()),
            Err(Gone) => Err(Gone),
        };
        if sent.is_err() {
            cancelled.store(true, Ordering::Relaxed);
            // What it has done is undone before the session counts as over.
            return match work.await {
                Err(EngineError::Cancelled) => Err(Gone),
                done => Ok(done),
            };
        }
    }
}

/// What is told of the progress since the last time, if anything.
fn news(
    told: &mut watch::Receiver<Option<Progress>>,
    subprotocol: bool,
    step: &mut String,
) -> Option<String> {
    if !told.has_changed().unwrap_or_default() {
        return None;
    }
    let progress = told.borrow_and_update().clone()?;
    if subprotocol {
        return Some(progress_json(&progress, None));
    }
    // Other clients print what comes: one line a step is enough.
    let new = *step != progress.step;
    *step = progress.step;
    new.then(|| format!("{step}\n"))
}

fn progress_json(progress: &Progress, error: Option<String>) -> String {
    let info = ProgressInfo {
        step: progress.step.clone(),
        done: progress.done,
        total: progress.total,
        error,
        id: None,
    };
    serde_json::to_string(&info).unwrap_or_default()
}

/// Waits until the client has gone away.
async fn gone(source: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = source.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}
