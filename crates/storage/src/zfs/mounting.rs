//! Mounts of zfs-fuse, one after the other.
//!
//! zfs-fuse (seen with 0.7.0) tells its threads of a new mount through a pipe, in several pieces. Two
//! mounts at the same moment mix them up, and from then on none of its file systems answers. So all
//! processes that agree on a file take turns with the commands that mount.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kleene_command::{Argv, CommandError, Output, Runner, Told};
use rustix::fs::{FlockOperation, flock};

/// What the kernel's ZFS is told commands by.
const KERNELS: &str = "/dev/zfs";

/// Held by who mounts.
const TURN: &str = "/run/kleene-zfs-fuse.lock";

/// Words after `zfs` or `zpool` that mount, or may.
const MOUNTING: [&str; 10] = [
    "create", "clone", "mount", "receive", "rename", "rollback", "set", "inherit", "import",
    "promote",
];

/// The runner for commands of this machine's ZFS.
pub(crate) fn zfs_runner(runner: Arc<dyn Runner>) -> Arc<dyn Runner> {
    match cfg!(target_os = "linux") && !Path::new(KERNELS).exists() {
        true => Arc::new(InTurn {
            runner,
            turn: PathBuf::from(TURN),
        }),
        false => runner,
    }
}

struct InTurn {
    runner: Arc<dyn Runner>,
    turn: PathBuf,
}

impl InTurn {
    /// Waits for the turn, which ends when the answer is dropped.
    fn wait_for(&self, command: &Argv) -> Option<File> {
        let word = command.arguments().first();
        let mounts = word.is_some_and(|word| MOUNTING.iter().any(|known| word == known));
        // Who may not write to the file may not mount either.
        mounts.then(|| self.take().ok()).flatten()
    }

    fn take(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.turn)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(file)
    }
}

impl Runner for InTurn {
    fn run(&self, command: &Argv) -> Result<Output, CommandError> {
        let _turn = self.wait_for(command);
        self.runner.run(command)
    }

    fn follow(&self, command: &Argv, told: Told<'_>) -> Result<Output, CommandError> {
        let _turn = self.wait_for(command);
        self.runner.follow(command, told)
    }

    fn pipe(&self, from: &Argv, to: &Argv) -> Result<Output, CommandError> {
        let _turn = self.wait_for(to);
        self.runner.pipe(from, to)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Says which command it was given, and goes on when it is told.
    struct Slow(SyncSender<String>);

    impl Runner for Slow {
        fn run(&self, command: &Argv) -> Result<Output, CommandError> {
            let word = command.arguments()[0].to_string_lossy().into_owned();
            self.0.send(word.clone()).unwrap();
            self.0.send(format!("{word} ends")).unwrap();
            Ok(Output::default())
        }

        fn follow(&self, command: &Argv, _: Told<'_>) -> Result<Output, CommandError> {
            self.run(command)
        }

        fn pipe(&self, _: &Argv, to: &Argv) -> Result<Output, CommandError> {
            self.run(to)
        }
    }

    #[test]
    fn mounts_wait_for_each_other_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        // Who says something waits until it is heard.
        let (say, hear) = mpsc::sync_channel(0);
        let runner = || InTurn {
            runner: Arc::new(Slow(say.clone())),
            turn: directory.path().join("turn"),
        };
        let run = |word: &'static str| {
            let runner = runner();
            thread::spawn(move || runner.run(&Argv::new("zfs").arg(word)).map(drop))
        };
        let first = run("create");
        assert_eq!(hear.recv().unwrap(), "create");
        // It is in the middle of it, as nobody hears that it ends.
        let second = run("mount");
        let turn = runner();
        let file = File::open(&turn.turn).unwrap();
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        assert_eq!(hear.recv().unwrap(), "create ends");
        assert_eq!(hear.recv().unwrap(), "mount");
        let third = run("list");
        let mut heard: Vec<String> = (0..3).map(|_| hear.recv().unwrap()).collect();
        heard.sort();
        assert_eq!(heard, ["list", "list ends", "mount ends"]);
        assert_eq!(
            hear.recv_timeout(Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        );
        for run in [first, second, third] {
            run.join().unwrap().unwrap();
        }
    }
}
