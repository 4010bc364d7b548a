//! Roots and mounts in memory.

use std::path::{Path, PathBuf};

use kleene_doors::host::{ContainerSetup, HostError, Mount, SourceKind, StartFailure};
use kleene_doors::storage::Root;
use kleene_tree::memory::MemFs;
use kleene_types::ContainerPath;

/// The directory that a root is.
pub(super) fn directory(root: &Root) -> Result<&Path, HostError> {
    match root {
        Root::Directory { path } => Ok(path),
        Root::Overlay { .. } => Err(HostError::Unsupported(
            "the in-memory host has no overlays: use a storage room whose roots are directories"
                .to_owned(),
        )),
    }
}

/// What a mount's source is.
pub(super) fn source_kind(fs: &MemFs, path: &Path) -> Result<SourceKind, HostError> {
    if fs.is_dir(path) {
        Ok(SourceKind::Directory)
    } else if fs.read(path).is_some() {
        Ok(SourceKind::File)
    } else {
        Err(HostError::Source(format!(
            "the mount's source '{}' doesn't exist: create it first",
            path.display()
        )))
    }
}

/// Whether `target` is or can become what a mount of such a source needs.
pub(super) fn check_target(
    fs: &MemFs,
    target: &Path,
    destination: &ContainerPath,
    source: SourceKind,
) -> Result<(), String> {
    let is = match (fs.exists(target), fs.is_dir(target)) {
        (true, true) => Some(SourceKind::Directory),
        (true, false) => Some(SourceKind::File),
        (false, _) => None,
    };
    if is.is_some_and(|is| is != source) {
        return Err(format!(
            "the destination '{destination}' doesn't match the mount's source: one is a directory, \
             the other a file"
        ));
    }
    let above = target.ancestors().skip(1).find(|path| fs.exists(path));
    if above.is_some_and(|above| !fs.is_dir(above)) {
        return Err(format!(
            "the destination '{destination}' lies beneath a file"
        ));
    }
    Ok(())
}

/// Checks a container's root and mounts, and makes the missing mount points.
pub(super) fn make(fs: &MemFs, setup: &ContainerSetup) -> Result<(), HostError> {
    let failure = |message| StartFailure { code: 125, message };
    let root = directory(&setup.root)?;
    if !fs.is_dir(root) {
        let message = format!("the container's root '{}' is missing", root.display());
        return Err(failure(message).into());
    }
    for (before, mount) in setup.mounts.iter().enumerate() {
        let kind = source_kind(fs, &mount.source).map_err(|error| failure(error.to_string()))?;
        let destination = Path::new(mount.destination.as_str());
        let earlier = setup.mounts.get(..before).unwrap_or_default();
        let target = resolve(root, earlier, destination);
        check_target(fs, &target, &mount.destination, kind).map_err(failure)?;
        match kind {
            SourceKind::Directory => fs.create_dir_all(&target),
            SourceKind::File if fs.exists(&target) => {}
            SourceKind::File => fs.write(&target, b""),
        }
    }
    Ok(())
}

/// The host's path of what a container with this setup sees at `path`.
pub(super) fn seen_at(setup: &ContainerSetup, path: &Path) -> Option<PathBuf> {
    let root = directory(&setup.root).ok()?;
    Some(resolve(root, &setup.mounts, path))
}

/// The mount that a path of the container lies on, if it doesn't lie on the root.
pub(super) fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let mut mounts = mounts.iter().rev();
    mounts.find(|mount| path.starts_with(mount.destination.as_str()))
}

/// The host's path of a container's path that has no links on its way.
pub(super) fn resolve(root: &Path, mounts: &[Mount], path: &Path) -> PathBuf {
    let on_mount = covering(mounts, path).and_then(|mount| {
        let rest = path.strip_prefix(mount.destination.as_str()).ok()?;
        Some((&mount.source, rest))
    });
    match on_mount {
        // Joining nothing would add a slash.
        Some((source, rest)) if rest.as_os_str().is_empty() => source.clone(),
        Some((source, rest)) => source.join(rest),
        None => root.join(path.strip_prefix("/").unwrap_or(path)),
    }
}
