//! A ZFS pool in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::daemon::Daemon;
use super::{run, scratch};

/// Bytes of a pool unless told otherwise. The file is sparse.
const SIZE: u64 = 4 << 30;

/// What the names of test pools begin with; the process's id follows, an `x` and a number.
const PREFIX: &str = "kleenetest";

/// How long a pool may stay busy.
const DESTROY_LIMIT: Duration = Duration::from_secs(20);

/// A ZFS pool in a scratch directory, destroyed with everything in it when it is dropped.
///
/// ZFS is the kernel's where it has one; otherwise all tests of the machine share one `zfs-fuse`,
/// which is started for the first pool and stopped after the last. It mounts in the mount namespace
/// of the process that started it, so tests have to be in the same one.
#[derive(Debug)]
pub struct ZfsPool {
    name: String,
    directory: TempDir,
    /// Dropped after the pool is gone.
    _daemon: Daemon,
}

impl ZfsPool {
    /// Makes a pool of 4 GiB (in a sparse file) with nothing in it.
    ///
    /// # Panics
    /// With the reason when there is no ZFS, or the pool can't be made.
    pub fn create() -> Self {
        Self::with_size(SIZE)
    }

    /// As [`ZfsPool::create`], with a size in bytes; at least 64 MiB.
    ///
    /// # Panics
    /// As [`ZfsPool::create`].
    pub fn with_size(bytes: u64) -> Self {
        match Self::try_with_size(bytes) {
            Ok(pool) => pool,
            Err(error) => panic!("no ZFS pool for the test: {error}"),
        }
    }

    /// As [`ZfsPool::with_size`], for those who want to say it in their own words.
    ///
    /// # Errors
    /// Why there is none, and what to install.
    pub fn try_with_size(bytes: u64) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let daemon = Daemon::acquire(destroy_stale)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}x{number}", process::id());
        let directory = scratch();
        let image = directory.path().join("pool");
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .map_err(|error| format!("{}: {error}", image.display()))?;
        let mountpoint = directory.path().join("mnt").display().to_string();
        let image = image.display().to_string();
        let arguments = ["-o", "cachefile=none", "-m", &mountpoint, &name, &image];
        run(&[["zpool", "create"].as_slice(), &arguments].concat())?;
        Ok(Self {
            name,
            directory,
            _daemon: daemon,
        })
    }

    /// The pool's name, which is its topmost dataset's name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dataset `POOL/kleene`, which isn't there yet: a Kleene root.
    pub fn kleene_root(&self) -> String {
        format!("{}/kleene", self.name)
    }

    /// Where the topmost dataset is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// Runs `zfs` with these arguments, and gives what it wrote.
    ///
    /// # Errors
    /// What it complained of.
    pub fn zfs(&self, arguments: &[&str]) -> Result<String, String> {
        run(&[&["zfs"], arguments].concat())
    }
}

impl Drop for ZfsPool {
    fn drop(&mut self) {
        if let Err(error) = destroy(&self.name) {
            eprintln!("the pool '{}' was left behind: {error}", self.name);
        }
    }
}

/// Destroys a pool; its file systems are unmounted in the background, so it is busy at first.
///
/// Never by force: zfs-fuse doesn't survive that when a file is still open.
fn destroy(name: &str) -> Result<(), String> {
    let until = Instant::now() + DESTROY_LIMIT;
    let mut step = Duration::from_millis(2);
    loop {
        match run(&["zpool", "destroy", name]) {
            Ok(_) => return Ok(()),
            Err(error) if error.contains("no such pool") => return Ok(()),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(step),
        }
        step = (step * 2).min(Duration::from_millis(200));
    }
}

/// Destroys the pools of tests that were killed, and their files.
fn destroy_stale() -> Result<(), String> {
    for name in run(&["zpool", "list", "-H", "-o", "name"])?.lines() {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('x'))
            .map(|(owner, _)| Path::new("/proc").join(owner));
        if owner.is_none_or(|owner| owner.exists()) {
            continue;
        }
        let mountpoint = run(&["zfs", "get", "-H", "-o", "value", "mountpoint", name])?;
        destroy(name)?;
        if let Some(directory) = Path::new(mountpoint.trim()).parent() {
            // Only a directory that `scratch` has made is ours to remove.
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("kleene-") {
                fs::remove_dir_all(directory).map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}
