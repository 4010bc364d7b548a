//! What has happened: the last few thousand events, counted, and kept across restarts of the daemon.
//!
//! Events are news, not records: they are written to a file as they happen but never waited for, so
//! a machine that loses power may lose the last of them.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kleene_types::{
    ContainerId, ContainerName, ExecId, ImageId, ImageName, ImageTag, Timestamp, VolumeName,
};
use tracing::warn;

use crate::{Engine, Event};

/// Events that are remembered.
const KEPT: usize = 4096;

/// Bytes after which the file of events is put aside and a new one is begun. (So it is after
/// [`KEPT`] events, and the two files together always hold those that are remembered.)
const FILE_LIMIT: u64 = 4 << 20;

/// The file of events in the metadata directory, one JSON object a line.
const FILE: &str = "events.jsonl";

/// The file before that one.
const OLD_FILE: &str = "events.old.jsonl";

/// An event to announce: see [`Engine::emit`].
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct NewEvent {
    kind: &'static str,
    action: &'static str,
    id: String,
    name: String,
    attributes: BTreeMap<String, String>,
}

impl NewEvent {
    fn new(kind: &'static str, action: &'static str, id: impl ToString) -> Self {
        Self {
            kind,
            action,
            id: id.to_string(),
            name: String::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// Something that happened to a container.
    pub(crate) fn container(action: &'static str, id: &ContainerId, name: &ContainerName) -> Self {
        Self {
            name: name.to_string(),
            ..Self::new("container", action, id)
        }
    }

    /// Something that happened to an execution instance of a container.
    pub(crate) fn exec(action: &'static str, id: &ExecId, container: &ContainerId) -> Self {
        Self::new("exec", action, id).with("container", container)
    }

    /// Something that happened to an image.
    pub(crate) fn image(
        action: &'static str,
        id: &ImageId,
        reference: Option<&(ImageName, ImageTag)>,
    ) -> Self {
        Self {
            name: reference.map_or_else(String::new, |(name, tag)| format!("{name}:{tag}")),
            ..Self::new("image", action, id)
        }
    }

    /// Something that happened to a volume.
    pub(crate) fn volume(action: &'static str, name: &VolumeName) -> Self {
        Self {
            name: name.to_string(),
            ..Self::new("volume", action, name)
        }
    }

    /// Something that happened to the daemon.
    pub(crate) fn daemon(action: &'static str) -> Self {
        Self::new("daemon", action, "")
    }

    /// The event with one more attribute.
    pub(crate) fn with(mut self, attribute: &str, value: impl ToString) -> Self {
        self.attributes
            .insert(attribute.to_owned(), value.to_string());
        self
    }
}

impl Engine {
    /// Announces that something has happened. Call it when it has: after the records are written.
    pub(crate) fn emit(&self, event: NewEvent) {
        self.events.add(event);
        self.supervisor.happened();
    }

    /// Events after that with the number `sequence`, the oldest first. (What is older than the last
    /// few thousand is forgotten.)
    pub fn events_after(&self, sequence: u64) -> Vec<Event> {
        self.events.after(sequence)
    }

    /// The number of the last event; 0 when there is none.
    pub fn last_event(&self) -> u64 {
        self.events.lock().last
    }
}

/// The events of one engine.
#[derive(Debug)]
pub(crate) struct Events(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The last events, the oldest first; their numbers have no gaps.
    kept: VecDeque<Event>,
    /// The number of the last event.
    last: u64,
    journal: Option<Journal>,
}

impl Events {
    /// The events that the files in a directory hold. Where there is no such directory, as with
    /// storage in memory, they are kept in memory only.
    pub(crate) fn open(directory: &Path) -> Self {
        let mut kept = VecDeque::new();
        let journal = match directory.is_dir() {
            true => Journal::open(directory, &mut kept)
                .inspect_err(|problem| {
                    let directory = directory.display();
                    warn!(%problem, "events are not kept in '{directory}'");
                })
                .ok(),
            false => None,
        };
        Self(Mutex::new(State {
            last: kept.back().map_or(0, |event| event.sequence),
            kept,
            journal,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: NewEvent) {
        let mut state = self.lock();
        state.last += 1;
        let event = Event {
            sequence: state.last,
            time: Timestamp::now(),
            kind: event.kind.to_owned(),
            action: event.action.to_owned(),
            id: event.id,
            name: event.name,
            attributes: event.attributes,
        };
        if let Some(journal) = &mut state.journal
            && let Err(problem) = journal.append(&event)
        {
            // The disk may be full, and this can't be why work fails.
            warn!(%problem, "an event can't be written down");
        }
        remember(&mut state.kept, event);
    }

    fn after(&self, sequence: u64) -> Vec<Event> {
        let state = self.lock();
        let known = state.kept.partition_point(|e| e.sequence <= sequence);
        state.kept.range(known..).cloned().collect()
    }
}

/// Adds an event to those that are remembered.
fn remember(kept: &mut VecDeque<Event>, event: Event) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(event);
}

/// The files that events are written to.
#[derive(Debug)]
struct Journal {
    directory: PathBuf,
    file: File,
    /// Events in `file`.
    events: usize,
    /// Bytes in `file` that belong to whole lines.
    size: u64,
}

impl Journal {
    /// Opens the files, and reads what they hold.
    fn open(directory: &Path, kept: &mut VecDeque<Event>) -> io::Result<Self> {
        if let Some(old) = existing(&directory.join(OLD_FILE))? {
            read(&old, kept)?;
        }
        let file = open(&directory.join(FILE))?;
        let (events, size) = read(&file, kept)?;
        // What follows the last whole line was cut short with the machine's power.
        file.set_len(size)?;
        Ok(Self {
            directory: directory.to_owned(),
            file,
            events,
            size,
        })
    }

    fn append(&mut self, event: &Event) -> io::Result<()> {
        if self.events >= KEPT || self.size >= FILE_LIMIT {
            self.rotate()?;
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // A part of it may be there, and the next event must begin a line.
            drop(self.file.set_len(self.size));
            return Err(error);
        }
        self.events += 1;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (file, old) = (self.directory.join(FILE), self.directory.join(OLD_FILE));
        fs::rename(&file, old)?;
        self.file = open(&file)?;
        (self.events, self.size) = (0, 0);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path)
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the events of a file; how many there are, and how many bytes they take. A line that is
/// damaged ends it.
fn read(file: &File, kept: &mut VecDeque<Event>) -> io::Result<(usize, u64)> {
    let mut lines = BufReader::new(file);
    let (mut events, mut size) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok((events, size));
        }
        let Ok(event) = serde_json::from_slice::<Event>(&line) else {
            return Ok((events, size));
        };
        if kept
            .back()
            .is_some_and(|e| e.sequence + 1 != event.sequence)
        {
            // Some are missing in between; readers count on numbers without gaps.
            kept.clear();
        }
        remember(kept, event);
        events += 1;
        size += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> NewEvent {
        NewEvent::volume("create", &"v".parse().unwrap()).with("number", number)
    }

    fn numbers(events: &Events, after: u64) -> Vec<u64> {
        let events = events.after(after);
        events
            .iter()
            .for_each(|e| assert_eq!(e.attributes["number"], e.sequence.to_string()));
        events.iter().map(|e| e.sequence).collect()
    }

    fn add(events: &Events, range: std::ops::RangeInclusive<u64>) {
        range.for_each(|number| events.add(event(number)));
    }

    #[test]
    fn the_last_ones_are_remembered() {
        let events = Events::open(Path::new("/nonexistent"));
        assert_eq!(numbers(&events, 0), Vec::<u64>::new());
        let all = KEPT as u64 + 10;
        add(&events, 1..=all);
        assert_eq!(numbers(&events, 0), (11..=all).collect::<Vec<_>>());
        assert_eq!(numbers(&events, all - 2), [all - 1, all]);
        assert_eq!(numbers(&events, all), Vec::<u64>::new());
        assert_eq!(numbers(&events, u64::MAX), Vec::<u64>::new());
    }

    #[test]
    fn they_outlive_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        add(&Events::open(directory.path()), 1..=3);
        let again = Events::open(directory.path());
        assert_eq!(numbers(&again, 0), [1, 2, 3]);
        add(&again, 4..=4);
        let again = Events::open(directory.path());
        assert_eq!(numbers(&again, 2), [3, 4]);
        let first = again.after(0).remove(0);
        assert_eq!((first.kind.as_str(), first.id.as_str()), ("volume", "v"));
    }

    #[test]
    fn files_are_rotated_and_hold_all_that_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let all = 3 * KEPT as u64 - 1;
        add(&Events::open(directory.path()), 1..=all);
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [FILE, OLD_FILE]);
        let again = Events::open(directory.path());
        let wanted: Vec<u64> = (all - KEPT as u64 + 1..=all).collect();
        assert_eq!(numbers(&again, 0), wanted);
    }

    #[test]
    fn a_torn_line_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        add(&Events::open(directory.path()), 1..=2);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in first..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let again = Events::open(directory.path());
            assert_eq!(numbers(&again, 0), [1]);
            add(&again, 2..=3);
            assert_eq!(numbers(&Events::open(directory.path()), 0), [1, 2, 3]);
        }
    }

    #[test]
    fn nonsense_ends_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        add(&Events::open(directory.path()), 1..=2);
        let path = directory.path().join(FILE);
        let mut text = fs::read(&path).unwrap();
        text.extend(b"\0\0\0\n{}\n");
        fs::write(&path, text).unwrap();
        let again = Events::open(directory.path());
        add(&again, 3..=3);
        assert_eq!(numbers(&Events::open(directory.path()), 0), [1, 2, 3]);
    }
}
