//! An in-memory tree, for tests of code that manages trees without an operating system.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Copied, PopulateOutcome};

/// One entry of a [`MemFs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory; its entries are the nodes whose paths are one name longer.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// The content.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link. Nothing in here follows it.
    Symlink {
        /// Where it points, as text.
        target: PathBuf,
    },
}

/// A tree in memory. Clones share it. Paths are absolute or not, it makes no difference; `.` is
/// left out and `..` goes up by text. Parents are made as needed.
#[derive(Debug, Clone, Default)]
pub struct MemFs {
    nodes: Arc<Mutex<BTreeMap<PathBuf, Node>>>,
}

impl MemFs {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a directory with its parents, mode 0755. What is there already stays.
    pub fn create_dir_all(&self, path: &Path) {
        make_dirs(&mut self.lock(), &normal(path), 0o755);
    }

    /// Makes a directory with its parents, or changes the mode of one.
    pub fn create_dir_with_mode(&self, path: &Path, mode: u32) {
        let path = normal(path);
        let mut nodes = self.lock();
        make_dirs(&mut nodes, &path, 0o755);
        nodes.insert(path, Node::Dir { mode });
    }

    /// Writes a file with mode 0644, replacing what is there.
    pub fn write(&self, path: &Path, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.put(path, Node::File { bytes, mode: 0o644 });
    }

    /// Makes a symbolic link, replacing what is there.
    pub fn symlink(&self, path: &Path, target: &Path) {
        self.put(
            path,
            Node::Symlink {
                target: target.to_owned(),
            },
        );
    }

    /// Puts an entry in place of what is there, with everything beneath that.
    pub fn put(&self, path: &Path, node: Node) {
        let path = normal(path);
        let mut nodes = self.lock();
        remove(&mut nodes, &path);
        if let Some(parent) = path.parent() {
            make_dirs(&mut nodes, parent, 0o755);
        }
        nodes.insert(path, node);
    }

    /// The entry itself.
    pub fn node(&self, path: &Path) -> Option<Node> {
        self.lock().get(&normal(path)).cloned()
    }

    /// A file's content; `None` when there is no such file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match self.node(path) {
            Some(Node::File { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    /// Whether there is an entry, of any type.
    pub fn exists(&self, path: &Path) -> bool {
        self.node(path).is_some()
    }

    /// Whether there is a directory.
    pub fn is_dir(&self, path: &Path) -> bool {
        matches!(self.node(path), Some(Node::Dir { .. }))
    }

    /// The names in a directory, sorted; none when it doesn't exist.
    pub fn list(&self, path: &Path) -> Vec<String> {
        let path = normal(path);
        let nodes = self.lock();
        let names = nodes
            .keys()
            .filter(|key| key.parent() == Some(path.as_path()));
        names.filter_map(|key| key.file_name()).map(lossy).collect()
    }

    /// Removes an entry with everything in it; `false` when there is none.
    pub fn remove_all(&self, path: &Path) -> bool {
        remove(&mut self.lock(), &normal(path))
    }

    /// Copies the contents and the mode of one directory into another, which is made if need be.
    /// Entries of the same name are replaced.
    pub fn copy_tree(&self, from: &Path, to: &Path) -> Copied {
        copy(&mut self.lock(), &normal(from), &normal(to))
    }

    /// Fills an empty directory from another by the rules of [`populate`](crate::populate()): at
    /// once, and only if the target has no entries.
    pub fn populate(&self, source: &Path, target: &Path) -> PopulateOutcome {
        let (source, target) = (normal(source), normal(target));
        let mut nodes = self.lock();
        if !is_empty(&nodes, &target) {
            return PopulateOutcome::TargetNotEmpty;
        }
        let source_empty = is_empty(&nodes, &source);
        let copied = copy(&mut nodes, &source, &target);
        if source_empty {
            PopulateOutcome::SourceEmpty
        } else {
            PopulateOutcome::Copied(copied)
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lossy(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// The path with a leading `/` and without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

fn make_dirs(nodes: &mut BTreeMap<PathBuf, Node>, path: &Path, mode: u32) {
    for ancestor in path.ancestors() {
        if !matches!(nodes.get(ancestor), Some(Node::Dir { .. })) {
            nodes.insert(ancestor.to_owned(), Node::Dir { mode });
        }
    }
}

fn remove(nodes: &mut BTreeMap<PathBuf, Node>, path: &Path) -> bool {
    let before = nodes.len();
    nodes.retain(|key, _| !key.starts_with(path));
    nodes.len() != before
}

fn is_empty(nodes: &BTreeMap<PathBuf, Node>, path: &Path) -> bool {
    !nodes.keys().any(|key| {
        let staging = [".kleene-populate", ".kleene-publish"];
        let below = key
            .strip_prefix(path)
            .ok()
            .and_then(|rest| rest.components().next());
        below.is_some_and(|name| !staging.iter().any(|ours| name.as_os_str() == *ours))
    })
}

fn copy(nodes: &mut BTreeMap<PathBuf, Node>, from: &Path, to: &Path) -> Copied {
    make_dirs(nodes, to, 0o755);
    let found: Vec<(PathBuf, Node)> = nodes
        .iter()
        .filter_map(|(key, node)| {
            let rest = key.strip_prefix(from).ok()?;
            let new = if rest.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(rest)
            };
            Some((new, node.clone()))
        })
        .collect();
    let mut copied = Copied::default();
    for (path, node) in found {
        if path != to {
            copied.entries += 1;
        }
        if let Node::File { bytes, .. } = &node {
            copied.bytes += bytes.len() as u64;
        }
        nodes.insert(path, node);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        let tree = MemFs::new();
        tree.write(Path::new("/a/b/file"), b"content");
        tree.symlink(Path::new("a/link"), Path::new("/etc"));
        let shared = tree.clone();
        assert_eq!(
            shared.read(Path::new("/a/./b/../b/file")).as_deref(),
            Some(&b"content"[..])
        );
        assert_eq!(shared.list(Path::new("/a")), ["b", "link"]);
        assert!(shared.is_dir(Path::new("a/b")) && !shared.is_dir(Path::new("a/link")));
        assert_eq!(shared.read(Path::new("a/b")), None);
        let copied = tree.copy_tree(Path::new("/a"), Path::new("/copy"));
        assert_eq!((copied.entries, copied.bytes), (3, 7));
        assert!(tree.exists(Path::new("/copy/link")));
        assert!(tree.remove_all(Path::new("/a")) && !tree.remove_all(Path::new("/a")));
        assert!(!shared.exists(Path::new("/a/b/file")) && shared.exists(Path::new("/copy/b")));
    }

    #[test]
    fn populates_once() {
        let tree = MemFs::new();
        tree.write(Path::new("/one/file"), b"1");
        tree.write(Path::new("/two/file"), b"2");
        tree.create_dir_with_mode(Path::new("/empty"), 0o1777);
        let volume = Path::new("/volume");
        let from = |source: &str| tree.populate(Path::new(source), volume);
        assert_eq!(from("/empty"), PopulateOutcome::SourceEmpty);
        assert_eq!(tree.node(volume), Some(Node::Dir { mode: 0o1777 }));
        assert!(matches!(
            from("/one"),
            PopulateOutcome::Copied(Copied { entries: 1, .. })
        ));
        assert_eq!(from("/two"), PopulateOutcome::TargetNotEmpty);
        assert_eq!(from("/empty"), PopulateOutcome::TargetNotEmpty);
        assert_eq!(
            tree.read(Path::new("/volume/file")).as_deref(),
            Some(&b"1"[..])
        );
    }
}
