//! What a container has on the host: its mounts, its jail, its limits. Made before its first process
//! starts, and taken away when the last one has ended, whoever has made it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kleene_command::Runner;
use kleene_doors::host::{ContainerSetup, HostError, Mount, SourceKind, StartFailure};
use kleene_doors::storage::Root;
use kleene_types::ContainerId;

use super::mounts::{self, Its, Mounted};
use super::params::{Params, RULESET};
use super::record::{Record, Records};
use super::seams::Places;
use super::{devfs, jails, limits};
use crate::shared::failed;

/// Makes and unmakes containers.
pub struct Containers {
    tools: Arc<dyn Runner>,
    places: Box<dyn Places>,
    /// What is written down of them.
    pub records: Records,
    /// Held while our devfs ruleset is looked at and filled.
    ruleset: Mutex<()>,
    /// Held while mounts are made: those that have come to the kernel's table meanwhile are ours.
    mounting: Mutex<()>,
}

impl Containers {
    /// Works with these tools on these places.
    pub fn new(tools: Arc<dyn Runner>, places: Box<dyn Places>, records: Records) -> Self {
        Self {
            tools,
            places,
            records,
            ruleset: Mutex::new(()),
            mounting: Mutex::new(()),
        }
    }

    /// Makes everything around a container's first process. What an earlier run has left is taken away
    /// first; what fails leaves nothing.
    ///
    /// # Errors
    /// [`HostError::Source`] about a mount, else [`HostError::Start`].
    pub fn set_up(
        &self,
        container: &ContainerId,
        setup: &ContainerSetup,
        params: &Params,
        limits: &limits::Plan,
    ) -> Result<Record, HostError> {
        self.clean(container)?;
        let made = self.make(container, setup, params, limits);
        made.map_err(|problem| {
            if let Err(problem) = self.clean(container) {
                let problem: &dyn std::error::Error = &problem;
                tracing::warn!(%container, problem, "a failed start leaves traces");
            }
            as_start_failure(problem)
        })
    }

    fn make(
        &self,
        container: &ContainerId,
        setup: &ContainerSetup,
        params: &Params,
        limits: &limits::Plan,
    ) -> Result<Record, HostError> {
        let root = self.root_path(&setup.root)?;
        let mut record = Record {
            devfs: params.devfs,
            limited: limits.has_rules(),
            persists: params.persists,
            ..Record::of(root.clone())
        };
        self.note(container, &record)?;
        // Nobody may have written down what lies there.
        mounts::clear(&*self.tools, &Its::Beneath(&root))?;
        self.mount(&root, &setup.mounts)?;
        if params.devfs {
            if params.own_ruleset {
                self.ensure_ruleset()?;
            }
            let dev = "/dev".parse().map_err(|error| invalid("/dev", &error))?;
            let place = self
                .places
                .mount_point(&root, &dev, SourceKind::Directory)?;
            if place != root.join("dev") {
                return Err(HostError::Source(
                    "the container's /dev is a symbolic link, and nothing can be mounted on one: make it \
                     a directory, or leave it out with the jail parameter mount.nodevfs"
                        .to_owned(),
                ));
            }
        }
        let path = root.to_string_lossy();
        let given = params.for_jail(&path, &setup.hostname, setup.network);
        let name = container.as_str();
        jails::create(&*self.tools, name, &given)?;
        let jail = jails::find(&*self.tools, name)?;
        record.jid = Some(jail.jid);
        self.note(container, &record)?;
        limits.apply(&*self.tools, name)?;
        Ok(record)
    }

    /// Takes away everything that a container has on the host. Goes on past what can't be taken away.
    ///
    /// # Errors
    /// The first one. Then the record stays, and this can be tried again.
    pub fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        let record = match self.records.read(container) {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => Some(record),
            // A power failure has left half of it.
            Err(error) if is_damaged(&error) => None,
            Err(error) => {
                return Err(failed(format!("reading the record of jail {container}"))(
                    error,
                ));
            }
        };
        let tools = &*self.tools;
        let name = container.as_str();
        let removed = jails::ensure_removed(tools, name);
        let freed = match record.as_ref().is_none_or(|record| record.limited) {
            true => limits::remove(tools, name),
            false => Ok(()),
        };
        let its = record
            .as_ref()
            .map_or(Its::Named(name), |record| Its::Beneath(&record.root));
        let cleared = mounts::clear(tools, &its);
        removed.and(freed).and(cleared)?;
        self.forget(container)
    }

    /// Removes a container's record, and nothing of what the container has.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn forget(&self, container: &ContainerId) -> Result<(), HostError> {
        let removed = self.records.remove(container);
        removed.map_err(failed(format!("forgetting jail {container}")))
    }

    /// Mounts what a container that doesn't run sees in its root, for the time that somebody looks at
    /// it, as `container`, which no other one is. The caller calls [`Containers::clean`] then.
    ///
    /// # Errors
    /// As for [`Containers::set_up`]; then nothing is mounted.
    pub fn mount_for_a_look(
        &self,
        container: &ContainerId,
        root: &Path,
        mounts: &[Mount],
    ) -> Result<(), HostError> {
        self.note(container, &Record::of(root.to_owned()))?;
        self.mount(root, mounts).or_else(|problem| {
            self.clean(container)?;
            Err(problem)
        })
    }

    /// What is recorded of a container.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn read(&self, container: &ContainerId) -> Result<Option<Record>, HostError> {
        let record = self.records.read(container);
        record.map_err(failed(format!("reading the record of jail {container}")))
    }

    /// Writes a container's record.
    ///
    /// # Errors
    /// It can't be written.
    pub fn note(&self, container: &ContainerId, record: &Record) -> Result<(), HostError> {
        let written = self.records.write(container, record);
        written.map_err(failed(format!("recording jail {container}")))
    }

    /// A root's directory, without links on the way.
    ///
    /// # Errors
    /// It isn't there, or isn't a directory.
    pub fn root_path(&self, root: &Root) -> Result<PathBuf, HostError> {
        match root {
            Root::Directory { path } => Ok(self.places.source(path)?.0),
            Root::Overlay { .. } => Err(HostError::Unsupported(
                "there is no overlay file system on FreeBSD".to_owned(),
            )),
        }
    }

    /// Makes a container's mounts in their order, each with what is mounted beneath its source: nullfs
    /// itself doesn't show that.
    fn mount(&self, root: &Path, mounts: &[Mount]) -> Result<(), HostError> {
        if mounts.is_empty() {
            return Ok(());
        }
        let tools = &*self.tools;
        let _alone = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mounts::all(tools)?;
        let mut made = Vec::new();
        let done = self.mount_each(root, mounts, &before, &mut made);
        // Also when one of them couldn't be made: it, and those before it, may lie elsewhere.
        let checked = self.check_places(&before, &made);
        done.and(checked)
    }

    /// `made` gets every mount, also one that may not have been made.
    fn mount_each(
        &self,
        root: &Path,
        mounts: &[Mount],
        before: &[Mounted],
        made: &mut Vec<Planned>,
    ) -> Result<(), HostError> {
        for mount in mounts {
            let (source, kind) = self.places.source(&mount.source)?;
            let place = self.places.mount_point(root, &mount.destination, kind)?;
            for (from, to) in with_children(before, root, &source, &place) {
                made.push(Planned::new(&from, &to, mount));
                mounts::mount_nullfs(&*self.tools, &from, &to, mount)?;
            }
        }
        Ok(())
    }

    /// Checks that everything was mounted where and as it was to be: a mount point in another mount may
    /// have become a link meanwhile, made by somebody who writes to that, and mount_nullfs(8) passes over
    /// options that it doesn't understand. What is otherwise is unmounted.
    fn check_places(&self, before: &[Mounted], made: &[Planned]) -> Result<(), HostError> {
        let after = mounts::all(&*self.tools)?;
        let (missing, strays) = compare(before, &after, made);
        let mut gone = Ok(());
        for stray in strays.iter().rev() {
            gone = gone.and(mounts::unmount_soon(&*self.tools, &stray.place));
        }
        gone?;
        match missing {
            None => Ok(()),
            Some(missing) => Err(HostError::Source(format!(
                "nothing was mounted at '{}' as it was to be: a link has taken its place meanwhile; what \
                 else uses the mount that it lies in?",
                missing.display()
            ))),
        }
    }

    /// Looks each time: whoever empties the ruleset meanwhile would give the next container all of the
    /// host's devices.
    fn ensure_ruleset(&self) -> Result<(), HostError> {
        let _alone = self.ruleset.lock().unwrap_or_else(PoisonError::into_inner);
        devfs::load(&*self.tools, RULESET)
    }
}

/// A mount that is to be made, as the kernel's table will have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    source: PathBuf,
    place: PathBuf,
    /// By the table's names, those that it must have.
    options: Vec<&'static str>,
}

impl Planned {
    fn new(source: &Path, place: &Path, mount: &Mount) -> Self {
        let options = [(mount.read_only, "read-only"), (mount.nosuid, "nosuid")];
        Self {
            source: source.to_owned(),
            place: place.to_owned(),
            options: options
                .into_iter()
                .filter_map(|(asked, option)| asked.then_some(option))
                .collect(),
        }
    }

    fn is(&self, mount: &Mounted) -> bool {
        let has = |option: &&str| mount.options.iter().any(|there| there == option);
        self.source == mount.source && self.place == mount.place && self.options.iter().all(has)
    }
}

/// A place of `made` at which nothing was mounted as it was to be, and what was mounted from these
/// sources otherwise, between the one look at the kernel's table and the other.
fn compare<'a>(
    before: &[Mounted],
    after: &'a [Mounted],
    made: &'a [Planned],
) -> (Option<&'a Path>, Vec<&'a Mounted>) {
    let mut old: Vec<&Mounted> = before.iter().collect();
    let mut missing: Vec<&Planned> = made.iter().collect();
    let mut strays = Vec::new();
    for mount in after.iter().filter(|mount| mount.kind == "nullfs") {
        // Each counts once: one that was there, or was made for another reason, must not hide a stray.
        if let Some(known) = old.iter().position(|old| *old == mount) {
            old.swap_remove(known);
            continue;
        }
        match missing.iter().position(|planned| planned.is(mount)) {
            Some(found) => drop(missing.remove(found)),
            None if made.iter().any(|made| made.source == mount.source) => strays.push(mount),
            None => {}
        }
    }
    let missing = missing.first().map(|planned| planned.place.as_path());
    (missing, strays)
}

/// A mount with those beneath its source that are seen there, from the outermost on. What is mounted in
/// the container's own root is left out: showing a root in itself has no end.
fn with_children(
    table: &[Mounted],
    root: &Path,
    source: &Path,
    place: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    // The table has mounts in the order in which they were made: a later one may hide an earlier one.
    let is_seen = |(number, mount): &(usize, &Mounted)| {
        let mut later = table.iter().skip(number + 1);
        !later.any(|later| mount.place.starts_with(&later.place))
    };
    let seen = table.iter().enumerate().filter(is_seen);
    let beneath = seen.map(|(_, mount)| mount).filter(|mount| {
        mount.place != source && !mount.place.starts_with(root) && mount.is_ordinary()
    });
    let children = beneath.filter_map(|mount| {
        let inside = mount.place.strip_prefix(source).ok()?;
        Some((mount.place.clone(), place.join(inside)))
    });
    let own = (source.to_owned(), place.to_owned());
    std::iter::once(own).chain(children).collect()
}

/// What stands in the way of a start, as whoever asked for it is to read it.
fn as_start_failure(problem: HostError) -> HostError {
    let HostError::Failed { action, source } = problem else {
        return problem;
    };
    let mut message = format!("{action} failed: {source}");
    let mut next = source.source();
    while let Some(cause) = next {
        message = format!("{message}: {cause}");
        next = cause.source();
    }
    HostError::Start(StartFailure { code: 125, message })
}

/// Whether a file isn't what was written to it.
fn is_damaged(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn invalid(what: &str, error: &dyn std::error::Error) -> HostError {
    HostError::Unsupported(format!("'{what}' is no path: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(source: &str, place: &str) -> Mounted {
        Mounted {
            source: source.into(),
            place: place.into(),
            kind: "nullfs".to_owned(),
            options: Vec::new(),
        }
    }

    fn planned(source: &str, place: &str, options: &[&'static str]) -> Planned {
        Planned {
            source: source.into(),
            place: place.into(),
            options: options.to_vec(),
        }
    }

    /// A mount that can be written to although it shouldn't is none, and is taken away.
    #[test]
    fn options_are_looked_at() {
        let made = [planned("/v", "/r/v", &["read-only", "nosuid"])];
        let mut mount = mounted("/v", "/r/v");
        mount.options = ["local", "nosuid", "read-only"].map(str::to_owned).to_vec();
        let good = [mount.clone()];
        assert_eq!(compare(&[], &good, &made), (None, Vec::new()));
        mount.options.pop();
        let bad = [mount];
        let wanted = (Some(Path::new("/r/v")), vec![&bad[0]]);
        assert_eq!(compare(&[], &bad, &made), wanted);
    }

    /// That something is mounted in the right place doesn't hide that something else isn't.
    #[test]
    fn mounts_count_once() {
        let before = [mounted("/v", "/mnt"), mounted("/x", "/r/x")];
        let made = [
            planned("/v", "/r/v", &[]),
            planned("/x", "/r/x", &[]),
            planned("/y", "/r/x", &[]),
        ];
        let good = ["/v", "/x", "/y"].map(|source| match source {
            "/v" => mounted("/v", "/r/v"),
            source => mounted(source, "/r/x"),
        });
        let table = |new: &[Mounted]| [&before[..], new].concat();
        let after = table(&good);
        assert_eq!(compare(&before, &after, &made), (None, Vec::new()));
        // What somebody else has mounted meanwhile is no concern.
        let after = [after, vec![mounted("/other", "/elsewhere")]].concat();
        assert_eq!(compare(&before, &after, &made), (None, Vec::new()));
        let stray = mounted("/y", "/usr/local");
        let after = table(&[good[0].clone(), good[1].clone(), stray.clone()]);
        let wanted = (Some(Path::new("/r/x")), vec![&stray]);
        assert_eq!(compare(&before, &after, &made), wanted);
        let stray = mounted("/x", "/usr/local");
        let after = table(&[good[0].clone(), good[2].clone(), stray.clone()]);
        let wanted = (Some(Path::new("/r/x")), vec![&stray]);
        assert_eq!(compare(&before, &after, &made), wanted);
    }
}
