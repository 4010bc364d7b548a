//! mount(8), mount_nullfs(8) and umount(8), and the table of mounts.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use kleene_tree::memory::{MemFs, Node};

use super::State;
use super::words::Reply;

/// As many links as are followed on the way to one path.
const MAX_LINKS: usize = 32;

/// A mount.
#[derive(Debug, Clone)]
pub struct Entry {
    source: PathBuf,
    pub place: PathBuf,
    pub kind: String,
    options: Vec<&'static str>,
    /// The path in the tree of files of what it shows; `None`: views of the kernel.
    shows: Option<PathBuf>,
    /// Whether it was there before any container.
    of_machine: bool,
}

/// All mounts, in the order in which they were made.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    busy: BTreeMap<PathBuf, usize>,
}

impl Table {
    pub fn new() -> Self {
        let mut table = Self {
            entries: Vec::new(),
            busy: BTreeMap::new(),
        };
        table.set_up("/dev/vtbd0", Path::new("/"), "ufs");
        table.set_up("devfs", Path::new("/dev"), "devfs");
        table
    }

    /// Adds a mount of the machine's own.
    pub fn set_up(&mut self, source: &str, place: &Path, kind: &str) {
        self.entries.push(Entry {
            source: source.into(),
            place: place.to_owned(),
            kind: kind.to_owned(),
            options: match kind {
                "devfs" | "fdescfs" => Vec::new(),
                "zfs" => vec!["local", "nfsv4acls"],
                _ => vec!["local"],
            },
            shows: (kind != "devfs").then(|| place.to_owned()),
            of_machine: true,
        });
    }

    /// Mounts a view of the kernel's.
    pub fn mount_kernels(&mut self, kind: &str, place: &Path) {
        self.entries.push(Entry {
            source: kind.into(),
            place: place.to_owned(),
            kind: kind.to_owned(),
            options: Vec::new(),
            shows: None,
            of_machine: false,
        });
    }

    /// The mounts that aren't the machine's own.
    pub fn made_later(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.of_machine)
    }

    /// The machine has been restarted.
    pub fn restart(&mut self) {
        self.entries.retain(|entry| entry.of_machine);
        self.busy.clear();
    }

    pub fn keep_busy(&mut self, place: &Path, times: usize) {
        self.busy.insert(place.to_owned(), times);
    }

    /// The path in the tree of files of what is seen at a path without links.
    pub fn behind(&self, path: &Path) -> Option<PathBuf> {
        let entry = self.covering(path)?;
        let rest = path.strip_prefix(&entry.place).ok()?;
        let shows = entry.shows.as_ref()?;
        // Joining nothing would add a slash.
        Some(match rest.as_os_str().is_empty() {
            true => shows.clone(),
            false => shows.join(rest),
        })
    }

    fn covering(&self, path: &Path) -> Option<&Entry> {
        let mut latest = self.entries.iter().rev();
        latest.find(|entry| path.starts_with(&entry.place))
    }

    /// Whether nothing can be written at a path.
    pub fn is_read_only(&self, path: &Path) -> bool {
        let entry = self.covering(path);
        entry.is_some_and(|entry| entry.options.contains(&"read-only"))
    }

    /// What is seen at a path without links.
    pub fn node(&self, fs: &MemFs, path: &Path) -> Option<Node> {
        match self.behind(path) {
            Some(behind) => fs.node(&behind),
            // Of what the kernel shows, the directory itself is all that matters.
            None => {
                let entry = self.covering(path)?;
                (entry.place == path).then_some(Node::Dir { mode: 0o555 })
            }
        }
    }

    pub fn is_dir(&self, fs: &MemFs, path: &Path) -> bool {
        matches!(self.node(fs, path), Some(Node::Dir { .. }))
    }

    /// A path beneath `root` without links on its way, which are resolved inside of `root`. What isn't
    /// there yet stays as it is. `None`: the links have no end.
    pub fn resolve(&self, fs: &MemFs, root: &Path, path: &Path) -> Option<PathBuf> {
        let mut left = parts(path);
        let mut at = root.to_owned();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                if at != root {
                    at.pop();
                }
                continue;
            }
            at.push(part);
            if let Some(Node::Symlink { target }) = self.node(fs, &at) {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                at.pop();
                if target.is_absolute() {
                    at = root.to_owned();
                }
                let mut ahead = parts(&target);
                ahead.append(&mut left);
                left = ahead;
            }
        }
        Some(at)
    }

    /// As realpath(3): what isn't there has none.
    pub fn real(&self, fs: &MemFs, path: &Path) -> Option<PathBuf> {
        let found = self.resolve(fs, Path::new("/"), path)?;
        self.node(fs, &found).map(|_| found)
    }
}

/// The path's names, with `..` among them.
fn parts(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

pub fn mount(state: &State, words: &[&str]) -> Reply {
    if words != ["--libxo", "json"] {
        return Reply::usage("mount");
    }
    let mounted = state.table.entries.iter().map(|entry| {
        let mut line = serde_json::json!({
            "special": entry.source,
            "node": entry.place,
            "fstype": entry.kind,
        });
        if let (Some(line), false) = (line.as_object_mut(), entry.options.is_empty()) {
            line.insert("opts".to_owned(), serde_json::json!(entry.options));
        }
        line
    });
    let mounted: Vec<serde_json::Value> = mounted.collect();
    Reply::ok(format!(
        "{}\n",
        serde_json::json!({"mount": {"mounted": mounted}})
    ))
}

pub fn mount_nullfs(state: &mut State, fs: &MemFs, words: &[&str]) -> Reply {
    let mut wanted = Vec::new();
    let mut words = words;
    while let ["-o", option, rest @ ..] = words {
        wanted.push(*option);
        words = rest;
    }
    let [source, place] = words else {
        return Reply::usage("mount_nullfs");
    };
    let fails =
        |status, path: &str, why| Reply::fail(status, format!("mount_nullfs: {path}: {why}\n"));
    let table = &mut state.table;
    let Some(from) = table.real(fs, Path::new(source)) else {
        return fails(64, source, "No such file or directory");
    };
    // It follows links on the way to the place as well.
    let Some(to) = table.real(fs, Path::new(place)) else {
        return fails(64, place, "No such file or directory");
    };
    let (shows, kind) = (table.behind(&from), table.is_dir(fs, &from));
    if kind != table.is_dir(fs, &to) {
        let why = format!("must be same type as {source} (file or directory)");
        return fails(64, place, &why);
    }
    let same = |entry: &Entry| entry.place == to && entry.kind == "nullfs" && entry.shows == shows;
    if table.covering(&to).is_some_and(same) {
        return fails(1, place, "Resource deadlock avoided");
    }
    // It has what the mount beneath has.
    let beneath = table.covering(&from).map(|entry| entry.options.clone());
    let mut options = beneath.unwrap_or_default();
    for wanted in wanted {
        let shown = match wanted {
            "ro" => "read-only",
            "nosuid" => "nosuid",
            // It passes over what it doesn't know, `ro,nosuid` as well.
            _ => continue,
        };
        if !options.contains(&shown) {
            options.insert(options.len().min(1), shown);
        }
    }
    table.entries.push(Entry {
        source: from,
        place: to,
        kind: "nullfs".to_owned(),
        options,
        shows,
        of_machine: false,
    });
    Reply::ok("")
}

pub fn umount(state: &mut State, fs: &MemFs, words: &[&str]) -> Reply {
    let (force, place) = match words {
        ["-f", place] => (true, *place),
        [place] => (false, *place),
        _ => return Reply::usage("umount"),
    };
    let table = &mut state.table;
    let path = Path::new(place);
    let latest = table.entries.iter().rposition(|it| it.place == path);
    let Some(latest) = latest else {
        let there = table.real(fs, path).is_some();
        return Reply::fail(
            1,
            match there {
                true => format!("umount: {place}: not a file system root directory\n"),
                false => format!(
                    "umount: {place}: statfs: No such file or directory\numount: {place}: unknown \
                     file system\n"
                ),
            },
        );
    };
    let covered = |entry: &Entry| entry.place.starts_with(path);
    let in_use = match table.busy.get_mut(path) {
        Some(times) if *times > 0 => {
            *times -= 1;
            true
        }
        _ => false,
    };
    let is_beneath = table.entries.iter().skip(latest + 1).any(covered);
    if (is_beneath || in_use) && !force {
        return Reply::fail(
            1,
            format!("umount: unmount of {place} failed: Device busy\n"),
        );
    }
    table.entries.remove(latest);
    Reply::ok("")
}
