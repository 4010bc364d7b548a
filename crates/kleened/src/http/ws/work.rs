//! Sessions that have one long piece of work done and tell how far it has come: with the subprotocol
//! as `ProgressInfo`, without it as lines of text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use kleene_api::{MessageType, ProgressInfo, close_code};
use kleene_engine::{Cancel, Engine, EngineError};
use tokio::time::interval;

use super::session::{Gone, Session};
use crate::app::App;
use crate::http::error::log;

/// Time between two rounds of messages at least.
const PACE: Duration = Duration::from_millis(100);

/// What a piece of work tells on its way.
pub(super) type Tell<'a> = &'a mut dyn FnMut(ProgressInfo) -> ControlFlow<()>;

/// Has work done, tells how far it has come, and closes the session with what came of it: `done` is
/// the message, the work's answer its data; `failed` stands before what went wrong.
pub(super) async fn run(
    app: &App,
    mut session: Session,
    done: &str,
    failed: &str,
    work: impl FnOnce(&Engine, Tell<'_>) -> Result<String, EngineError> + Send + 'static,
) {
    if session.starting().await.is_err() {
        return;
    }
    match carry_out(app, &mut session, work).await {
        Ok(Ok(data)) => {
            let code = close_code::FINISHED;
            session.close(code, MessageType::Closing, done, data).await;
        }
        Ok(Err(error)) => tell_failure(&mut session, failed, &error).await,
        Err(Gone) => {}
    }
}

async fn tell_failure(session: &mut Session, what: &str, error: &EngineError) {
    log(error);
    let message = error.to_string();
    // The close reason is short, so the whole message goes ahead of it.
    let whole = match session.subprotocol {
        true => json(&ProgressInfo {
            step: "failed".to_owned(),
            done: 0,
            total: None,
            error: Some(message.clone()),
            id: None,
        }),
        false => format!("error: {message}\n"),
    };
    if session.text(whole).await.is_ok() {
        let message = format!("{what}: {message}");
        let code = close_code::FAILED;
        session.close(code, MessageType::Error, message, "").await;
    }
}

/// A client that goes away cancels the work, and so does the daemon's end.
async fn carry_out(
    app: &App,
    session: &mut Session,
    work: impl FnOnce(&Engine, Tell<'_>) -> Result<String, EngineError> + Send + 'static,
) -> Result<Result<String, EngineError>, Gone> {
    let cancel = Cancel::default();
    let board = Arc::new(Board::default());
    let (cancelled, told) = (cancel.clone(), Arc::clone(&board));
    let work = app.transfer(move |engine| {
        work(engine, &mut |info| {
            told.put(info);
            match cancelled.is_set() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    });
    let mut work = std::pin::pin!(work);
    let mut pace = interval(PACE);
    loop {
        let news = tokio::select! {
            biased;
            done = &mut work => {
                // What was told last belongs before the end.
                for text in board.news(session.subprotocol) {
                    session.text(text).await?;
                }
                return Ok(done);
            }
            () = gone(&mut session.source) => Err(Gone),
            () = app.stop.wait() => Err(Gone),
            _ = pace.tick() => Ok(board.news(session.subprotocol)),
        };
        let sent = match news {
            Ok(texts) => send(session, texts).await,
            Err(Gone) => Err(Gone),
        };
        if sent.is_err() {
            cancel.cancel();
            // What it has done is undone before the session counts as over.
            return match work.await {
                Err(EngineError::Cancelled) => Err(Gone),
                done => Ok(done),
            };
        }
    }
}

async fn send(session: &mut Session, texts: Vec<String>) -> Result<(), Gone> {
    for text in texts {
        session.text(text).await?;
    }
    Ok(())
}

/// Waits until the client has gone away.
pub(super) async fn gone(source: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = source.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

fn json(info: &ProgressInfo) -> String {
    serde_json::to_string(info).unwrap_or_default()
}

/// What was told last of each thing that is worked on, until it is passed on.
#[derive(Default)]
struct Board(Mutex<BTreeMap<Option<String>, Entry>>);

struct Entry {
    info: ProgressInfo,
    /// It hasn't been passed on.
    fresh: bool,
    /// The step that was passed on as a line.
    line: Option<String>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, info: ProgressInfo) {
        let mut entries = self.lock();
        let line = entries.remove(&info.id).and_then(|entry| entry.line);
        let entry = Entry {
            info: info.clone(),
            fresh: true,
            line,
        };
        entries.insert(info.id, entry);
    }

    /// What is to be passed on. Clients without the subprotocol print what comes: one line a step is
    /// enough.
    fn news(&self, subprotocol: bool) -> Vec<String> {
        let mut news = Vec::new();
        for (id, entry) in self.lock().iter_mut() {
            if !std::mem::take(&mut entry.fresh) {
                continue;
            }
            let step = &entry.info.step;
            if subprotocol {
                news.push(json(&entry.info));
            } else if entry.line.as_ref() != Some(step) {
                news.push(match id {
                    Some(id) => format!("{id}: {step}\n"),
                    None => format!("{step}\n"),
                });
                entry.line = Some(step.clone());
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: Option<&str>, step: &str, done: u64) -> ProgressInfo {
        ProgressInfo {
            step: step.to_owned(),
            done,
            total: None,
            error: None,
            id: id.map(str::to_owned),
        }
    }

    #[test]
    fn the_latest_is_told_once() {
        let board = Board::default();
        board.put(info(Some("a"), "downloading", 1));
        board.put(info(Some("b"), "downloading", 1));
        board.put(info(Some("a"), "downloading", 2));
        assert_eq!(board.news(false), ["a: downloading\n", "b: downloading\n"]);
        assert!(board.news(false).is_empty());
        board.put(info(Some("a"), "downloading", 3));
        assert!(
            board.news(false).is_empty(),
            "nothing that a line could tell"
        );
        board.put(info(Some("a"), "unpacking", 0));
        board.put(info(None, "done", 0));
        let news = board.news(true);
        assert_eq!(news.len(), 2);
        assert!(news[0].contains("\"done\"") && news[1].contains("unpacking"));
    }
}
