//! Keeps watch over the processes that run: one small task each, which waits for news of the end.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kleene_doors::frames::Frame;
use kleene_doors::host::ExitStatus;
use kleene_engine::{Engine, EngineError, Later, Supervisor};
use kleene_types::ExecId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, error, warn};

use crate::app::{self, Activity, Stop};
use crate::codec::FrameReader;
use crate::http::error::log;

/// Time until the end of a process is recorded again after that has failed; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest such time.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Health checks that may run at once. Each has a thread as long as its command takes.
const CHECKS: usize = 32;

/// Other deferred calls that may run at once.
const OTHERS: usize = 32;

/// Threads that deferred calls take at most.
pub const DEFERRED: usize = CHECKS + OTHERS;

/// Watches over processes on a runtime.
pub struct Watcher {
    runtime: Handle,
    engine: OnceLock<Weak<Engine>>,
    stop: Stop,
    /// Counts up when there are new events.
    events: watch::Sender<u64>,
    checks: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// Deferred calls that run.
    calls: Activity,
}

impl Watcher {
    /// A watcher whose tasks run on `runtime`. Give it its engine with [`Watcher::report_to`].
    pub fn new(runtime: Handle, stop: Stop) -> Self {
        Self {
            runtime,
            engine: OnceLock::new(),
            stop,
            events: watch::Sender::new(0),
            checks: Arc::new(Semaphore::new(CHECKS)),
            others: Arc::new(Semaphore::new(OTHERS)),
            calls: Activity::default(),
        }
    }

    /// Changes when there are new events.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// Deferred calls that run. When the daemon ends no further ones begin: what they were to do is
    /// in the engine's records, from which the next daemon takes it up.
    pub fn calls(&self) -> &Activity {
        &self.calls
    }

    fn permits(&self, call: &Later) -> &Arc<Semaphore> {
        match call {
            Later::CheckHealth { .. } => &self.checks,
            _ => &self.others,
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
        let (stop, calls) = (self.stop.clone(), self.calls.clone());
        let permits = Arc::clone(self.permits(&call));
        self.runtime.spawn(async move {
            let due = async {
                tokio::time::sleep(delay).await;
                permits.acquire_owned().await
            };
            let permit = tokio::select! {
                permit = due => permit,
                () = stop.wait() => return,
            };
            let _call = calls.enter();
            let (Some(engine), false) = (engine.upgrade(), stop.is_set()) else {
                return;
            };
            let what = format!("{call:?}");
            let done = app::run(&engine, move |engine| {
                let _permit = permit;
                engine.due(call)
            });
            if let Err(problem) = done.await {
                log(&problem);
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
