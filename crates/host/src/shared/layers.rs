//! Layers of images: applied to and made of roots that are mounted for nobody else.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kleene_doors::host::HostError;
use kleene_doors::layers::{LayerApplied, LayerOptions, LayerPacked};
use kleene_doors::storage::Root;
use kleene_tree::{LayerOf, TreeError, UnpackOptions};
use rustix::fs::{Mode, OFlags};

use super::failed;
use super::roots::{open_root, open_root_read_only};

/// Applies a layer.
///
/// # Errors
/// As [`kleene_doors::host::Host::apply_layer`].
pub fn apply(
    root: &Root,
    from: &mut dyn Read,
    options: &LayerOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<LayerApplied, HostError> {
    let root = open_root(root)?;
    let options = UnpackOptions {
        max_bytes: options.max_bytes,
        max_apparent: options.max_apparent,
        max_entries: options.max_entries,
        max_holes: options.max_holes,
        ..UnpackOptions::default()
    };
    let applied = kleene_tree::apply_layer(from, root.as_fd(), &options, progress);
    let applied = applied.map_err(|error| failure(error, "applying a layer"))?;
    if applied.skipped_xattrs > 0 {
        let count = applied.skipped_xattrs;
        tracing::warn!(count, "extended attributes of a layer were left out");
    }
    Ok(LayerApplied {
        entries: applied.entries,
        bytes: applied.bytes,
        skipped_devices: applied.skipped_devices,
        skipped_xattrs: applied.skipped_xattrs,
    })
}

/// Packs what makes one root of another.
///
/// # Errors
/// As [`kleene_doors::host::Host::pack_layer`].
pub fn pack(
    below: Option<&Root>,
    root: &Root,
    to: &mut dyn Write,
) -> Result<LayerPacked, HostError> {
    let apart = match below.and_then(|below| layers_apart(below, root)) {
        Some(paths) => Some(open_all(&paths)?),
        None => None,
    };
    let below = below.map(open_root_read_only).transpose()?;
    let root = open_root_read_only(root)?;
    let layer = LayerOf {
        below: below.as_ref().map(AsFd::as_fd),
        root: root.as_fd(),
        apart: apart.as_deref(),
    };
    let packed = kleene_tree::pack_layer(&layer, to);
    let packed = packed.map_err(|error| failure(error, "packing a layer"))?;
    if packed.changed > 0 {
        let count = packed.changed;
        tracing::warn!(count, "files changed their size while a layer was packed");
    }
    Ok(LayerPacked {
        entries: packed.entries,
        bytes: packed.bytes,
        whiteouts: packed.whiteouts,
    })
}

/// The layers that only one of two overlays has; `None` when they have none in common, or aren't
/// overlays.
fn layers_apart(one: &Root, other: &Root) -> Option<Vec<PathBuf>> {
    let stack = |root: &Root| match root {
        Root::Directory { .. } => None,
        Root::Overlay { lower, upper, .. } => {
            let mut stack: Vec<PathBuf> = lower.iter().rev().cloned().collect();
            stack.push(upper.clone());
            Some(stack)
        }
    };
    let (one, other) = (stack(one)?, stack(other)?);
    let common = one
        .iter()
        .zip(&other)
        .take_while(|(one, other)| one == other)
        .count();
    if common == 0 {
        return None;
    }
    let rest = one.into_iter().skip(common);
    Some(rest.chain(other.into_iter().skip(common)).collect())
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, HostError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &PathBuf| {
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| failed(opening(path))(errno.into()))
    };
    paths.iter().map(open).collect()
}

fn opening(path: &Path) -> String {
    format!("opening the layer '{}'", path.display())
}

/// What went wrong with a layer.
fn failure(error: TreeError, action: &str) -> HostError {
    let action = action.to_owned();
    match error {
        TreeError::NoSpace { .. } => HostError::NoSpace(action),
        TreeError::Cancelled => HostError::Cancelled(action),
        TreeError::Hostile { .. }
        | TreeError::NotAnArchive { .. }
        | TreeError::Truncated { .. }
        | TreeError::NotInLayers { .. }
        | TreeError::NotADirectory { .. }
        | TreeError::IsADirectory { .. } => HostError::Source(format!("{action} failed: {error}")),
        error => HostError::Failed {
            action,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_only_one_has() {
        let overlay = |lower: &[&str], upper: &str| Root::Overlay {
            lower: lower.iter().map(PathBuf::from).collect(),
            upper: upper.into(),
            work: "/work".into(),
        };
        let paths = |paths: &[&str]| Some(paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        let base = overlay(&["/b", "/a"], "/base-top");
        let next = overlay(&["/c", "/b", "/a"], "/next-top");
        let apart = layers_apart(&base, &next);
        assert_eq!(apart, paths(&["/base-top", "/c", "/next-top"]));
        assert_eq!(layers_apart(&base, &base), paths(&[]));
        assert_eq!(layers_apart(&base, &overlay(&["/x"], "/y")), None);
        let directory = Root::Directory { path: "/a".into() };
        assert_eq!(layers_apart(&base, &directory), None);
    }
}
