//! The directory of execution instances: one directory each, as `kleene_monitor::status` describes it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kleene_monitor::status::{MONITOR_LOG, Status};
use kleene_types::ExecId;

/// Characters of a monitor's log that are quoted.
const QUOTED: u64 = 2000;

/// All execution instances that a monitor was started for and that weren't forgotten yet.
#[derive(Debug)]
pub struct Instances {
    directory: PathBuf,
}

impl Instances {
    /// Opens the directory, which is made (0700) if it is missing.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_private(directory)?;
        // Monitors have working directories of their own.
        Ok(Self {
            directory: fs::canonicalize(directory)?,
        })
    }

    /// What is beside the instances: no instance has such a name.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// An instance's directory.
    pub fn path(&self, exec: &ExecId) -> PathBuf {
        self.directory.join(exec.as_str())
    }

    /// Every instance that has a directory.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn all(&self) -> io::Result<Vec<ExecId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok();
            let exec = name.and_then(|name| name.parse().ok());
            if let Some(exec) = exec
                && entry.file_type()?.is_dir()
            {
                found.push(exec);
            }
        }
        Ok(found)
    }

    /// Makes an instance's directory.
    ///
    /// # Errors
    /// It can't be made, or is there already.
    pub fn create(&self, exec: &ExecId) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.path(exec))
    }

    /// Removes an instance's directory. Missing is success.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self, exec: &ExecId) -> io::Result<()> {
        match fs::remove_dir_all(self.path(exec)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// What is recorded of an instance.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn status(&self, exec: &ExecId) -> io::Result<Option<Status>> {
        Status::read(&self.path(exec))
    }

    /// What the instance's monitor has complained about.
    pub fn complaints(&self, exec: &ExecId) -> String {
        let mut text = String::new();
        let read = File::open(self.path(exec).join(MONITOR_LOG))
            .and_then(|log| log.take(QUOTED).read_to_string(&mut text));
        match read {
            Ok(1..) => text.trim().to_owned(),
            _ => "it left no message".to_owned(),
        }
    }
}

/// Makes a directory that is the daemon's alone.
///
/// # Errors
/// It can't be made.
pub fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}
