//! Keeps watch over the processes that run: one small task each, which waits for news of the end.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kleene_doors::frames::Frame;
use kleene_doors::host::ExitStatus;
use kleene_engine::{Engine, EngineError, Later, Supervisor};
use kleene_types::ExecId;
use tokio::runtime::Handle;
use tracing::{debug, error, warn};

use crate::app;
use crate::codec::FrameReader;

/// Time until the end of a process is recorded again after that has failed; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest such time.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Watches over processes on a runtime.
pub struct Watcher {
    runtime: Handle,
    engine: OnceLock<Weak<Engine>>,
    /// Counts up when there are new events.
    events: tokio::sync::watch::Sender<u64>,
}

impl Watcher {
    /// A watcher whose tasks run on `runtime`. Give it its engine with [`Watcher::report_to`].
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            engine: OnceLock::new(),
            events: tokio::sync::watch::Sender::new(0),
        }
    }

    /// Reports ends to this engine, once and for all.
    pub fn report_to(&self, engine: &Arc<Engine>) {
        self.engine.get_or_init(|| Arc::downgrade(engine));
    }
}

impl Supervisor for Watcher {
    fn watch(&self, exec: ExecId, watch: UnixStream) {
        let Some(engine) = self.engine.get().cloned() else {
            error!(%exec, "nobody is there to hear of the end of a process");
            return;
        };
        self.runtime.spawn(async move {
            let status = wait(&exec, watch).await;
            debug!(%exec, ?status, "a process has ended");
            report(&engine, &exec, status).await;
        });
    }

    fn call_later(&self, delay: Duration, call: Later) {
        let Some(engine) = self.engine.get().cloned() else {
            return;
        };
        self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            let Some(engine) = engine.upgrade() else {
                return;
            };
            let what = format!("{call:?}");
            if let Err(problem) = app::run(&engine, move |engine| engine.due(call)).await {
                warn!(%problem, "{what}");
            }
        });
    }

    fn happened(&self) {
        self.events.send_modify(|count| *count += 1);
    }
}

/// Waits for the end of a process; `None` when its watch breaks off without telling how it ended.
async fn wait(exec: &ExecId, watch: UnixStream) -> Option<ExitStatus> {
    let stream = watch
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(watch));
    let stream = match stream {
        Ok(stream) => stream,
        Err(problem) => {
            error!(%exec, %problem, "a process can't be watched");
            return None;
        }
    };
    let mut frames = FrameReader::new(stream);
    loop {
        match frames.next().await {
            Ok(Some(Frame::Exited(status))) => return Some(status),
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(problem) => {
                warn!(%exec, %problem, "the watch over a process broke off");
                return None;
            }
        }
    }
}

/// Reports an end until it is recorded: an end that nobody knows of leaves a container that seems to
/// run for ever.
async fn report(engine: &Weak<Engine>, exec: &ExecId, status: Option<ExitStatus>) {
    let mut pause = FIRST_RETRY;
    while let Some(engine) = engine.upgrade() {
        let (id, status) = (exec.clone(), status.clone());
        let problem = match app::run(&engine, move |engine| engine.exec_ended(&id, status)).await {
            Ok(_) => return,
            Err(problem) => problem,
        };
        drop(engine);
        if matches!(problem, EngineError::Conflict(_)) {
            // Its monitor lives but doesn't talk any more.
            error!(%exec, %problem, "the watch over a running process is lost");
            return;
        }
        error!(%exec, %problem, "the end of a process can't be recorded; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}
