//! Mount points on the file system.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kleene_doors::host::{HostError, SourceKind};
use kleene_tree::{TreeError, create_dirs_in_root, create_file_in_root, resolve_in_root};
use kleene_types::ContainerPath;
use rustix::fs::{Mode, OFlags};

use super::seams::Places;
use crate::shared::{failed, inspect_source};

/// The real ones.
#[derive(Debug, Default)]
pub struct OnDisk;

impl Places for OnDisk {
    fn source(&self, path: &Path) -> Result<(PathBuf, SourceKind), HostError> {
        let kind = inspect_source(path)?;
        let found = path.canonicalize();
        let found = found.map_err(failed(format!("finding '{}'", path.display())))?;
        Ok((found, kind))
    }

    fn mount_point(
        &self,
        root: &Path,
        destination: &ContainerPath,
        kind: SourceKind,
    ) -> Result<PathBuf, HostError> {
        let opened = open(root).map_err(failed(format!("opening '{}'", root.display())))?;
        let path = destination.beneath();
        let made = match kind {
            SourceKind::Directory => create_dirs_in_root(opened.as_fd(), path, 0o755).map(drop),
            SourceKind::File => create_file_in_root(opened.as_fd(), path, 0o644).map(drop),
        };
        let found = made.and_then(|()| resolve_in_root(opened.as_fd(), path));
        Ok(root.join(found.map_err(|error| refusal(destination, error))?))
    }
}

fn open(root: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root, flags, Mode::empty())?)
}

fn refusal(destination: &ContainerPath, error: TreeError) -> HostError {
    let action = format!("making the mount point '{destination}' in the container");
    match error {
        TreeError::NoSpace { .. } => HostError::NoSpace(action),
        TreeError::NotADirectory { .. }
        | TreeError::IsADirectory { .. }
        | TreeError::LoopedLinks { .. } => HostError::Source(format!(
            "can't mount on '{destination}' in the container: {error}"
        )),
        error => HostError::Failed {
            action,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn point(root: &Path, path: &str, kind: SourceKind) -> Result<PathBuf, HostError> {
        OnDisk.mount_point(root, &path.parse().unwrap(), kind)
    }

    #[test]
    fn mount_points_are_made_beneath_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().canonicalize().unwrap();
        let root = outside.join("root");
        fs::create_dir_all(root.join("data/web")).unwrap();
        symlink("/data/web", root.join("www")).unwrap();
        symlink("../../../..", root.join("up")).unwrap();
        symlink("/escape", root.join("dangling")).unwrap();
        for (path, kind, wanted) in [
            ("/data", SourceKind::Directory, "data"),
            ("/new/deep", SourceKind::Directory, "new/deep"),
            ("/www/x", SourceKind::Directory, "data/web/x"),
            ("/www/file", SourceKind::File, "data/web/file"),
            ("/up/here", SourceKind::Directory, "here"),
            ("/dangling", SourceKind::Directory, "escape"),
        ] {
            let found = point(&root, path, kind).unwrap();
            assert_eq!(found, root.join(wanted), "{path}");
            assert_eq!(found.is_dir(), kind == SourceKind::Directory, "{path}");
        }
        assert!(!outside.join("escape").exists() && !outside.join("here").exists());
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("round", root.join("round")).unwrap();
        for (path, kind) in [
            ("/file/x", SourceKind::Directory),
            ("/file", SourceKind::Directory),
            ("/round", SourceKind::File),
        ] {
            let error = point(&root, path, kind).unwrap_err();
            assert!(
                matches!(&error, HostError::Source(text) if text.contains(path)),
                "{error}"
            );
        }
        fs::create_dir(root.join("dir")).unwrap();
        point(&root, "/dir", SourceKind::File).unwrap_err();
    }
}
