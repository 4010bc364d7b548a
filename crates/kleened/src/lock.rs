//! One daemon a Kleene root.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The lock's file beside the metadata.
const NAME: &str = "kleened.lock";

/// How long a daemon that ends is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Held as long as the daemon runs. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

/// Why the lock can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "another kleened ({holder}) works on this Kleene root: '{path}' is locked; stop that one \
         or configure another 'kleene_root'"
    )]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who, as far as is known.
        holder: String,
    },
    /// Anything else.
    #[error("locking '{path}' failed")]
    Failed {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DaemonLock {
    /// Takes the lock of the root whose metadata lies in `metadata`.
    ///
    /// # Errors
    /// [`LockError::Held`] naming the other daemon's process.
    pub fn take(metadata: &Path) -> Result<Self, LockError> {
        let path = metadata.join(NAME);
        let failed = |source| LockError::Failed {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match lock(&file) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    holder: holder(&mut file),
                    path,
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Takes the lock. A daemon that was killed a moment ago has it until its process is gone.
fn lock(file: &File) -> Result<(), Errno> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(PAUSE),
            other => return other,
        }
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The process that has the lock, as it wrote itself into the file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file
        .read_to_string(&mut text)
        .map(|_| text.trim().parse::<u32>())
    {
        Ok(Ok(pid)) => format!("process {pid}"),
        _ => "of an unknown process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_holder_and_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DaemonLock::take(directory.path()).unwrap();
        let message = DaemonLock::take(directory.path()).unwrap_err().to_string();
        let file = directory.path().join(NAME);
        assert!(message.contains(&file.display().to_string()), "{message}");
        assert!(
            message.contains(&format!("process {}", std::process::id())),
            "{message}"
        );
        drop(lock);
        DaemonLock::take(directory.path()).unwrap();
    }
}
