//! The threads that copy files while another one goes through the tree.
//!
//! They get a few files of one directory at a time, with the directory open on both sides. Files that
//! turn out to have several names, or to be no files any more, go back to the one that walks, since it
//! knows about hard links and directories. A directory's own attributes are set by whoever is done with
//! it last. The number of waiting jobs is limited, and so is that of open directories; who has a job for
//! a full list does it itself.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use super::Copied;
use super::file::{self, Settings, Source};
use crate::attributes::{self, Node};
use crate::data::DataCopier;
use crate::error::{Fault, TreeError};
use crate::meta::Meta;
use crate::place::Place;
use crate::sys::Entry;

/// Most threads that copy, the one that walks included.
const MOST_THREADS: usize = 4;

/// Most jobs that wait.
const MOST_WAITING: usize = 16;

/// A directory that files are copied in.
pub(super) struct Folder {
    pub place: Arc<Place>,
    /// The source directory's path for the filter, where there is one.
    at: Option<PathBuf>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Jobs that aren't finished.
    jobs: usize,
    /// There when the walk has left the directory before its last job was finished.
    closing: Option<Closing>,
}

/// What it takes to give a directory its own attributes.
pub(super) struct Closing {
    pub source: Arc<OwnedFd>,
    pub target: Arc<OwnedFd>,
    pub meta: Meta,
}

impl Closing {
    /// Gives the number of extended attributes that the target can't have.
    fn apply(&self, settings: Settings) -> Result<u64, Fault> {
        let source = settings.xattrs(Node::Open(self.source.as_fd()));
        attributes::apply_open(source, &*self.target, &settings.owned(self.meta))
    }
}

impl Folder {
    pub fn new(place: Arc<Place>, at: Option<PathBuf>) -> Self {
        Self {
            place,
            at,
            open: Mutex::default(),
        }
    }

    /// A directory in this one.
    pub fn child(&self, name: &CStr) -> Self {
        Self::new(self.place.child(name), self.path_of(name))
    }

    /// The path of an entry for the filter.
    pub fn path_of(&self, name: &CStr) -> Option<PathBuf> {
        let name = OsStr::from_bytes(name.to_bytes());
        self.at.as_ref().map(|at| at.join(name))
    }

    /// Notes that there will be no more entries, and sets the directory's own attributes if all are
    /// there; otherwise the last job does that.
    pub fn close(&self, closing: Closing, settings: Settings) -> Result<u64, Fault> {
        let mut open = self.lock();
        if open.jobs > 0 {
            open.closing = Some(closing);
            return Ok(0);
        }
        drop(open);
        closing.apply(settings)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A few files of one directory.
pub(super) struct Job {
    pub folder: Arc<Folder>,
    pub source: Arc<OwnedFd>,
    pub target: Arc<OwnedFd>,
    pub entries: Vec<Entry>,
}

impl Job {
    pub fn new(
        folder: &Arc<Folder>,
        source: Arc<OwnedFd>,
        target: Arc<OwnedFd>,
        entries: Vec<Entry>,
    ) -> Self {
        folder.lock().jobs += 1;
        Self {
            folder: Arc::clone(folder),
            source,
            target,
            entries,
        }
    }

    /// Copies the files. Those that aren't for the crew stay in `entries`.
    fn run(&mut self, data: &mut DataCopier, settings: Settings) -> Result<Copied, TreeError> {
        let mut copied = Copied::default();
        let mut left = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            let done = self.file(data, settings, &entry);
            match done.map_err(|fault| fault.at(self.folder.place.join(&entry.name)))? {
                Some(done) => copied.add(done),
                None => left.push(entry),
            }
        }
        self.entries = left;
        Ok(copied)
    }

    /// Copies one file; `None` when that is for the one that walks.
    fn file(
        &self,
        data: &mut DataCopier,
        settings: Settings,
        entry: &Entry,
    ) -> Result<Option<Copied>, Fault> {
        let (source, meta) = match file::open(self.source.as_fd(), &entry.name)? {
            Source::File(source, meta) if meta.links < 2 => (source, meta),
            Source::File(..) | Source::Changed => return Ok(None),
            Source::Vanished => return Ok(Some(Copied::default())),
        };
        let into = self.target.as_fd();
        let skipped_xattrs = settings.copy(data, &source, &meta, into, &entry.name)?;
        Ok(Some(Copied {
            entries: 1,
            bytes: meta.size,
            skipped_xattrs,
            skipped: 0,
        }))
    }

    /// Notes that all files are copied, and sets the directory's own attributes if that was all there
    /// was to do. Gives the number of extended attributes that it can't have.
    pub fn finish(self, settings: Settings) -> Result<u64, TreeError> {
        let closing = {
            let mut open = self.folder.lock();
            open.jobs -= 1;
            if open.jobs > 0 {
                return Ok(0);
            }
            open.closing.take()
        };
        let skipped = closing.map_or(Ok(0), |closing| closing.apply(settings));
        skipped.map_err(|fault| fault.at(self.folder.place.path()))
    }
}

/// What the threads share.
#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Jobs that are being done.
    running: usize,
    handed_back: Vec<Job>,
    done: Copied,
    failed: Option<TreeError>,
    /// The copy is over, one way or the other.
    ended: bool,
}

pub(super) struct Crew {
    settings: Settings,
    state: Mutex<State>,
    /// Signalled when a job comes or is finished, and at the end.
    changed: Condvar,
}

impl Crew {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Starts the threads, as many as there are processors for; `false` when there are none.
    pub fn hire<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> bool {
        let all = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
        let started = (1..all).filter(|_| {
            let thread = thread::Builder::new();
            thread.spawn_scoped(scope, || self.work()).is_ok()
        });
        // Where there can't be more threads, those that are there do it.
        started.count() > 0
    }

    /// Sends the threads home when it is dropped, also when the walk fails or panics.
    pub fn ends(&self) -> impl Drop + '_ {
        End(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut data = DataCopier::new();
        let mut state = self.lock();
        loop {
            if state.ended || state.failed.is_some() {
                return;
            }
            if let Some(job) = state.waiting.pop_front() {
                state.running += 1;
                drop(state);
                self.run(job, &mut data);
                state = self.lock();
            } else {
                state = self.wait(state);
            }
        }
    }

    /// Does a job that counts as running.
    fn run(&self, mut job: Job, data: &mut DataCopier) {
        let copied = job.run(data, self.settings);
        let result = match copied {
            Ok(copied) if job.entries.is_empty() => {
                job.finish(self.settings).map(|skipped| Copied {
                    skipped_xattrs: copied.skipped_xattrs + skipped,
                    ..copied
                })
            }
            Ok(copied) => {
                self.lock().handed_back.push(job);
                Ok(copied)
            }
            Err(error) => Err(error),
        };
        let mut state = self.lock();
        state.running -= 1;
        match result {
            Ok(copied) => state.done.add(copied),
            Err(error) => {
                state.failed.get_or_insert(error);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Puts a job on the list, or does it when that is full.
    pub fn submit(&self, job: Job, data: &mut DataCopier) {
        let mut state = self.lock();
        if state.waiting.len() < MOST_WAITING {
            state.waiting.push_back(job);
            drop(state);
            self.changed.notify_all();
        } else {
            state.running += 1;
            drop(state);
            self.run(job, data);
        }
    }

    /// A job whose remaining files are for the one that walks.
    pub fn handed_back(&self) -> Option<Job> {
        self.lock().handed_back.pop()
    }

    /// What was copied since the last time.
    ///
    /// # Errors
    /// The first failure.
    pub fn take_done(&self) -> Result<Copied, TreeError> {
        let mut state = self.lock();
        match state.failed.take() {
            Some(error) => {
                state.ended = true;
                Err(error)
            }
            None => Ok(std::mem::take(&mut state.done)),
        }
    }

    /// Does one job, or waits until another thread is done with one; `false` when all are.
    pub fn help(&self, data: &mut DataCopier) -> bool {
        let mut state = self.lock();
        if let Some(job) = state.waiting.pop_front() {
            state.running += 1;
            drop(state);
            self.run(job, data);
            return true;
        }
        if !state.handed_back.is_empty() || state.failed.is_some() {
            return true;
        }
        if state.running == 0 {
            return false;
        }
        drop(self.wait(state));
        true
    }
}

struct End<'c>(&'c Crew);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}
