//! The host's files that a user may want in an image.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use kleene_doors::userland::{Extras, UserlandError};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{io_error, tree_error};

/// Puts the wanted files into the image at `into`, in place of what it has there.
///
/// A host without such a file has nothing to give: that's no error.
pub(crate) fn apply(extras: Extras, into: &Path) -> Result<(), UserlandError> {
    for (wanted, name) in [
        (extras.resolv_conf, "resolv.conf"),
        (extras.localtime, "localtime"),
    ] {
        if wanted {
            copy_into_etc(Path::new("/etc"), name, into)?;
        }
    }
    Ok(())
}

fn copy_into_etc(from: &Path, name: &str, into: &Path) -> Result<(), UserlandError> {
    let action = || format!("copying {} into the image", from.join(name).display());
    let content = match fs::read(from.join(name)) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(action(), error)),
    };
    let root = File::open(into).map_err(|error| io_error(action(), error))?;
    let etc = kleene_tree::create_dirs_in_root(root.as_fd(), Path::new("etc"), 0o755)
        .map_err(|error| tree_error(action(), error))?;
    replace(etc.as_fd(), name, &content).map_err(|error| io_error(action(), error))
}

/// Removes the entry `name`, if it is there.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Replaces the entry `name`, which may be a link to anywhere, by a file.
pub(crate) fn replace(dir: BorrowedFd<'_>, name: &str, content: &[u8]) -> io::Result<()> {
    remove(dir, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, mode)?);
    rustix::fs::fchmod(&file, mode)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, outside, into) = (
            dir.path().join("from"),
            dir.path().join("outside"),
            dir.path().join("into"),
        );
        for made in [&from, &outside, &into] {
            fs::create_dir(made).unwrap();
        }
        fs::write(from.join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        fs::write(outside.join("resolv.conf"), "precious").unwrap();
        fs::create_dir(into.join("real-etc")).unwrap();
        symlink("/real-etc", into.join("etc")).unwrap();
        symlink(
            outside.join("resolv.conf"),
            into.join("real-etc/resolv.conf"),
        )
        .unwrap();
        copy_into_etc(&from, "resolv.conf", &into).unwrap();
        assert_eq!(
            fs::read_to_string(outside.join("resolv.conf")).unwrap(),
            "precious"
        );
        let copy = into.join("real-etc/resolv.conf");
        assert!(fs::symlink_metadata(&copy).unwrap().is_file());
        assert_eq!(fs::read_to_string(copy).unwrap(), "nameserver 192.0.2.1\n");
        copy_into_etc(&from, "localtime", &into).unwrap();
        assert!(!into.join("real-etc/localtime").exists());
    }
}
