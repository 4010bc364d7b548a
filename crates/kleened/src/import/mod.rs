//! `kleened import`: takes the records of the original Kleene over, in place.
//!
//! The original keeps its data as we do: datasets `image/ID`, `container/ID` and `volumes/NAME` beneath
//! its root, and a database `metadata.sqlite` beside them. So no data is copied. Its records are read,
//! compared with the datasets that are there, and written to a database of ours, which takes the place
//! of the original's; that one is kept as `metadata.sqlite.original`.
//!
//! Without `--yes` all of it is only told. With it, nothing is changed before everything was checked,
//! and the records come all at once or not at all: by the rename of a finished file. What can't be taken
//! over stays where it is, dataset and all.

mod apply;
mod containers;
mod datasets;
mod files;
mod images;
mod later;
mod plan;
mod records;
mod report;
mod running;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kleene_command::{CommandError, Runner};
use kleene_doors::host::HostError;
use kleene_store::StoreError;
use kleene_store::original::{self, Owner};

use crate::config::{self, ConfigError, SocketConfig};
use crate::lock::LockError;
use datasets::Datasets;
use files::{Files, Scratch};
use plan::Plan;

/// What the user wants.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The original's configuration; `None`: where it is looked for.
    pub config: Option<PathBuf>,
    /// The original's root, in place of the configured one.
    pub from: Option<String>,
    /// Whether it is done, and not only told.
    pub yes: bool,
}

/// The machine that it is done on.
pub struct Machine<'a> {
    /// Starts its programs.
    pub runner: &'a dyn Runner,
    /// What its paths begin in: `/`.
    pub directory: &'a Path,
    /// Whether we are root.
    pub is_root: bool,
    /// Whether containers are jails.
    pub has_jails: bool,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not started by root.
    #[error("kleened import must be run by root: nobody else may read the original's records")]
    NotRoot,
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no configuration.
    #[error(
        "{} doesn't exist: name the original's configuration with --config, or its root with --from \
         zroot/kleene",
        config::DEFAULT_PATH
    )]
    NoConfig,
    /// The root is a directory.
    #[error("'{0}' is not a dataset: the original Kleene keeps everything in ZFS")]
    NotADataset(String),
    /// ZFS failed.
    #[error("{action} failed")]
    Zfs {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// A dataset has no mount point.
    #[error("the dataset '{0}' has no mount point: mount it with `zfs mount {0}`")]
    NotMounted(String),
    /// There are no records.
    #[error(
        "there are no records of the original Kleene: {} isn't there; if its root is another one, name \
         it with --from",
        .0.display()
    )]
    NoDatabase(PathBuf),
    /// The records have a form that isn't known.
    #[error(
        "'{}' has a form that isn't known, so that nothing can be taken over: it has the tables \
         {tables}; known is that of the original Kleene 0.1",
        file.display()
    )]
    Unknown {
        /// The database.
        file: PathBuf,
        /// What it has.
        tables: String,
    },
    /// Records can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody works with the data.
    #[error("{0}")]
    Running(String),
    /// Another daemon has the root.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Jails can't be listed.
    #[error(transparent)]
    Jails(#[from] HostError),
    /// There is a backup of something else.
    #[error(
        "'{}' is there and holds other records than the original has now: move it away first",
        .0.display()
    )]
    OtherBackup(PathBuf),
    /// A file can't be read or written.
    #[error("'{}' can't be {verb}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        verb: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The report can't be written.
    #[error("writing to standard output failed")]
    Report(#[from] io::Error),
}

/// Tells what would be taken over and, with [`Options::yes`], takes it over.
///
/// # Errors
/// When something is in the way. Then all is as it was, but for the backup, should it have been made.
pub fn run(
    machine: &Machine<'_>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), ImportError> {
    if !machine.is_root {
        return Err(ImportError::NotRoot);
    }
    let (root, sockets) = source(options)?;
    let datasets = Datasets::list(machine.runner, &root)?;
    let mut files = Files::of(machine, &root, datasets.mountpoint(&root)?);
    let scratch = Scratch::new()?;
    match owner(&mut files, &scratch)? {
        Owner::Ours => return report::done_already(out, &files),
        Owner::Original => {}
        Owner::Nobody => return Err(ImportError::NoDatabase(files.target)),
        Owner::Other(tables) => {
            return Err(ImportError::Unknown {
                file: files.source,
                tables,
            });
        }
    }
    // Whoever works with the records is gone before they are read, or this is only a look.
    let mut in_the_way = running::daemons(machine, &sockets);
    let lock = match (options.yes, in_the_way.first()) {
        (false, _) => None,
        (true, None) => Some(files.lock()?),
        (true, Some(what)) => return Err(ImportError::Running(what.clone())),
    };
    let original = original::read(&files.source, scratch.path())?;
    let plan = Plan::new(&original, &datasets);
    in_the_way.extend(running::containers(machine, &original)?);
    report::plan(out, &files, &original, &plan)?;
    if !options.yes {
        return report::only_told(out, &in_the_way);
    }
    if let Some(what) = in_the_way.into_iter().next() {
        return Err(ImportError::Running(what));
    }
    apply::apply(machine.runner, &files, &plan)?;
    drop(lock);
    report::done(out, &files, &plan)
}

/// The original's root, and where its daemon listens as far as that is known.
fn source(options: &Options) -> Result<(String, Vec<SocketConfig>), ImportError> {
    let loaded = match (&options.from, &options.config) {
        // The configuration needn't be one that we can read, then.
        (Some(_), None) => None,
        (_, config) => Some(config::load(config.as_deref())?),
    };
    let (root, sockets) = match (&options.from, loaded) {
        (Some(root), loaded) => {
            let sockets = loaded.map_or_else(
                || config::Config::default().sockets,
                |(config, _)| config.sockets,
            );
            (root.clone(), sockets)
        }
        (None, Some((config, Some(_)))) => (config.kleene_root, config.sockets),
        (None, _) => return Err(ImportError::NoConfig),
    };
    match root.is_empty() || root.starts_with(['/', '-']) {
        true => Err(ImportError::NotADataset(root)),
        false => Ok((root, sockets)),
    }
}

/// Whose the database is. The original looks for it beneath `/` and its root's name, wherever the
/// root is mounted.
fn owner(files: &mut Files, scratch: &Scratch) -> Result<Owner, ImportError> {
    let found = original::owner(&files.target, scratch.path())?;
    if found != Owner::Nobody || files.source == files.target {
        files.source.clone_from(&files.target);
        return Ok(found);
    }
    Ok(original::owner(&files.source, scratch.path())?)
}
