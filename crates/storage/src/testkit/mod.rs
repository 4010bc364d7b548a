//! What tests need of the machine: a ZFS pool of their own, scratch directories, mounts that go away.
//!
//! Nothing is skipped: where something is missing, the functions here panic with a message that says
//! what to install. All of it needs root.

#![allow(
    clippy::panic,
    reason = "a test that can't get what it needs has failed"
)]

mod daemon;
mod mounts;
mod pool;

pub use mounts::{Mounted, btrfs, overlay, tmpfs};
pub use pool::ZfsPool;

use std::path::Path;
use std::sync::Arc;

use kleene_command::{Argv, Runner as _, System};
use tempfile::TempDir;

use crate::zfs::mounting::zfs_runner;

/// An empty directory, in memory where there is such a place and `TMPDIR` doesn't say otherwise.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("kleene-");
    let made = if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    made.unwrap_or_else(|error| panic!("no scratch directory: {error}"))
}

/// Runs a program, and gives what it wrote.
fn run(words: &[&str]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let argv = Argv::new(program).args(arguments.iter().copied());
    match zfs_runner(Arc::new(System)).run(&argv) {
        Ok(output) => Ok(output.text()),
        Err(error) => Err(error.to_string()),
    }
}
