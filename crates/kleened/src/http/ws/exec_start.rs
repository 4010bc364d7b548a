//! `/exec/start`: starts a process, and carries its streams.

use std::sync::Arc;

use axum::extract::ws::Message;
use kleene_api::{Channel, ExecStartConfig, ExitInfo, MessageType, close_code};
use kleene_doors::host::ExitStatus;
use kleene_engine::{EngineError, StartedExec};
use kleene_types::ExecId;
use tracing::{debug, warn};

use super::relay::{self, Outcome};
use super::session::Session;
use crate::app::App;
use crate::http::convert;
use crate::http::error::log;

/// POSIX gives these two the same numbers everywhere.
const SIGHUP: i32 = 1;
const SIGTERM: i32 = 15;

/// Exit code of a process that was not started for reasons of ours.
const NOT_STARTED: i32 = 125;

pub(super) async fn run(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ExecStartConfig>().await else {
        return;
    };
    let (reference, start) = (config.exec_id.clone(), convert::exec_start(&config));
    let started = app.run(move |engine| {
        let StartedExec { id, attached } = engine.exec_start(&reference, start)?;
        // The engine's streams block.
        if let Some(stream) = &attached {
            stream
                .set_nonblocking(true)
                .map_err(|error| lost_stream(&id, error))?;
        }
        Ok((id, attached))
    });
    match started.await {
        Ok((id, Some(stream))) => match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => attached(&app, &mut session, &id, stream).await,
            Err(error) => failed(&mut session, &config, &lost_stream(&id, error)).await,
        },
        Ok((id, None)) => {
            let message = format!("{id} was started detached");
            let code = close_code::DETACHED;
            session.close(code, MessageType::Closing, message, "").await;
        }
        Err(error) => failed(&mut session, &config, &error).await,
    }
}

fn lost_stream(id: &ExecId, error: std::io::Error) -> EngineError {
    EngineError::Internal {
        context: format!("{id} runs, but its streams can't be reached"),
        source: Box::new(error),
    }
}

/// Tells why a process was not started. Its container stays for inspection.
async fn failed(session: &mut Session, config: &ExecStartConfig, error: &EngineError) {
    log(error);
    let message = error.to_string();
    if session.subprotocol {
        let exit_code = match error {
            EngineError::Start(failure) => failure.code,
            _ => NOT_STARTED,
        };
        let exit = ExitInfo {
            exit_code,
            container_stopped: false,
            error: Some(message.clone()),
            out_of_memory: false,
        };
        let frame = exit_frame(&exit);
        if session.send(frame).await.is_err() {
            return;
        }
    } else if config.attach && session.starting().await.is_err() {
        // Existing clients take whatever comes first for the opening message.
        return;
    }
    if session.text(format!("error: {message}")).await.is_ok() {
        let message = format!("{} was not started", config.exec_id);
        let code = close_code::FAILED;
        session.close(code, MessageType::Error, message, "").await;
    }
}

fn exit_frame(exit: &ExitInfo) -> Message {
    let json = serde_json::to_vec(exit).unwrap_or_default();
    Message::binary(Channel::Exit.frame(&json))
}

/// Carries the streams of a process until either side ends.
async fn attached(app: &App, session: &mut Session, id: &ExecId, stream: tokio::net::UnixStream) {
    let outcome = match session.starting().await {
        Ok(()) => relay::relay(app, id, session, stream).await,
        Err(gone) => gone.into(),
    };
    debug!(exec = %id, ?outcome, "an attached session ends");
    match outcome {
        Outcome::Exited(status) => ended(app, session, id, Some(status)).await,
        Outcome::Broken => ended(app, session, id, None).await,
        Outcome::Gone => end_process(app, id).await,
        Outcome::Detached => {
            let (code, message) = (close_code::DETACHED, format!("detached from {id}"));
            session.close(code, MessageType::Closing, message, "").await;
        }
        Outcome::BadFrame(problem) => {
            end_process(app, id).await;
            let code = close_code::BAD_CONFIG;
            session.close(code, MessageType::Error, problem, "").await;
        }
        Outcome::Stopping => {
            let message = format!("kleened is stopping; {id} goes on without it");
            let code = close_code::FAILED;
            session.close(code, MessageType::Error, message, "").await;
        }
    }
}

/// Asks a process to end whose client has gone away. Interactive shells ignore SIGTERM, but a
/// terminal that is gone is announced by SIGHUP.
async fn end_process(app: &App, id: &ExecId) {
    relay::signal(app, id, SIGTERM).await;
    let exec = id.clone();
    let record = app
        .run(move |engine| engine.exec_inspect(exec.as_str()))
        .await;
    if record.is_ok_and(|record| record.tty) {
        relay::signal(app, id, SIGHUP).await;
    }
}

/// The end of a process: it is recorded before the client hears of it, so that whatever the client
/// does next finds the container stopped.
async fn ended(app: &App, session: &mut Session, id: &ExecId, status: Option<ExitStatus>) {
    let exec = id.clone();
    let ended = app
        .run(move |engine| engine.exec_ended(&exec, status))
        .await;
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            log(&error);
            warn!(exec = %id, %error, "the end of a process can't be recorded");
            let (code, message) = (close_code::FAILED, error.to_string());
            return session.close(code, MessageType::Error, message, "").await;
        }
    };
    if session.subprotocol {
        let exit = ExitInfo {
            exit_code: ended.exit_code,
            container_stopped: ended.container_stopped,
            error: None,
            out_of_memory: ended.out_of_memory,
        };
        let frame = exit_frame(&exit);
        if session.send(frame).await.is_err() {
            return;
        }
    }
    let code = ended.exit_code;
    let message = match ended.container_stopped {
        true => format!("executable {id} and its container exited with exit-code {code}"),
        false => format!("{id} has exited with exit-code {code}"),
    };
    let code = close_code::FINISHED;
    session.close(code, MessageType::Closing, message, "").await;
}
