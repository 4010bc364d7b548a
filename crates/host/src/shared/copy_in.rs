//! Files that builds copy into a root.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use kleene_doors::host::HostError;
use kleene_doors::layers::{CopiedIn, CopyIn, CopySource, Keep, KeepFn};
use kleene_monitor::owner_of;
use kleene_tree::{Copied, CopyFrom, CopyInto, TreeError};
use rustix::fs::{Mode, OFlags};

use super::failed;
use super::roots::{open_root, open_root_read_only};

/// Read from an archive at once.
const CHUNK: usize = 256 << 10;

/// Copies files in.
///
/// # Errors
/// As [`kleene_doors::host::Host::copy_in`].
pub fn copy_in(copy: &CopyIn<'_>) -> Result<CopiedIn, HostError> {
    let root = open_root(copy.root)?;
    let own = match copy.from {
        CopySource::Root(_) => None,
        CopySource::Directory(_) | CopySource::Inline(_) => Some((0, 0)),
    };
    let owner = match copy.owner {
        Some(owner) => Some(
            owner_of(root.as_fd(), owner).map_err(|failure| HostError::Source(failure.message))?,
        ),
        None => own,
    };
    let opened = open(&copy.from)?;
    let from = source(&copy.from, opened.as_ref(), copy.sources);
    let into = CopyInto {
        root: root.as_fd(),
        destination: copy.destination,
        filter: Some(&|path, is_dir| keep(copy.keep, path, is_dir)),
        owner,
        mode: copy.mode,
        parents: copy.parents,
        archives: if copy.unpack {
            Some(&decompressed)
        } else {
            None
        },
        progress: Some(&|copied: &Copied| (copy.progress)(copied.bytes)),
    };
    let copied = kleene_tree::copy_in(&from, &into);
    let copied = copied.map_err(|error| {
        let action = format!("copying to '{}'", copy.destination);
        failure(error, action)
    })?;
    if copied.skipped_xattrs > 0 {
        let (count, destination) = (copied.skipped_xattrs, copy.destination);
        tracing::warn!(destination, count, "extended attributes were left out");
    }
    Ok(CopiedIn {
        entries: copied.entries,
        bytes: copied.bytes,
        skipped: copied.skipped,
    })
}

/// A digest of what would be copied in.
///
/// # Errors
/// As [`kleene_doors::host::Host::digest_sources`].
pub fn digest(
    from: &CopySource<'_>,
    sources: &[String],
    keep_fn: KeepFn<'_>,
) -> Result<[u8; 32], HostError> {
    let opened = open(from)?;
    let tree = source(from, opened.as_ref(), sources);
    let owners = matches!(from, CopySource::Root(_));
    let filter = &|path: &Path, is_dir: bool| keep(keep_fn, path, is_dir);
    kleene_tree::digest_sources(&tree, Some(filter), owners)
        .map_err(|error| failure(error, format!("reading '{}'", sources.join("', '"))))
}

/// The directory that sources are resolved beneath.
fn open(from: &CopySource<'_>) -> Result<Option<OwnedFd>, HostError> {
    match from {
        CopySource::Inline(_) => Ok(None),
        CopySource::Root(root) => open_root_read_only(root).map(Some),
        CopySource::Directory(path) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(*path, flags, Mode::empty()).map(Some);
            let action = || format!("opening the build context '{}'", path.display());
            opened.map_err(|errno| failed(action())(errno.into()))
        }
    }
}

fn source<'a>(
    from: &CopySource<'a>,
    opened: Option<&'a OwnedFd>,
    sources: &'a [String],
) -> CopyFrom<'a> {
    match (from, opened.map(AsFd::as_fd)) {
        (CopySource::Inline(files), _) => CopyFrom::Inline(files),
        (_, Some(root)) => CopyFrom::Tree { root, sources },
        (_, None) => CopyFrom::Inline(&[]),
    }
}

fn keep(keep: KeepFn<'_>, path: &Path, is_dir: bool) -> kleene_tree::Keep {
    match keep(path, is_dir) {
        Keep::Yes => kleene_tree::Keep::Yes,
        Keep::No => kleene_tree::Keep::No,
        Keep::Descend => kleene_tree::Keep::Descend,
    }
}

/// Reads a file decompressed, whatever it is compressed with.
fn decompressed(file: File) -> io::Result<Box<dyn Read>> {
    let mut head = [0; kleene_compress::HEAD];
    let length = file.read_at(&mut head, 0)?;
    let compression = kleene_compress::compression(head.get(..length).unwrap_or_default());
    kleene_compress::decoder(compression, BufReader::with_capacity(CHUNK, file))
}

/// What went wrong with a copy.
fn failure(error: TreeError, action: String) -> HostError {
    HostError::Source(match error {
        TreeError::NoSpace { .. } => return HostError::NoSpace(action),
        TreeError::Cancelled => return HostError::Cancelled(action),
        TreeError::NoSource { pattern } => format!(
            "there is no '{pattern}' to copy, or it is excluded: paths are relative to the root of \
             the build context or image, and never lead out of it"
        ),
        TreeError::Exists { path } | TreeError::NotADirectory { path } => format!(
            "'{}' can't be replaced while {action}: a directory replaces nothing but a directory, and \
             nothing else replaces one",
            path.display()
        ),
        TreeError::Hostile { .. }
        | TreeError::Truncated { .. }
        | TreeError::LoopedLinks { .. }
        | TreeError::OutsideRoot { .. }
        | TreeError::IsADirectory { .. } => format!("{action} failed: {error}"),
        error => {
            return HostError::Failed {
                action,
                source: Box::new(error),
            };
        }
    })
}
