//! The rules: how containers, images and volumes are made, used and removed. No operating system in
//! here: the machine is reached through the doors of `kleene-doors`, the records through
//! `kleene-store`.
//!
//! Every method blocks until its work is done and durable. Several may run at once: those that touch
//! the same object wait for each other (`locks.rs`). An operation of several steps validates
//! everything first, then writes its journal entries, then acts; see `kleene_store`'s journal.

mod aside;
mod build;
mod cancel;
mod container;
mod end;
mod error;
mod events;
mod exec;
mod health;
mod hooks;
mod image;
mod journal;
mod later;
mod locks;
mod lookup;
mod names;
mod observe;
mod reconcile;
mod requests;
mod restart;
mod running;
mod start;
mod volume;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use kleene_doors::distribution::Distribution;
use kleene_doors::host::Host;
use kleene_doors::storage::Storage;
use kleene_doors::userland::Userland;
use kleene_store::Store;
use kleene_types::ExecId;

use crate::build::Builds;
use crate::events::Events;
use crate::image::blobs::BlobsInUse;
use crate::locks::Locks;
use crate::running::Running;

pub use build::{
    BuildContainer, BuildContext, BuildFailed, BuildOutput, Changes, DockerfileSource, NewBuild,
    PullPolicy, ReceivedContext, Secrets,
};
pub use cancel::Cancel;
pub use error::EngineError;
pub use image::{
    HistoryView, Identity, ImagePrune, ImagesPruned, Loaded, NewCommit, NewImport, NewPull, NewPush,
};
pub use reconcile::Reconciled;
pub use requests::{
    ContainerChanges, ContainerState, ContainerView, Done, Ended, Event, ExecStart, Exit, Health,
    HealthResult, HealthStatus, ImageSource, ImageView, Later, LimitChanges, ListOptions, LogView,
    NewContainer, NewExec, NewImage, StartedExec, StatsView, VolumeView,
};

/// The engine's ways to the machine.
#[derive(Clone)]
pub struct Doors {
    /// Datasets.
    pub storage: Arc<dyn Storage>,
    /// Processes and mounts.
    pub host: Arc<dyn Host>,
    /// Files of base images.
    pub userland: Arc<dyn Userland>,
    /// Images of registries and archives.
    pub distribution: Arc<dyn Distribution>,
}

/// Told of every process that runs.
pub trait Supervisor: Send + Sync {
    /// Reads `watch` in the background and calls [`Engine::exec_ended`] when it says that the
    /// process has ended, or breaks off.
    fn watch(&self, exec: ExecId, watch: UnixStream);

    /// Calls [`Engine::due`] after this time. A call that isn't wanted any more does no harm.
    fn call_later(&self, delay: Duration, call: Later);

    /// There are new events: see [`Engine::events_after`].
    fn happened(&self);
}

/// The engine.
pub struct Engine {
    storage: Arc<dyn Storage>,
    host: Arc<dyn Host>,
    userland: Arc<dyn Userland>,
    distribution: Arc<dyn Distribution>,
    store: Store,
    supervisor: Arc<dyn Supervisor>,
    locks: Locks,
    running: Running,
    events: Events,
    builds: Builds,
    blobs: BlobsInUse,
}

impl Engine {
    /// An engine over these doors and records. Call [`Engine::reconcile`] before anything else.
    pub fn new(doors: Doors, store: Store, supervisor: Arc<dyn Supervisor>) -> Self {
        Self {
            events: Events::open(&doors.storage.info().metadata),
            storage: doors.storage,
            host: doors.host,
            userland: doors.userland,
            distribution: doors.distribution,
            store,
            supervisor,
            locks: Locks::default(),
            running: Running::default(),
            builds: Builds::default(),
            blobs: BlobsInUse::default(),
        }
    }
}
