//! Goes through two trees at once, directory by directory.
//!
//! Directories wait in a list as the names that lead to them, and are opened anew when it is their
//! turn: so any number of threads can take them, and neither depth nor width of the trees costs
//! descriptors. Trees that lie apart have to be gone through as a whole, which several threads do.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::layers::{Found, Layers, Numbers, Opened};
use super::{Comparison, Difference, Stacking, absolute, is_system};
use crate::attributes::{self, Node};
use crate::error::{Fault, InStep, Step, TreeError};
use crate::meta::Meta;
use crate::place::Place;
use crate::sys;

/// Most threads that go through two trees.
const MOST_THREADS: usize = 4;

/// A directory of the newer tree that is still to be looked into.
struct Task {
    place: Arc<Place>,
    /// The layers that have it.
    new: Numbers,
    /// The layers of the older tree that have it as a directory.
    old: Numbers,
    /// What the older tree has shows in it.
    merged: bool,
}

/// What the threads share.
#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    /// Threads that are at work, and may find more to do.
    working: usize,
    found: Vec<(PathBuf, Difference)>,
    failed: Option<TreeError>,
}

pub(super) struct Walk<'a> {
    old: Layers<'a>,
    new: Layers<'a>,
    stacking: Stacking,
    only: Option<&'a BTreeSet<PathBuf>>,
    state: Mutex<State>,
    /// Signalled when there are new tasks, or none will come any more.
    changed: Condvar,
}

impl<'a> Walk<'a> {
    pub(super) fn new(comparison: &Comparison<'a>) -> Self {
        let overlay = comparison.stacking != Stacking::Apart;
        let layers = |roots| Layers { roots, overlay };
        let (old, new) = (layers(comparison.old), layers(comparison.new));
        let root = Task {
            place: Place::root(),
            new: new.all(),
            old: old.all(),
            merged: comparison.stacking == Stacking::Over,
        };
        Self {
            old,
            new,
            stacking: comparison.stacking,
            only: comparison.only,
            state: Mutex::new(State {
                tasks: vec![root],
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn run(self) -> Result<Vec<(PathBuf, Difference)>, TreeError> {
        thread::scope(|scope| {
            for _ in 1..self.threads() {
                // Without it the others have more to do.
                let _fewer = thread::Builder::new().spawn_scoped(scope, || self.work());
            }
            self.work();
        });
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(error) => Err(error),
            None => Ok(state.found),
        }
    }

    /// Upper layers hold little; whole trees may hold much.
    fn threads(&self) -> usize {
        if self.stacking == Stacking::Over || self.only.is_some() {
            return 1;
        }
        thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes tasks until there are none and none can come.
    fn work(&self) {
        while let Some(task) = self.next() {
            let mut report = Report {
                walk: self,
                place: &task.place,
                tasks: Vec::new(),
                found: Vec::new(),
                came_or_went: false,
            };
            let result = report.directory(&task);
            let (tasks, found) = (report.tasks, report.found);
            let mut state = self.lock();
            state.working -= 1;
            state.tasks.extend(tasks);
            state.found.extend(found);
            if let Err(error) = result {
                state.tasks.clear();
                state.failed.get_or_insert(error);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(task) = state.tasks.pop() {
                state.working += 1;
                return Some(task);
            }
            if state.working == 0 {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether something at this path or beneath it is to be looked at.
    fn wanted(&self, path: &Path) -> bool {
        let Some(only) = self.only else {
            return true;
        };
        let next = only.range::<Path, _>(from(path)).next();
        next.is_some_and(|next| next.starts_with(path))
    }

    /// The names in the directory `path` that are named or lead to such, when not all are wanted.
    fn wanted_names(&self, path: &Path) -> Option<BTreeSet<CString>> {
        let only = self.only?;
        if only.contains(path) {
            return None;
        }
        let beneath = only.range::<Path, _>(from(path));
        let names = beneath
            .map_while(|wanted| wanted.strip_prefix(path).ok())
            .filter_map(|rest| sys::c_name(rest.iter().next()?));
        Some(names.collect())
    }
}

/// This path and those after it; first come those beneath it.
fn from(path: &Path) -> (Bound<&Path>, Bound<&Path>) {
    (Bound::Included(path), Bound::Unbounded)
}

/// What is found in one directory.
struct Report<'w> {
    walk: &'w Walk<'w>,
    place: &'w Arc<Place>,
    tasks: Vec<Task>,
    found: Vec<(PathBuf, Difference)>,
    came_or_went: bool,
}

impl Report<'_> {
    fn directory(&mut self, task: &Task) -> Result<(), TreeError> {
        let walk = self.walk;
        let failed = |fault: Fault| fault.at(task.place.path());
        let new = walk.new.open(&task.place, &task.new).map_err(failed)?;
        let old = walk.old.open(&task.place, &task.old).map_err(failed)?;
        let merged = task.merged && !new.opaque;
        for name in self.names(task, &new, &old, merged).map_err(failed)? {
            self.entry(&new, &old, merged, &name)
                .map_err(|fault| fault.at(task.place.join(&name)))?;
        }
        let (Some(new), Some(old)) = (new.top(), old.top()) else {
            return Ok(());
        };
        let is_root = task.place.is_root();
        let came_or_went = self.came_or_went && !is_root;
        if came_or_went || differs_open(new.as_fd(), old.as_fd()).map_err(failed)? {
            let path = absolute(&task.place.path());
            self.found.push((path, Difference::Changed));
        }
        Ok(())
    }

    /// The names that may differ.
    fn names(
        &self,
        task: &Task,
        new: &Opened,
        old: &Opened,
        merged: bool,
    ) -> Result<BTreeSet<CString>, Fault> {
        // A directory that is new is wanted as a whole.
        if !task.old.is_empty()
            && let Some(names) = self.walk.wanted_names(&task.place.path())
        {
            return Ok(names);
        }
        let mut names = new.names()?;
        if !merged {
            names.extend(old.names()?);
        }
        Ok(names)
    }

    fn entry(
        &mut self,
        new: &Opened,
        old: &Opened,
        merged: bool,
        name: &CStr,
    ) -> Result<(), Fault> {
        let was = old.find(name)?;
        let is = new.find(name)?;
        match (was, is) {
            // What upper layers say nothing of is as it was; it can only have vanished from them.
            (_, Found::Nothing) if merged => {}
            (Found::Nothing | Found::Whiteout, Found::Nothing | Found::Whiteout) => {}
            (Found::Nothing | Found::Whiteout, Found::Leaf(..)) => {
                self.came_or_went(name, Difference::Added);
            }
            (Found::Nothing | Found::Whiteout, Found::Directory { layers, .. }) => {
                let place = self.place.child(name);
                if self.is_mount_point(&place, &layers)? {
                    return Ok(());
                }
                self.came_or_went(name, Difference::Added);
                self.enter_new(place, layers);
            }
            (_, Found::Nothing | Found::Whiteout) => {
                self.came_or_went(name, Difference::Deleted);
            }
            (Found::Directory { .. }, Found::Leaf(..)) => self.push(name, Difference::Changed),
            (Found::Leaf(..), Found::Directory { layers, .. }) => {
                self.push(name, Difference::Changed);
                self.enter_new(self.place.child(name), layers);
            }
            (Found::Directory { layers: was, .. }, Found::Directory { layers, open_below }) => {
                self.enter(name, was, layers, merged && open_below);
            }
            (Found::Leaf(old_layer, was), Found::Leaf(new_layer, is)) => {
                let old = (old, old_layer, &was);
                if leaf_differs(name, old, (new, new_layer, &is))? {
                    self.push(name, Difference::Changed);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &CStr, what: Difference) {
        self.found.push((absolute(&self.place.join(name)), what));
    }

    fn came_or_went(&mut self, name: &CStr, what: Difference) {
        self.came_or_went = true;
        self.push(name, what);
    }

    /// Looks into a directory that both trees have.
    fn enter(&mut self, name: &CStr, old: Numbers, new: Numbers, merged: bool) {
        let place = self.place.child(name);
        if self.walk.wanted(&place.path()) {
            self.tasks.push(Task {
                place,
                new,
                old,
                merged,
            });
        }
    }

    /// Looks into a directory of which everything is new.
    fn enter_new(&mut self, place: Arc<Place>, new: Numbers) {
        self.tasks.push(Task {
            place,
            new,
            old: Numbers::new(),
            merged: false,
        });
    }

    /// Whether it is an empty directory that a container's own file systems are mounted on.
    fn is_mount_point(&self, place: &Place, layers: &[usize]) -> Result<bool, Fault> {
        let name = place.names();
        let [name] = name.as_slice() else {
            return Ok(false);
        };
        if !is_system(OsStr::from_bytes(name.to_bytes())) {
            return Ok(false);
        }
        let opened = self.walk.new.open(place, layers)?;
        Ok(opened.names()?.is_empty())
    }
}

/// An entry that is no directory: where it is, in which layer, and what it is.
type Leaf<'l> = (&'l Opened, usize, &'l Meta);

/// Whether two entries of the same name, neither a directory, differ.
fn leaf_differs(name: &CStr, old: Leaf<'_>, new: Leaf<'_>) -> Result<bool, Fault> {
    let (old, old_layer, was) = old;
    let (new, new_layer, is) = new;
    if was.kind != is.kind || owner_or_mode_differs(was, is) {
        return Ok(true);
    }
    let differs = match is.kind {
        FileType::RegularFile => was.size != is.size || was.times.mtime != is.times.mtime,
        FileType::Symlink => or_gone(
            old.link(old_layer, name)
                .and_then(|was| Ok(was != new.link(new_layer, name)?)),
        )?,
        FileType::CharacterDevice | FileType::BlockDevice => was.device != is.device,
        _ => false,
    };
    if differs {
        return Ok(true);
    }
    match (old.node(old_layer, name), new.node(new_layer, name)) {
        (Some(old), Some(new)) => or_gone(xattrs_differ(old, new)),
        _ => Ok(false),
    }
}

/// What vanishes while it is looked at isn't reported.
fn or_gone(differs: Result<bool, Fault>) -> Result<bool, Fault> {
    match differs {
        Err(Fault {
            errno: Errno::NOENT | Errno::INVAL,
            ..
        }) => Ok(false),
        other => other,
    }
}

/// Whether the attributes of two directories differ.
fn differs_open(new: impl AsFd, old: impl AsFd) -> Result<bool, Fault> {
    let (new, old) = (new.as_fd(), old.as_fd());
    let is = Meta::of(new).step(Step::Reading)?;
    let was = Meta::of(old).step(Step::Reading)?;
    Ok(owner_or_mode_differs(&was, &is) || xattrs_differ(Node::Open(old), Node::Open(new))?)
}

fn owner_or_mode_differs(was: &Meta, is: &Meta) -> bool {
    (was.uid, was.gid, was.mode, was.flags) != (is.uid, is.gid, is.mode, is.flags)
}

fn xattrs_differ(old: Node<'_>, new: Node<'_>) -> Result<bool, Fault> {
    Ok(attributes::shown(old)? != attributes::shown(new)?)
}
