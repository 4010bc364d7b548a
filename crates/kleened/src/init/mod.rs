//! `kleened init`: makes a machine ready for the daemon, as far as that isn't done yet.
//!
//! Each thing has a line of its own in the report, which begins with `there` (nothing to do), `done`,
//! `would` (with `--dry-run`), `skipped`, `note` or `warning`. What the chosen set-up can't do without
//! is an error; the rest is a warning, so that a kernel without modules or a system without its rc
//! scripts gets as far as it can. Doing it again changes nothing.
//!
//! Programs are started through a [`Runner`], and files lie beneath [`Machine::directory`]: the tests
//! are a FreeBSD made of answers.

mod files;
mod freebsd;
mod report;
mod root;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kleene_command::{CommandError, Runner};
use kleene_doors::host::HostError;
use kleene_doors::storage::StorageError;

use crate::config::{self, ConfigError, Defaults};
use files::{Written, write_new};
use report::Report;

/// The configuration that is written where there is none. It names a Kleene root in one line.
pub const CONFIG: &str = include_str!("../../../../packaging/freebsd/config.yaml.sample");

/// The line of [`CONFIG`] that the chosen Kleene root takes the place of.
const ROOT_LINE: &str = "kleene_root: zroot/kleene\n";

/// The first release of FreeBSD that has all that is needed.
const FREEBSD: u32 = 14;

/// What the user wants.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The Kleene root; `None`: one is chosen.
    pub root: Option<String>,
    /// The configuration file; `None`: where the system has it.
    pub config: Option<PathBuf>,
    /// Whether the kernel is to enforce limits from its next start on.
    pub racct: bool,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
}

/// The machine that is made ready.
pub struct Machine<'a> {
    /// Its system and that one's release, as uname(3) names them.
    pub system: (String, String),
    /// Starts its programs.
    pub runner: &'a dyn Runner,
    /// What its paths begin in: `/`.
    pub directory: &'a Path,
    /// Whether we are root.
    pub is_root: bool,
    /// Opens, and so makes, a Kleene root.
    pub open: &'a dyn Fn(&str) -> Result<(), StorageError>,
}

impl Machine<'_> {
    /// Where an absolute path of the machine is.
    fn path(&self, absolute: &str) -> PathBuf {
        self.directory.join(absolute.trim_start_matches('/'))
    }
}

/// Why the machine isn't ready.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Not started by root.
    #[error("kleened init must be run by root; with --dry-run anybody may")]
    NotRoot,
    /// Not a system that Kleene runs on.
    #[error("'{0}' is not a system that kleened runs on: it runs on FreeBSD and Linux")]
    System(String),
    /// A release that lacks something.
    #[error("FreeBSD {0} is too old: kleened needs FreeBSD {FREEBSD} or newer")]
    TooOld(String),
    /// Something that only FreeBSD has was asked for.
    #[error("{0} is not on Linux: leave it out")]
    NotOnLinux(&'static str),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration says something else than the command line.
    #[error(
        "{}: kleene_root is '{configured}', not '{wanted}': change it there, or leave out --root",
        file.display()
    )]
    OtherRoot {
        /// The configuration file.
        file: PathBuf,
        /// What it says.
        configured: String,
        /// What `--root` says.
        wanted: String,
    },
    /// The configuration can't name this root.
    #[error(
        "--root: {0:?} is neither a ZFS dataset (zroot/kleene) nor an absolute directory that a \
         configuration can name"
    )]
    Root(String),
    /// Several pools.
    #[error(
        "there are several ZFS pools ({}), and none is named zroot: choose one with --root \
         POOL/kleene",
        .0.join(", ")
    )]
    WhichPool(Vec<String>),
    /// A program failed.
    #[error("{action} failed")]
    Command {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// The kernel lacks something that is needed.
    #[error("the kernel module {module} is needed for {purpose}")]
    Module {
        /// The module.
        module: &'static str,
        /// What for.
        purpose: &'static str,
        /// Why it can't be loaded.
        #[source]
        source: HostError,
    },
    /// The Kleene root can't be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
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

/// The systems that can be made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    FreeBsd,
    Linux,
}

/// Makes the machine ready, and tells what was done.
///
/// # Errors
/// At the first thing that is needed and can't be done. What was done before stays; doing it again
/// goes on from there.
pub fn run(machine: &Machine<'_>, options: &Options, out: &mut dyn Write) -> Result<(), InitError> {
    if !machine.is_root && !options.dry_run {
        return Err(InitError::NotRoot);
    }
    let mut report = Report::new(out, options.dry_run);
    let system = system(machine, &mut report)?;
    if system == System::Linux && options.racct {
        return Err(InitError::NotOnLinux("--racct"));
    }
    let defaults = match system {
        System::FreeBsd => Defaults::FREEBSD,
        System::Linux => Defaults::LINUX,
    };
    let root = configuration(machine, options, defaults, &mut report)?;
    match system {
        System::FreeBsd => freebsd::prepare(machine, options, &root, &mut report)?,
        System::Linux => report.skipped(
            "kernel modules, rc.conf, newsyslog and racct: those are FreeBSD's, not on Linux",
        )?,
    }
    root::ensure(machine, &root, &mut report)?;
    if system == System::FreeBsd {
        report.note("rules for devices: none are needed, the daemon loads its own")?;
        report.note("start the daemon with `service kleened start`")?;
    }
    Ok(())
}

/// The system that runs here, if it can be used.
fn system(machine: &Machine<'_>, report: &mut Report<'_>) -> Result<System, InitError> {
    let (name, release) = &machine.system;
    let system = match name.as_str() {
        "FreeBSD" => {
            let major = release.split('.').next().unwrap_or("").parse::<u32>();
            if !major.is_ok_and(|major| major >= FREEBSD) {
                return Err(InitError::TooOld(release.clone()));
            }
            System::FreeBsd
        }
        "Linux" => System::Linux,
        other => return Err(InitError::System(other.to_owned())),
    };
    report.there(format_args!("{name} {release}"))?;
    Ok(system)
}

/// Writes the configuration where there is none, and tells the Kleene root.
fn configuration(
    machine: &Machine<'_>,
    options: &Options,
    defaults: Defaults,
    report: &mut Report<'_>,
) -> Result<String, InitError> {
    let file = match &options.config {
        Some(file) => file.clone(),
        None => machine.path(defaults.file),
    };
    if file.exists() {
        let (config, _) = config::load(Some(&file))?;
        let configured = config.kleene_root;
        if let Some(wanted) = options.root.as_ref().filter(|root| **root != configured) {
            return Err(InitError::OtherRoot {
                file,
                configured,
                wanted: wanted.clone(),
            });
        }
        report.there(format_args!(
            "configuration {}, with the Kleene root {configured}",
            file.display()
        ))?;
        return Ok(configured);
    }
    let root = root::choose(machine, options, defaults)?;
    let line = format!("kleene_root: {root}\n");
    let text = CONFIG.replace(ROOT_LINE, &line);
    // What can't be said in the file isn't written to it.
    if !config::parse(&text).is_ok_and(|config| config.kleene_root == root) {
        return Err(InitError::Root(root));
    }
    let what = format!(
        "configuration {}, with the Kleene root {root}",
        file.display()
    );
    report.change(&what, || write_new(&file, &text, 0o644).map(Written::done))?;
    Ok(root)
}
