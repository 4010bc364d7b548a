//! `/exec/start`: starts a process, and carries its streams.

use std::sync::Arc;

use kleene_api::{ExecStartConfig, MessageType, close_code};
use kleene_engine::EngineError;
use kleene_types::ExecId;
use tokio::net::UnixStream;
use tracing::debug;

use super::process::{self, Process};
use super::relay::{self, Outcome};
use super::session::Session;
use crate::app::App;
use crate::http::convert;

/// POSIX gives these two the same numbers everywhere.
const SIGHUP: i32 = 1;
const SIGTERM: i32 = 15;

pub(super) async fn run(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ExecStartConfig>().await else {
        return;
    };
    let (reference, start) = (config.exec_id.clone(), convert::exec_start(&config));
    let started = app.run(move |engine| engine.exec_start(&reference, start));
    match started.await.and_then(Process::new) {
        Ok(Process {
            id,
            stream: Some(stream),
        }) => attached(&app, &mut session, &id, stream).await,
        Ok(Process { id, stream: None }) => {
            let message = format!("{id} was started detached");
            let code = close_code::DETACHED;
            session.close(code, MessageType::Closing, message, "").await;
        }
        Err(error) => failed(&mut session, &config, &error).await,
    }
}

/// Tells why a process was not started. Its container stays for inspection.
async fn failed(session: &mut Session, config: &ExecStartConfig, error: &EngineError) {
    // Existing clients take whatever comes first for the opening message.
    if !session.subprotocol && config.attach && session.starting().await.is_err() {
        return;
    }
    let closing = format!("{} was not started", config.exec_id);
    process::failed(session, error, closing).await;
}

/// Carries the streams of a process until either side ends.
async fn attached(app: &App, session: &mut Session, id: &ExecId, stream: UnixStream) {
    let outcome = match session.starting().await {
        Ok(()) => relay::relay(app, id, session, stream, relay::Role::Starter).await,
        Err(gone) => gone.into(),
    };
    debug!(exec = %id, ?outcome, "an attached session ends");
    match outcome {
        Outcome::Exited(status) => process::ended(app, session, id, Some(status)).await,
        Outcome::LivesOn(status) => process::left(session, id, &status).await,
        Outcome::Broken => process::ended(app, session, id, None).await,
        Outcome::Gone => end_process(app, id).await,
        Outcome::Detached => process::detached(session, id).await,
        Outcome::BadFrame(problem) => {
            end_process(app, id).await;
            let code = close_code::BAD_CONFIG;
            session.close(code, MessageType::Error, problem, "").await;
        }
        Outcome::Stopping => process::stopping(session, id).await,
    }
}

/// Asks a process to end whose client has gone away. Interactive shells ignore SIGTERM, but a
/// terminal that is gone is announced by SIGHUP.
async fn end_process(app: &App, id: &ExecId) {
    relay::signal(app, id, SIGTERM).await;
    let exec = id.clone();
    let record = app
        .ask(move |engine| engine.exec_inspect(exec.as_str()))
        .await;
    if record.is_ok_and(|record| record.tty) {
        relay::signal(app, id, SIGHUP).await;
    }
}
