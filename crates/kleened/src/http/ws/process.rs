//! What the sessions that carry a process's streams have in common: how they begin, and what they say
//! at the end.

use axum::extract::ws::Message;
use futures_util::SinkExt;
use kleene_api::{Channel, ExitInfo, MessageType, close_code};
use kleene_doors::host::ExitStatus;
use kleene_engine::{EngineError, StartedExec};
use kleene_types::ExecId;
use tokio::net::UnixStream;
use tracing::warn;

use super::session::Session;
use crate::app::App;
use crate::http::error::log;

/// Exit code of a process that was not started for reasons of ours.
const NOT_STARTED: i32 = 125;

/// A process whose session begins.
pub(super) struct Process {
    pub id: ExecId,
    /// Its streams, when they were asked for.
    pub stream: Option<UnixStream>,
}

impl Process {
    /// Takes an engine's streams, which block, over into the runtime.
    pub(super) fn new(started: StartedExec) -> Result<Self, EngineError> {
        let StartedExec { id, attached } = started;
        let stream = attached.map(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        match stream.transpose() {
            Ok(stream) => Ok(Self { id, stream }),
            Err(error) => Err(EngineError::Internal {
                context: format!("{id} runs, but its streams can't be reached"),
                source: Box::new(error),
            }),
        }
    }
}

/// Tells why there are no streams, and closes the session.
pub(super) async fn failed(session: &mut Session, error: &EngineError, closing: String) {
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
        if session.send(exit_frame(&exit)).await.is_err() {
            return;
        }
    }
    if session.text(format!("error: {message}")).await.is_ok() {
        let code = close_code::FAILED;
        session.close(code, MessageType::Error, closing, "").await;
    }
}

fn exit_frame(exit: &ExitInfo) -> Message {
    let json = serde_json::to_vec(exit).unwrap_or_default();
    Message::binary(Channel::Exit.frame(&json))
}

/// The end of a process: it is recorded before the client hears of it, so that whatever the client
/// does next finds the container stopped.
pub(super) async fn ended(
    app: &App,
    session: &mut Session,
    id: &ExecId,
    status: Option<ExitStatus>,
) {
    let exec = id.clone();
    let seen_out_of_memory = status.as_ref().is_some_and(|status| status.out_of_memory);
    let ended = app
        .report(move |engine| engine.exec_ended(&exec, status))
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
    let exit = ExitInfo {
        exit_code: ended.exit_code,
        container_stopped: ended.container_stopped,
        error: None,
        out_of_memory: ended.out_of_memory || seen_out_of_memory,
    };
    finish(session, id, &exit).await;
}

/// The end of a process whose container goes on: the container's end is recorded when it comes.
pub(super) async fn left(session: &mut Session, id: &ExecId, status: &ExitStatus) {
    let exit = ExitInfo {
        exit_code: status.code,
        container_stopped: false,
        error: None,
        out_of_memory: status.out_of_memory,
    };
    finish(session, id, &exit).await;
}

async fn finish(session: &mut Session, id: &ExecId, exit: &ExitInfo) {
    // It goes with the close frame.
    if session.subprotocol && session.sink.feed(exit_frame(exit)).await.is_err() {
        return;
    }
    let (code, message) = (close_code::FINISHED, farewell(id, exit));
    session.close(code, MessageType::Closing, message, "").await;
}

/// The closing message of a process that has ended. A close reason has no room for more than three
/// letters behind the longer sentence; clients that show more of it go by [`ExitInfo`].
fn farewell(id: &ExecId, exit: &ExitInfo) -> String {
    let code = exit.exit_code;
    match (exit.container_stopped, exit.out_of_memory) {
        (true, true) => {
            format!("executable {id} and its container exited with exit-code {code} (OOM)")
        }
        (true, false) => format!("executable {id} and its container exited with exit-code {code}"),
        (false, true) => format!("{id} has exited with exit-code {code} (out of memory)"),
        (false, false) => format!("{id} has exited with exit-code {code}"),
    }
}

/// Closes the session of a client that goes away while the process goes on.
pub(super) async fn detached(session: &mut Session, id: &ExecId) {
    let (code, message) = (close_code::DETACHED, format!("detached from {id}"));
    session.close(code, MessageType::Closing, message, "").await;
}

/// Closes a session because the daemon ends.
pub(super) async fn stopping(session: &mut Session, id: &ExecId) {
    let (code, message) = (
        close_code::FAILED,
        format!("kleened is stopping; {id} goes on without it"),
    );
    session.close(code, MessageType::Error, message, "").await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_api::WebSocketMessage;

    #[test]
    fn farewells_fit_into_a_close_reason() {
        let id: ExecId = "0123456789ab".parse().unwrap();
        for (container_stopped, out_of_memory, wanted) in [
            (
                true,
                true,
                "executable 0123456789ab and its container exited with exit-code 137 (OOM)",
            ),
            (
                true,
                false,
                "executable 0123456789ab and its container exited with exit-code 137",
            ),
            (
                false,
                true,
                "0123456789ab has exited with exit-code 137 (out of memory)",
            ),
            (false, false, "0123456789ab has exited with exit-code 137"),
        ] {
            let exit = ExitInfo {
                exit_code: 137,
                container_stopped,
                error: None,
                out_of_memory,
            };
            let message = WebSocketMessage {
                msg_type: MessageType::Closing,
                message: farewell(&id, &exit),
                data: String::new(),
            };
            let reason = message.to_close_reason();
            let parsed: WebSocketMessage = serde_json::from_str(&reason).unwrap();
            assert_eq!(parsed.message, wanted);
        }
    }
}
