//! `/exec/attach`: joins the streams of a process that runs. The process doesn't notice who comes and
//! goes.

use std::sync::Arc;

use kleene_api::{ExecAttachConfig, MessageType, close_code};
use kleene_doors::frames::Frame;
use kleene_engine::{Engine, EngineError, StartedExec};
use kleene_types::ExecId;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tracing::debug;

use super::process::{self, Process};
use super::relay::{self, Outcome, Role};
use super::session::Session;
use crate::app::App;
use crate::http::convert;

pub(super) async fn run(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ExecAttachConfig>().await else {
        return;
    };
    let target = match Target::new(&config) {
        Ok(target) => target,
        Err(problem) => {
            let code = close_code::BAD_CONFIG;
            return session.close(code, MessageType::Error, problem, "").await;
        }
    };
    let attached = app.ask(move |engine| target.attach(engine)).await;
    match attached.and_then(Process::new) {
        Ok(Process {
            id,
            stream: Some(stream),
        }) => carry(&app, &mut session, &config, &id, stream).await,
        Ok(Process { id, stream: None }) => {
            let error = EngineError::Conflict(format!("{id} doesn't run"));
            failed(&mut session, &error).await;
        }
        Err(error) => failed(&mut session, &error).await,
    }
}

/// What is attached to.
enum Target {
    Container(String),
    Exec(String),
}

impl Target {
    fn new(config: &ExecAttachConfig) -> Result<Self, &'static str> {
        match (&config.container_id, &config.exec_id) {
            (Some(container), None) => Ok(Self::Container(container.clone())),
            (None, Some(exec)) => Ok(Self::Exec(exec.clone())),
            _ => Err("give either 'container_id' or 'exec_id'"),
        }
    }

    fn attach(&self, engine: &Engine) -> Result<StartedExec, EngineError> {
        match self {
            Self::Container(reference) => engine.container_attach(reference),
            Self::Exec(reference) => engine.exec_attach(reference),
        }
    }
}

async fn failed(session: &mut Session, error: &EngineError) {
    if session.subprotocol || session.starting().await.is_ok() {
        process::failed(session, error, "nothing was attached to".to_owned()).await;
    }
}

/// Carries the streams of a process until either side ends.
async fn carry(
    app: &App,
    session: &mut Session,
    config: &ExecAttachConfig,
    id: &ExecId,
    mut stream: UnixStream,
) {
    let outcome = match session.starting().await {
        Ok(()) => {
            if let Some(window) = config.window {
                let frame = Frame::Resize(convert::window(window));
                // A stream that is broken is noticed by the relay.
                drop(stream.write_all(&frame.encode()).await);
            }
            let role = Role::Guest {
                stdin: config.stdin,
            };
            relay::relay(app, id, session, stream, role).await
        }
        Err(gone) => gone.into(),
    };
    debug!(exec = %id, ?outcome, "an attached session ends");
    match outcome {
        Outcome::Exited(status) => process::ended(app, session, id, Some(status)).await,
        Outcome::LivesOn(status) => process::left(session, id, &status).await,
        Outcome::Broken => process::ended(app, session, id, None).await,
        Outcome::Gone => {}
        Outcome::Detached => process::detached(session, id).await,
        Outcome::BadFrame(problem) => {
            let code = close_code::BAD_CONFIG;
            session.close(code, MessageType::Error, problem, "").await;
        }
        Outcome::Stopping => process::stopping(session, id).await,
    }
}
