//! What every request needs: the engine, threads to run it on, and word of the daemon's end.

use std::sync::Arc;
use std::time::Duration;

use kleene_api::SystemInfo;
use kleene_engine::{Engine, EngineError};
use tokio::sync::{Semaphore, watch};

/// Requests that may be inside of the engine at once. The blocking pool ([`BLOCKING_THREADS`]) has
/// more threads than this, so that news of ended processes never queues behind requests that wait
/// for just that news.
const REQUESTS: usize = 448;

/// Threads that the runtime should have for blocking work.
pub const BLOCKING_THREADS: usize = 512;

/// Time limits of sessions.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a client may take to send its configuration frame.
    pub config_frame: Duration,
    /// How often an attached client is pinged: writing to a client that has gone away is what shows
    /// that it has, when it neither says goodbye nor is being read from.
    pub ping: Duration,
    /// How long a client may take to answer a close frame.
    pub close: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            config_frame: Duration::from_secs(30),
            ping: Duration::from_secs(10),
            close: Duration::from_secs(5),
        }
    }
}

/// Shared by all requests.
pub struct App {
    engine: Arc<Engine>,
    requests: Semaphore,
    /// What the daemon is.
    pub info: SystemInfo,
    /// Time limits of sessions.
    pub timing: Timing,
    /// The daemon's end.
    pub stop: Stop,
    /// Sessions that are open.
    pub sessions: Activity,
}

impl App {
    /// An application over an engine that has been reconciled.
    pub fn new(engine: Arc<Engine>, info: SystemInfo, timing: Timing, stop: Stop) -> Self {
        Self {
            engine,
            requests: Semaphore::new(REQUESTS),
            info,
            timing,
            stop,
            sessions: Activity::default(),
        }
    }

    /// Runs a request's work with the engine, which blocks, on a thread of its own. The work is done
    /// to its end even when nobody waits for it any more.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let _permit = self.requests.acquire().await;
        run(&self.engine, work).await
    }
}

/// Runs work with the engine, which blocks, on a thread of its own.
///
/// # Errors
/// Those of the work.
pub async fn run<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let engine = Arc::clone(engine);
    let done = tokio::task::spawn_blocking(move || work(&engine)).await;
    done.unwrap_or_else(|panic| {
        Err(EngineError::Internal {
            context: "the daemon failed while it worked on this: see its log".to_owned(),
            source: Box::new(panic),
        })
    })
}

/// Tells the parts of the daemon that it ends.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A pair: sending `true` tells everyone that holds the other half.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the daemon ends.
    pub async fn wait(&self) {
        // The sender only goes away with the daemon.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}

/// Counts what is going on, so that its end can be awaited.
#[derive(Debug, Clone)]
pub struct Activity(Arc<watch::Sender<usize>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(watch::channel(0).0))
    }
}

impl Activity {
    /// Counts one more until the guard is dropped.
    pub fn enter(&self) -> ActivityGuard {
        self.0.send_modify(|count| *count += 1);
        ActivityGuard(self.clone())
    }

    /// Waits until nothing is going on.
    pub async fn idle(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Something that is going on.
#[derive(Debug)]
pub struct ActivityGuard(Activity);

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}
