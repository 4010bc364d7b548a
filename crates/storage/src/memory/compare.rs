//! Compares two directories of a tree in memory, by the rules of the real rooms.

use std::collections::BTreeSet;
use std::path::Path;

use kleene_doors::storage::{Change, ChangeKind};
use kleene_tree::memory::{MemFs, Node};

/// Kernel file systems' mount points, which don't count as long as they are empty.
const SYSTEM: [&str; 3] = ["/dev", "/proc", "/sys"];

/// What differs between the directory `old` (nothing, when there is none) and `new`.
pub(super) fn directories(fs: &MemFs, old: Option<&Path>, new: &Path, changes: &mut Vec<Change>) {
    let mut comparison = Compare { fs, changes };
    comparison.directory(Path::new("/"), old, new);
    let mode = |path| match fs.node(path) {
        Some(Node::Dir { mode }) => Some(mode),
        _ => None,
    };
    if old.is_some_and(|old| mode(old) != mode(new)) {
        comparison.push(Path::new("/"), ChangeKind::Changed);
    }
}

struct Compare<'a> {
    fs: &'a MemFs,
    changes: &'a mut Vec<Change>,
}

impl Compare<'_> {
    fn push(&mut self, path: &Path, kind: ChangeKind) {
        let path = path.to_owned();
        self.changes.push(Change { path, kind });
    }

    /// Whether entries came or went; `at` is the directory's path in the container.
    fn directory(&mut self, at: &Path, old: Option<&Path>, new: &Path) -> bool {
        let mut names: BTreeSet<String> = self.fs.list(new).into_iter().collect();
        names.extend(old.map(|old| self.fs.list(old)).unwrap_or_default());
        let mut came_or_went = false;
        for name in names {
            let old = old.map(|old| old.join(&name));
            let place = at.join(&name);
            came_or_went |= self.entry(&place, old.as_deref(), &new.join(&name));
        }
        came_or_went
    }

    /// Whether the entry came or went.
    fn entry(&mut self, at: &Path, old: Option<&Path>, new: &Path) -> bool {
        let was = old.and_then(|old| self.fs.node(old));
        match (was, self.fs.node(new)) {
            (None, None) => false,
            (None, Some(is)) => {
                let is_system = SYSTEM.iter().any(|system| at == Path::new(system));
                let is_dir = matches!(is, Node::Dir { .. });
                if is_system && is_dir && self.fs.list(new).is_empty() {
                    return false;
                }
                self.push(at, ChangeKind::Added);
                self.directory(at, None, new);
                true
            }
            (Some(_), None) => {
                self.push(at, ChangeKind::Deleted);
                true
            }
            (Some(was @ Node::Dir { .. }), Some(is @ Node::Dir { .. })) => {
                if self.directory(at, old, new) || was != is {
                    self.push(at, ChangeKind::Changed);
                }
                false
            }
            (Some(was), Some(is)) => {
                if was != is {
                    self.push(at, ChangeKind::Changed);
                    self.directory(at, None, new);
                }
                false
            }
        }
    }
}
