//! Copies into trees in memory. Sources are in memory as well, or in a directory of the real host.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kleene_doors::host::HostError;
use kleene_doors::layers::{CopiedIn, CopyIn, CopySource, Keep, KeepFn};
use kleene_tree::memory::{MemFs, Node};
use kleene_tree::name_fits;

use super::{archive, failed, mounts};

/// A source's entries by their paths.
type Tree = BTreeMap<PathBuf, Node>;

/// What one source names.
struct Found {
    path: PathBuf,
    node: Node,
}

/// Copies files in. Links are never followed, owners are nobody's, and archives are unpacked only when
/// they aren't compressed.
pub(super) fn copy_in(fs: &MemFs, copy: &CopyIn<'_>) -> Result<CopiedIn, HostError> {
    let root = mounts::directory(copy.root)?;
    let (tree, sources) = open(fs, &copy.from, copy.sources)?;
    let (found, wild) = select(&tree, &sources, copy.keep)?;
    let destination = root.join(copy.destination.trim_start_matches('/'));
    let into_directory =
        wild || found.len() > 1 || copy.destination.ends_with('/') || fs.is_dir(&destination);
    let mut done = Done {
        fs,
        copy,
        copied: CopiedIn::default(),
    };
    for Found { path, node } in found {
        let mut target = destination.clone();
        if copy.parents {
            target.push(path.parent().unwrap_or(Path::new("")));
        }
        match &node {
            Node::Dir { .. } => {
                if copy.parents {
                    target.extend(path.file_name());
                }
                make_directory(fs, &target)?;
                for (inner, node) in beneath(&tree, &path, copy.keep) {
                    let inner = inner.strip_prefix(&path).unwrap_or(inner);
                    done.put(&target.join(inner), node.clone())?;
                }
            }
            Node::File { bytes, .. } if copy.unpack && is_archive(bytes) => {
                done.unpack(&destination, bytes)?;
            }
            _ => {
                if into_directory || copy.parents {
                    make_directory(fs, &target)?;
                    target.extend(path.file_name());
                }
                done.put(&target, node)?;
            }
        }
    }
    Ok(done.copied)
}

struct Done<'d> {
    fs: &'d MemFs,
    copy: &'d CopyIn<'d>,
    copied: CopiedIn,
}

impl Done<'_> {
    fn put(&mut self, path: &Path, node: Node) -> Result<(), HostError> {
        let node = match (node, self.copy.mode) {
            (Node::Dir { .. }, Some(mode)) => Node::Dir { mode },
            (Node::File { bytes, .. }, Some(mode)) => Node::File { bytes, mode },
            (node, _) => node,
        };
        self.copied.entries += 1;
        if let Node::File { bytes, .. } = &node {
            self.copied.bytes += bytes.len() as u64;
        }
        match (&node, self.fs.node(path)) {
            (Node::Dir { mode }, Some(Node::Dir { .. })) => {
                self.fs.create_dir_with_mode(path, *mode);
            }
            (Node::Dir { .. }, Some(_)) | (_, Some(Node::Dir { .. })) => {
                return Err(HostError::Source(format!(
                    "'{}' can't be replaced: a directory replaces nothing but a directory, and \
                     nothing else replaces one",
                    path.display()
                )));
            }
            _ => self.fs.put(path, node),
        }
        match (self.copy.progress)(self.copied.bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(HostError::Cancelled("copying".to_owned())),
        }
    }

    fn unpack(&mut self, into: &Path, mut bytes: &[u8]) -> Result<(), HostError> {
        make_directory(self.fs, into)?;
        let bad = |error: io::Error| HostError::Source(format!("unpacking failed: {error}"));
        while let Some((name, node)) = archive::read_entry(&mut bytes).map_err(bad)? {
            self.put(&into.join(name), node)?;
        }
        Ok(())
    }
}

fn make_directory(fs: &MemFs, path: &Path) -> Result<(), HostError> {
    let in_the_way = path.ancestors().find(|path| fs.exists(path));
    match in_the_way.is_none_or(|path| fs.is_dir(path)) {
        true => fs.create_dir_all(path),
        false => {
            let shown = path.display();
            return Err(HostError::Source(format!(
                "'{shown}' can't be replaced: it is a file"
            )));
        }
    }
    Ok(())
}

fn is_archive(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// A digest of what would be copied. Not the one of the real host.
pub(super) fn digest(
    fs: &MemFs,
    from: &CopySource<'_>,
    sources: &[String],
    keep: KeepFn<'_>,
) -> Result<[u8; 32], HostError> {
    let (tree, sources) = open(fs, from, sources)?;
    let mut entries = Vec::new();
    for Found { path, node } in select(&tree, &sources, keep)?.0 {
        if let Node::Dir { .. } = node {
            let inner = beneath(&tree, &path, keep).into_iter();
            entries.extend(inner.map(|(path, node)| (path.clone(), node.clone())));
        } else {
            entries.push((path, node));
        }
    }
    let mut digest = [0; 32];
    for (number, part) in digest.chunks_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        number.hash(&mut hasher);
        format!("{entries:?}").hash(&mut hasher);
        part.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    Ok(digest)
}

/// The source's tree, and what of it is wanted.
fn open(
    fs: &MemFs,
    from: &CopySource<'_>,
    sources: &[String],
) -> Result<(Tree, Vec<String>), HostError> {
    let mut tree = Tree::new();
    let path = match from {
        CopySource::Inline(files) => {
            for (name, bytes) in *files {
                let (bytes, mode) = (bytes.clone(), 0o644);
                tree.insert(name.into(), Node::File { bytes, mode });
            }
            return Ok((tree, files.iter().map(|(name, _)| name.clone()).collect()));
        }
        CopySource::Root(root) => mounts::directory(root)?,
        CopySource::Directory(path) => path,
    };
    if fs.is_dir(path) {
        in_memory(fs, path, Path::new(""), &mut tree);
    } else {
        on_disk(path, Path::new(""), &mut tree).map_err(|error| {
            failed(
                format!("opening the build context '{}'", path.display()),
                error,
            )
        })?;
    }
    Ok((tree, sources.to_vec()))
}

fn in_memory(fs: &MemFs, root: &Path, path: &Path, tree: &mut Tree) {
    for name in fs.list(&root.join(path)) {
        let path = path.join(name);
        let Some(node) = fs.node(&root.join(&path)) else {
            continue;
        };
        let is_dir = matches!(node, Node::Dir { .. });
        tree.insert(path.clone(), node);
        if is_dir {
            in_memory(fs, root, &path, tree);
        }
    }
}

fn on_disk(root: &Path, path: &Path, tree: &mut Tree) -> io::Result<()> {
    for entry in fs::read_dir(root.join(path))? {
        let entry = entry?;
        let path = path.join(entry.file_name());
        let meta = entry.metadata()?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            tree.insert(path.clone(), Node::Dir { mode });
            on_disk(root, &path, tree)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(entry.path())?;
            tree.insert(path, Node::Symlink { target });
        } else if meta.is_file() {
            let bytes = fs::read(entry.path())?;
            tree.insert(path, Node::File { bytes, mode });
        }
    }
    Ok(())
}

/// What the sources name, and whether one has wildcards.
fn select(
    tree: &Tree,
    sources: &[String],
    keep: KeepFn<'_>,
) -> Result<(Vec<Found>, bool), HostError> {
    let mut found = Vec::new();
    let mut wild = false;
    for source in sources {
        let mut names: Vec<&str> = Vec::new();
        for name in source.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let has_wildcards = source.contains(['*', '?', '[']);
        wild |= has_wildcards;
        let before = found.len();
        if names.is_empty() {
            let (path, node) = (PathBuf::new(), Node::Dir { mode: 0o755 });
            found.push(Found { path, node });
        }
        for (path, node) in tree {
            let fits = path.iter().count() == names.len()
                && path.iter().zip(&names).all(|(part, name)| {
                    let part = part.to_string_lossy();
                    match has_wildcards {
                        true => name_fits(name, &part) == Some(true),
                        false => part == *name,
                    }
                });
            if fits && is_kept(tree, path, node, keep) {
                let (path, node) = (path.clone(), node.clone());
                found.push(Found { path, node });
            }
        }
        if found.len() == before {
            return Err(HostError::Source(format!(
                "there is no '{source}' to copy, or it is excluded"
            )));
        }
    }
    Ok((found, wild))
}

/// Whether an entry is kept, and so is every directory on the way to it.
fn is_kept(tree: &Tree, path: &Path, node: &Node, keep: KeepFn<'_>) -> bool {
    let mut above = path.ancestors().skip(1);
    if above.any(|above| !above.as_os_str().is_empty() && keep(above, true) == Keep::No) {
        return false;
    }
    let is_dir = matches!(node, Node::Dir { .. });
    match keep(path, is_dir) {
        Keep::Yes => true,
        Keep::No => false,
        Keep::Descend => {
            let mut inner = tree
                .iter()
                .filter(|(inner, _)| inner.parent() == Some(path));
            is_dir && inner.any(|(inner, node)| is_kept(tree, inner, node, keep))
        }
    }
}

/// What is kept beneath a directory.
fn beneath<'t>(tree: &'t Tree, path: &Path, keep: KeepFn<'_>) -> Vec<(&'t PathBuf, &'t Node)> {
    let inner = tree.iter();
    let inner = inner.filter(|(inner, _)| inner.as_path() != path && inner.starts_with(path));
    inner
        .filter(|(inner, node)| is_kept(tree, inner, node, keep))
        .collect()
}
