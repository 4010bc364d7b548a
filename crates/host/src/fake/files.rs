//! A container's files in memory, as the container sees them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use kleene_doors::files::{FilesOf, PathKind, PathStat};
use kleene_doors::host::{HostError, Mount, Place};
use kleene_tree::memory::{MemFs, Node};
use kleene_types::Timestamp;

use super::{FakeHost, archive, failed, mounts};

/// As many links as are followed on the way to one path.
const MAX_LINKS: usize = 40;

/// A root with mounts.
pub(super) struct View {
    fs: MemFs,
    root: PathBuf,
    mounts: Vec<Mount>,
}

impl FakeHost {
    pub(super) fn view(&self, of: &FilesOf) -> Result<View, HostError> {
        let mut state = self.shared.lock();
        let (root, mounts) = match of {
            FilesOf::Stopped { root, mounts } => (root, mounts),
            FilesOf::Running { init } => match &state.running(init)?.seen.request.place {
                Place::New(setup) => (&setup.root, &setup.mounts),
                Place::Running { .. } => return Err(HostError::NotRunning(init.clone())),
            },
        };
        Ok(View {
            fs: self.fs.clone(),
            root: mounts::directory(root)?.to_owned(),
            mounts: mounts.clone(),
        })
    }
}

impl View {
    pub fn stat(&self, path: &Path) -> Option<PathStat> {
        let at = self.resolve(path, false)?;
        let node = self.node(&at)?;
        let (mode, size, target) = match &node {
            Node::Dir { mode } => (*mode, 0, None),
            Node::File { bytes, mode } => (*mode, bytes.len() as u64, None),
            Node::Symlink { target } => (0o777, 0, Some(target.to_string_lossy().into_owned())),
        };
        let leads_to = match target {
            Some(_) => self.resolve(path, true).and_then(|end| self.node(&end)),
            None => None,
        };
        let name = path.file_name().unwrap_or("/".as_ref());
        Some(PathStat {
            name: name.to_string_lossy().into_owned(),
            kind: kind(&node),
            mode,
            size,
            uid: 0,
            gid: 0,
            modified: Timestamp::from_microseconds(0)?,
            target,
            leads_to: leads_to.as_ref().map(kind),
        })
    }

    pub fn pack(&self, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        let at = self.resolve(path, false);
        let Some(at) = at.filter(|at| self.node(at).is_some()) else {
            let message = format!("'{}' doesn't exist in the container", path.display());
            return Err(HostError::Source(message));
        };
        let name = PathBuf::from(path.file_name().unwrap_or(".".as_ref()));
        let mut left = vec![(at, name)];
        while let Some((at, name)) = left.pop() {
            let Some(node) = self.node(&at) else {
                continue;
            };
            archive::write_entry(to, &name, &node)
                .map_err(|error| failed("writing an archive".to_owned(), error))?;
            let children = match node {
                Node::Dir { .. } => self.fs.list(&self.host(&at)),
                _ => Vec::new(),
            };
            let paths = children.iter().rev();
            left.extend(paths.map(|child| (at.join(child), name.join(child))));
        }
        archive::write_end(to).map_err(|error| failed("writing an archive".to_owned(), error))
    }

    pub fn unpack(&self, directory: &Path, from: &mut dyn Read) -> Result<(), HostError> {
        let shown = directory.display();
        let at = self.resolve(directory, true);
        let at = at.filter(|at| matches!(self.node(at), Some(Node::Dir { .. })));
        let at = at.ok_or_else(|| {
            HostError::Source(format!("'{shown}' is no directory of the container"))
        })?;
        let bad = |error| HostError::Source(format!("the archive can't be unpacked: {error}"));
        while let Some((name, node)) = archive::read_entry(from).map_err(bad)? {
            let leaves = |part| !matches!(part, Component::Normal(_) | Component::CurDir);
            if name.components().any(leaves) {
                let name = name.display();
                let message = format!("the archive's entry '{name}' leaves the directory");
                return Err(HostError::Source(message));
            }
            let target = at.join(&name);
            let mount = mounts::covering(&self.mounts, &target);
            if mount.is_some_and(|mount| mount.read_only) {
                let message = format!("'{}' is on a read-only mount", target.display());
                return Err(HostError::Source(message));
            }
            let target = self.host(&target);
            match node {
                Node::Dir { mode } => self.fs.create_dir_with_mode(&target, mode),
                node => self.fs.put(&target, node),
            }
        }
        Ok(())
    }

    fn host(&self, path: &Path) -> PathBuf {
        mounts::resolve(&self.root, &self.mounts, path)
    }

    fn node(&self, path: &Path) -> Option<Node> {
        self.fs.node(&self.host(path))
    }

    /// The path without links on its way, in the container; `None` when there are too many.
    fn resolve(&self, path: &Path, follow_last: bool) -> Option<PathBuf> {
        let mut left = parts(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(part);
            if left.is_empty() && !follow_last {
                break;
            }
            if let Some(Node::Symlink { target }) = self.node(&at) {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                at.pop();
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                let mut ahead = parts(&target);
                ahead.append(&mut left);
                left = ahead;
            }
        }
        Some(at)
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

fn kind(node: &Node) -> PathKind {
    match node {
        Node::Dir { .. } => PathKind::Directory,
        Node::File { .. } => PathKind::File,
        Node::Symlink { .. } => PathKind::Symlink,
    }
}
