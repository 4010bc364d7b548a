//! File systems for tests.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use super::{run, scratch};

/// A file system that is mounted as long as this lives.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    _directory: TempDir,
}

impl Mounted {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached, so that a test that fails with an open file leaves no mount behind.
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("{} is still mounted: {error}", self.path.display());
        }
    }
}

/// A `tmpfs` with these options, such as `size=4m`.
///
/// # Panics
/// When it can't be mounted.
pub fn tmpfs(options: &str) -> Mounted {
    mount(scratch(), &["-t", "tmpfs", "-o", options, "tmpfs"])
}

/// A fresh btrfs on a sparse file.
///
/// # Panics
/// When `mkfs.btrfs` isn't installed, or the file system can't be mounted.
pub fn btrfs() -> Mounted {
    let directory = scratch();
    let image = directory.path().join("image");
    if let Err(error) = fs::File::create(&image).and_then(|file| file.set_len(1 << 30)) {
        panic!("{}: {error}", image.display());
    }
    let image = image.display().to_string();
    if let Err(error) = run(&["mkfs.btrfs", "--quiet", &image]) {
        panic!("no btrfs for the test: {error}");
    }
    mount(directory, &["-t", "btrfs", "-o", "loop", &image])
}

/// An overlay, on which no other overlay can have its upper directory.
///
/// # Panics
/// When it can't be mounted.
pub fn overlay() -> Mounted {
    let directory = scratch();
    let place = |name: &str| {
        let path = directory.path().join(name);
        match fs::create_dir(&path) {
            Ok(()) => path.display().to_string(),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    };
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        place("lower"),
        place("upper"),
        place("work")
    );
    mount(directory, &["-t", "overlay", "-o", &options, "overlay"])
}

fn mount(directory: TempDir, arguments: &[&str]) -> Mounted {
    let path = directory.path().join("mnt");
    let on = path.display().to_string();
    let made = fs::create_dir(&path)
        .map_err(|error| error.to_string())
        .and_then(|()| run(&[&["mount"], arguments, &[on.as_str()]].concat()));
    if let Err(error) = made {
        panic!("no file system for the test, which needs root: {error}");
    }
    Mounted {
        path,
        _directory: directory,
    }
}
