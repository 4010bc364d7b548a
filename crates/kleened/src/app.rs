//! What every request needs: the engine, threads to run it on, and word of the daemon's end.

use std::sync::Arc;
use std::time::Duration;

use kleene_api::SystemInfo;
use kleene_engine::{Engine, EngineError, Event};
use tokio::sync::{Semaphore, watch};

/// Operations that may be inside of the engine at once.
///
/// Each kind of work has threads of its own, so that none of them can take all: whatever hundreds of
/// slow operations wait for, questions are answered, and news of ended processes gets through.
pub const OPERATIONS: usize = 384;

/// Questions that may be inside of the engine at once: what is answered from records and without
/// waiting for anybody.
const QUESTIONS: usize = 64;

/// Transfers that may run at once. Each has a thread as long as its client takes.
const TRANSFERS: usize = 64;

/// Threads that the runtime should have for blocking work: those of requests, those of
/// [`crate::supervisor`]'s deferred calls, and some for news of ended processes, which wait for
/// nobody's permission.
pub const BLOCKING_THREADS: usize =
    OPERATIONS + QUESTIONS + TRANSFERS + crate::supervisor::DEFERRED + 64;

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
    /// How long a client may neither take nor send anything of an archive: a container that doesn't
    /// run is locked meanwhile.
    pub transfer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            config_frame: Duration::from_secs(30),
            ping: Duration::from_secs(10),
            close: Duration::from_secs(5),
            transfer: Duration::from_secs(300),
        }
    }
}

/// Shared by all requests.
pub struct App {
    engine: Arc<Engine>,
    operations: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    news: watch::Receiver<u64>,
    /// What the daemon is.
    pub info: SystemInfo,
    /// Time limits of sessions.
    pub timing: Timing,
    /// The daemon's end.
    pub stop: Stop,
    /// Sessions that are open.
    pub sessions: Activity,
    /// Requests that wait for a container.
    pub waiting: Activity,
}

impl App {
    /// An application over an engine that has been reconciled. `news` changes when there are new
    /// events.
    pub fn new(
        engine: Arc<Engine>,
        info: SystemInfo,
        timing: Timing,
        stop: Stop,
        news: watch::Receiver<u64>,
    ) -> Self {
        Self {
            engine,
            operations: Arc::new(Semaphore::new(OPERATIONS)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            news,
            info,
            timing,
            stop,
            sessions: Activity::default(),
            waiting: Activity::default(),
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
        self.run_within(&self.operations, work).await
    }

    /// As [`App::run`], for a question that is answered at once, from records: it is answered even
    /// when all operations are stuck.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.run_within(&self.questions, work).await
    }

    /// As [`App::run`], for work whose length its client decides, because it reads or writes a body:
    /// it keeps nobody else from working.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn transfer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.run_within(&self.transfers, work).await
    }

    /// As [`App::run`], for the end of a process. Operations wait for such news, so it waits for none
    /// of them.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn report<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        run(&self.engine, work).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let permit = Arc::clone(permits).acquire_owned().await;
        run(&self.engine, move |engine| {
            // The thread is taken until the work is done, however long somebody waits for it.
            let _permit = permit;
            work(engine)
        })
        .await
    }

    /// Changes when there are new events. The present ones count as seen.
    pub fn news(&self) -> watch::Receiver<u64> {
        let mut news = self.news.clone();
        news.mark_unchanged();
        news
    }

    /// Events after the one with this number, from memory.
    pub fn events_after(&self, sequence: u64) -> Vec<Event> {
        self.engine.events_after(sequence)
    }

    /// The number of the last event.
    pub fn last_event(&self) -> u64 {
        self.engine.last_event()
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

    /// Whether the daemon ends.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
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

    /// How much is going on.
    pub fn count(&self) -> usize {
        *self.0.borrow()
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
