//! Layers of trees in memory.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use kleene_doors::host::HostError;
use kleene_doors::layers::{LayerApplied, LayerOptions, LayerPacked};
use kleene_tree::memory::{MemFs, Node};

use super::{archive, failed};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Counts what is read, and tells.
struct Told<'r> {
    from: &'r mut dyn Read,
    read: u64,
    progress: &'r mut dyn FnMut(u64) -> ControlFlow<()>,
    cancelled: bool,
}

impl Read for Told<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.read += read as u64;
        if (self.progress)(self.read).is_break() {
            self.cancelled = true;
            return Err(io::Error::other("cancelled"));
        }
        Ok(read)
    }
}

/// Applies a layer of files, directories and symbolic links to the directory `root`. Whiteouts spare
/// what the layer itself adds.
pub(super) fn apply(
    fs: &MemFs,
    root: &Path,
    from: &mut dyn Read,
    options: &LayerOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<LayerApplied, HostError> {
    let refused = |reason: String| HostError::Source(format!("applying a layer failed: {reason}"));
    let mut told = Told {
        from,
        read: 0,
        progress,
        cancelled: false,
    };
    let mut applied = LayerApplied::default();
    let mut added = BTreeSet::new();
    loop {
        let (name, node) = match archive::read_entry(&mut told) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(applied),
            Err(_) if told.cancelled => {
                return Err(HostError::Cancelled("applying a layer".to_owned()));
            }
            Err(error) => return Err(refused(error.to_string())),
        };
        let name = name.strip_prefix("/").unwrap_or(&name).to_owned();
        if name.components().any(|part| part == Component::ParentDir) {
            return Err(refused(format!("'{}' leads out", name.display())));
        }
        applied.entries += 1;
        if let Node::File { bytes, .. } = &node {
            applied.bytes += bytes.len() as u64;
        }
        let over = |limit: Option<u64>, value| limit.is_some_and(|limit| value > limit);
        if over(options.max_entries, applied.entries) || over(options.max_bytes, applied.bytes) {
            return Err(refused("it is larger than allowed".to_owned()));
        }
        entry(fs, root, &name, node, &mut added).map_err(refused)?;
    }
}

fn entry(
    fs: &MemFs,
    root: &Path,
    name: &Path,
    node: Node,
    added: &mut BTreeSet<PathBuf>,
) -> Result<(), String> {
    let path = root.join(name);
    let parent = path.parent().unwrap_or(root).to_owned();
    let last = name.file_name().unwrap_or_default().to_string_lossy();
    if last == OPAQUE {
        for child in fs.list(&parent) {
            hide(fs, &parent.join(child), added);
        }
    } else if let Some(hidden) = last.strip_prefix(WHITEOUT) {
        if matches!(hidden, "" | "." | "..") {
            return Err(format!("'{}' can't be gone", name.display()));
        }
        hide(fs, &parent.join(hidden), added);
    } else {
        match node {
            Node::Dir { mode } if fs.is_dir(&path) => fs.create_dir_with_mode(&path, mode),
            node => fs.put(&path, node),
        }
        added.insert(path);
    }
    Ok(())
}

/// Removes what is there, but for what has been added, and the directories that it is in.
fn hide(fs: &MemFs, path: &Path, added: &BTreeSet<PathBuf>) {
    if !added.iter().any(|added| added.starts_with(path)) {
        fs.remove_all(path);
        return;
    }
    for child in fs.list(path) {
        hide(fs, &path.join(child), added);
    }
}

/// Writes what makes the directory `root` of `below`.
pub(super) fn pack(
    fs: &MemFs,
    below: Option<&Path>,
    root: &Path,
    to: &mut dyn Write,
) -> Result<LayerPacked, HostError> {
    let mut packer = Packer {
        fs,
        to,
        packed: LayerPacked::default(),
    };
    let packed = packer
        .directory(below, root, Path::new(""))
        .and_then(|()| archive::write_end(packer.to));
    packed.map_err(|error| failed("packing a layer".to_owned(), error))?;
    Ok(packer.packed)
}

struct Packer<'p> {
    fs: &'p MemFs,
    to: &'p mut dyn Write,
    packed: LayerPacked,
}

impl Packer<'_> {
    fn directory(&mut self, below: Option<&Path>, root: &Path, name: &Path) -> io::Result<()> {
        let mut names: BTreeSet<String> = self.fs.list(root).into_iter().collect();
        names.extend(below.map(|below| self.fs.list(below)).unwrap_or_default());
        for child in names {
            let was = below.map(|below| below.join(&child));
            self.entry(was.as_deref(), &root.join(&child), &name.join(&child))?;
        }
        Ok(())
    }

    fn entry(&mut self, below: Option<&Path>, path: &Path, name: &Path) -> io::Result<()> {
        let was = below.and_then(|below| self.fs.node(below));
        match (was, self.fs.node(path)) {
            (None, None) => Ok(()),
            (Some(_), None) => {
                let last = name.file_name().unwrap_or_default().to_string_lossy();
                let whiteout = name.with_file_name(format!("{WHITEOUT}{last}"));
                let nothing = Node::File {
                    bytes: Vec::new(),
                    mode: 0,
                };
                self.packed.whiteouts += 1;
                self.write(&whiteout, &nothing)
            }
            (was, Some(is)) => {
                let was_dir = matches!(was, Some(Node::Dir { .. }));
                if was.as_ref() != Some(&is) {
                    self.write(name, &is)?;
                }
                match is {
                    Node::Dir { .. } => self.directory(below.filter(|_| was_dir), path, name),
                    _ => Ok(()),
                }
            }
        }
    }

    fn write(&mut self, name: &Path, node: &Node) -> io::Result<()> {
        self.packed.entries += 1;
        if let Node::File { bytes, .. } = node {
            self.packed.bytes += bytes.len() as u64;
        }
        archive::write_entry(self.to, name, node)
    }
}
