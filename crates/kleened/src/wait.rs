//! Waiting for containers. Nobody who waits holds a thread, or asks again and again: events tell when
//! it is time to look.

use kleene_engine::{ContainerState, ContainerView, EngineError, Event, Exit};
use kleene_types::ContainerId;

use crate::app::App;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It doesn't run, nor waits for its restart.
    NotRunning,
    /// The present run has ended, or the next one when it doesn't run.
    NextExit,
    /// It has been removed.
    Removed,
}

impl Condition {
    /// Their words.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("not-running", Self::NotRunning),
        ("next-exit", Self::NextExit),
        ("removed", Self::Removed),
    ];

    /// The condition of a word.
    pub fn parse(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, condition)| *condition)
    }
}

/// Why there is nothing to wait for any more.
#[derive(Debug)]
pub enum WaitError {
    /// The container can't be looked at.
    Engine(EngineError),
    /// It was removed, and never ended.
    Removed,
    /// The daemon ends.
    Stopping,
}

/// Waits for a container.
///
/// # Errors
/// When there is no such container, or the daemon ends.
pub async fn container(
    app: &App,
    reference: &str,
    condition: Condition,
) -> Result<Exit, WaitError> {
    // From here on, nothing that happens is missed.
    let mut news = app.news();
    let mut seen = app.last_event();
    let reference = reference.to_owned();
    let view = app.ask(move |engine| engine.container_inspect(&reference));
    let view = view.await.map_err(WaitError::Engine)?;
    let id = view.record.id.clone();
    let mut last = last_exit(&view);
    if condition == Condition::NotRunning
        && let Some(exit) = settled(&view)
    {
        return Ok(exit);
    }
    let _waiting = app.waiting.enter();
    loop {
        let changed = tokio::select! {
            changed = news.changed() => changed,
            () = app.stop.wait() => return Err(WaitError::Stopping),
        };
        if changed.is_err() {
            return Err(WaitError::Stopping);
        }
        let events = app.events_after(seen);
        let Some(newest) = events.last() else {
            continue;
        };
        // More may have happened than is remembered.
        let gap = events.first().is_some_and(|e| e.sequence > seen + 1);
        seen = newest.sequence;
        let mut concerned = gap;
        for event in events.iter().filter(|event| is_about(event, &id)) {
            concerned = true;
            let Some(exit) = exit_of(event, &id) else {
                continue;
            };
            if condition == Condition::NextExit {
                return Ok(exit);
            }
            last = Some(exit);
        }
        if !concerned {
            continue;
        }
        let look = id.clone();
        let view = app.ask(move |engine| engine.container_inspect(look.as_str()));
        match view.await {
            Ok(view) if condition == Condition::NotRunning => {
                if let Some(exit) = settled(&view) {
                    return Ok(exit);
                }
            }
            Ok(view) => last = last_exit(&view).or(last),
            // One that is waited for until its next exit has none any more.
            Err(EngineError::ContainerNotFound(_)) if condition != Condition::NextExit => {
                return last.ok_or(WaitError::Removed);
            }
            Err(EngineError::ContainerNotFound(_)) => return Err(WaitError::Removed),
            Err(error) => return Err(WaitError::Engine(error)),
        }
    }
}

fn is_about(event: &Event, container: &ContainerId) -> bool {
    event.kind == "container" && event.id == container.as_str()
}

/// How a container ended, if that is what an event tells.
fn exit_of(event: &Event, container: &ContainerId) -> Option<Exit> {
    if event.action != "die" {
        return None;
    }
    let attribute = |name| event.attributes.get(name).map(String::as_str);
    Some(Exit {
        id: container.clone(),
        exit_code: attribute("exit_code")?.parse().ok()?,
        out_of_memory: attribute("out_of_memory") == Some("true"),
    })
}

/// How a container's last run ended, unless that goes on. One that never ran ended well.
fn last_exit(view: &ContainerView) -> Option<Exit> {
    let id = view.record.id.clone();
    let Some(run) = &view.record.last_run else {
        return Some(Exit {
            id,
            exit_code: 0,
            out_of_memory: false,
        });
    };
    run.ended.map(|(_, exit_code)| Exit {
        id,
        exit_code,
        out_of_memory: run.out_of_memory,
    })
}

/// The same, if nothing is going to happen to the container by itself.
fn settled(view: &ContainerView) -> Option<Exit> {
    match view.state {
        ContainerState::Created | ContainerState::Exited => last_exit(view),
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => None,
    }
}
