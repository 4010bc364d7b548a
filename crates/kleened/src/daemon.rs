//! The daemon from its start to its end.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kleene_api::SystemInfo;
use kleene_engine::{Doors, Engine, EngineError};
use kleene_oci::OciDistribution;
use kleene_store::Store;
use kleene_userland::SystemUserland;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use kleened::app::{Activity, App, BLOCKING_THREADS, Stop, Timing};
use kleened::config::Place;
use kleened::http::{self, error::log};
use kleened::listen::{self, Listener};
use kleened::lock::{DaemonLock, LockError};
use kleened::server;
use kleened::supervisor::Watcher;

use crate::reload::Reload;
use crate::rooms;

/// How long requests that are being worked on may take when the daemon ends.
const LAST_REQUESTS: Duration = Duration::from_secs(15);

/// How long threads that don't have news yet may take after that.
const LAST_WORK: Duration = Duration::from_secs(1);

/// How long a thread without work stays.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Stack of a thread. The engine keeps what is large on the heap.
const THREAD_STACK: usize = 1 << 20;

/// Descriptors that the daemon asks for: every running process and client takes some.
const DESCRIPTORS: u64 = 65_536;

/// Runs until a signal asks for the end.
///
/// # Errors
/// When the daemon can't be started; the message is for the user.
pub fn run(reload: &Reload) -> Result<()> {
    let config = reload.running();
    if !rustix::process::geteuid().is_root() {
        bail!("kleened must be run by root: it mounts file systems and starts containers");
    }
    for note in &config.notes {
        info!("{note}");
    }
    raise_descriptor_limit();
    refuse_second(&config.kleene_root)?;
    let storage = kleene_storage::open(config.storage_driver, &config.kleene_root)?;
    let info = storage.info();
    let _lock = DaemonLock::take(&info.metadata)?;
    let listeners = config
        .sockets
        .iter()
        .map(|socket| listen::listen(socket, config.socket_group.as_deref()))
        .collect::<Result<Vec<Listener>, _>>()?;
    let host = rooms::host(config, &info.metadata)?;
    let doors = Doors {
        storage,
        host,
        userland: Arc::new(SystemUserland::new(info.metadata.join("downloads"))),
        distribution: Arc::new(OciDistribution::new(
            info.metadata.join("blobs"),
            (&config.registries).into(),
        )),
    };
    let store = Store::open(&info.database)?;
    let runtime = runtime().context("starting the runtime failed")?;
    let hangup = {
        // From here on SIGHUP waits until it is served, and doesn't end the daemon.
        let _inside = runtime.enter();
        signal(SignalKind::hangup()).context("handling SIGHUP failed")?
    };
    let (stop, stopped) = Stop::new();
    let watcher = Arc::new(Watcher::new(runtime.handle().clone(), stopped.clone()));
    let engine = Arc::new(Engine::new(doors, store, Arc::clone(&watcher) as _));
    watcher.report_to(&engine);
    reconcile(&engine)?;
    let system = SystemInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        storage_driver: info.driver.to_owned(),
        kleene_root: info.root,
        default_registry: config.registries.default.to_string(),
    };
    let news = watcher.news();
    let app = App::new(engine, system, Timing::default(), stopped, news);
    let reloading = reload_whenever(hangup, reload);
    runtime.block_on(async {
        tokio::select! {
            ended = serve(Arc::new(app), listeners, stop, watcher.calls()) => ended,
            never = reloading => match never {},
        }
    })?;
    runtime.shutdown_timeout(LAST_WORK);
    info!("kleened has stopped; running containers go on");
    Ok(())
}

/// Refuses to be the second daemon of a root. Storage has a lock of its own for directories, but
/// doesn't know who holds it; the lock that is taken later does.
fn refuse_second(kleene_root: &str) -> Result<(), LockError> {
    let metadata = Path::new(kleene_root).join("metadata");
    match metadata.is_absolute() && metadata.is_dir() {
        true => DaemonLock::take(&metadata).map(drop),
        false => Ok(()),
    }
}

/// One thread for connections: their work is short, and what blocks goes to threads of its own.
fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .thread_stack_size(THREAD_STACK)
        .build()
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(DESCRIPTORS, |max| max.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        if let Err(problem) = setrlimit(Resource::Nofile, raised) {
            debug!(%problem, "the limit of open files stays as it is");
        }
    }
}

/// Brings records and machine into agreement.
fn reconcile(engine: &Engine) -> Result<(), EngineError> {
    let result = engine.reconcile()?;
    info!(
        running = result.running,
        ended = result.ended,
        steps = result.steps,
        "records and machine agree"
    );
    for problem in result.problems {
        warn!("could not be put right: {problem}");
    }
    Ok(())
}

/// Serves until a signal asks for the end, and then until the last requests are answered.
async fn serve(
    app: Arc<App>,
    listeners: Vec<Listener>,
    stop: watch::Sender<bool>,
    calls: &Activity,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM failed")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT failed")?;
    let router = http::router(Arc::clone(&app));
    let mut servers = JoinSet::new();
    for listener in listeners {
        let address = listener.address.clone();
        warn_of_open_doors(&listener);
        let serving = server::serve(listener, router.clone(), app.stop.clone());
        servers.spawn(serving);
        info!("listening on {address}");
    }
    let starting = start_on_startup(Arc::clone(&app));
    tokio::spawn(starting);
    tokio::select! {
        () = either(&mut terminate, &mut interrupt) => {}
        failed = first_failure(&mut servers) => {
            error!(error = %failed, "a socket can't be listened on any more");
            return Err(failed);
        }
    }
    info!("stopping");
    stop.send_replace(true);
    let finished = async {
        while servers.join_next().await.is_some() {}
        app.sessions.idle().await;
        calls.idle().await;
    };
    tokio::select! {
        () = finished => {}
        () = tokio::time::sleep(LAST_REQUESTS) => warn!("not all requests were answered"),
        () = either(&mut terminate, &mut interrupt) => warn!("stopping at once"),
    }
    Ok(())
}

/// Reads the configuration again whenever a signal asks for it.
async fn reload_whenever(mut hangup: Signal, reload: &Reload) -> Infallible {
    loop {
        match hangup.recv().await {
            Some(()) => reload.again(),
            None => std::future::pending().await,
        }
    }
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// Waits until a server has failed, which none does as long as the daemon runs.
async fn first_failure(servers: &mut JoinSet<std::io::Result<()>>) -> anyhow::Error {
    loop {
        match servers.join_next().await {
            Some(Ok(Err(error))) => return error.into(),
            Some(Err(error)) => return error.into(),
            Some(Ok(Ok(()))) => {}
            None => std::future::pending().await,
        }
    }
}

/// Warns of TCP sockets that let anybody in.
fn warn_of_open_doors(listener: &Listener) {
    if let Place::Tcp(tcp) = &listener.address.place
        && listener.tls.is_none()
    {
        let who = match tcp.ip().is_loopback() {
            true => "every user of this machine",
            false => "everybody on the network",
        };
        warn!(
            "{}: {who} can become root through this socket: use https with tlsverify, or a Unix \
             socket",
            listener.address
        );
    }
}

/// Starts the containers that are to run whenever the daemon does.
async fn start_on_startup(app: Arc<App>) {
    let started = app.run(|engine| Ok(engine.start_on_startup())).await;
    for (container, result) in started.unwrap_or_default() {
        match result {
            Ok(()) => info!(%container, "started"),
            Err(problem) => {
                log(&problem);
                warn!(%container, %problem, "a container could not be started");
            }
        }
    }
}
