//! Why a program didn't succeed.

use std::fmt;
use std::io;
use std::time::Duration;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It returned this status.
    Status(i32),
    /// A signal of this number ended it.
    Signal(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "failed with exit status {status}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// Why a program didn't succeed. `command` is the program with its arguments as a person would type
/// it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program isn't installed.
    #[error("the program '{program}' isn't installed: {remedy}")]
    NotFound {
        /// The program.
        program: String,
        /// How to get it.
        remedy: String,
    },
    /// The program is there but could not be started.
    #[error("`{command}` can't be started")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended with anything but success.
    #[error("`{command}` {ending}{}", complaint(.stderr))]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        ending: Ending,
        /// What it wrote to its standard error, trimmed; what it wrote to its standard output when
        /// that is nothing.
        stderr: String,
    },
    /// It took too long and was killed together with its children.
    #[error("`{command}` was killed because it took longer than {}", seconds(.limit))]
    TimedOut {
        /// The command.
        command: String,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// It wrote too much and was killed together with its children.
    #[error("`{command}` was killed because it wrote more than {limit} bytes")]
    TooMuchOutput {
        /// The command.
        command: String,
        /// How much it was allowed to write.
        limit: usize,
    },
    /// The caller wanted no more of it; it was killed together with its children.
    #[error("`{command}` was cancelled")]
    Cancelled {
        /// The command.
        command: String,
    },
    /// Talking to the running program failed.
    #[error("`{command}` can't be watched")]
    Watch {
        /// The command.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A test's script doesn't have this command here.
    #[error("the script has no `{command}` here; it goes on with {next}")]
    Unscripted {
        /// The command.
        command: String,
        /// What the script has instead.
        next: String,
    },
}

impl CommandError {
    /// What the program said, on its standard error mostly, when it ran and failed on its own account.
    pub fn stderr(&self) -> Option<&str> {
        match self {
            Self::Failed { stderr, .. } => Some(stderr),
            _ => None,
        }
    }
}

/// What a program said, in one line.
fn complaint(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(": {}", lines.join("; "))
    }
}

fn seconds(limit: &Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

/// How to get a program that isn't there.
pub(crate) fn remedy(program: &str) -> String {
    let package = match program {
        "zfs" | "zpool" if cfg!(target_os = "linux") => {
            "zfsutils-linux (or zfs-fuse where the kernel has no ZFS module)"
        }
        "zfs-fuse" => "zfs-fuse",
        "nft" => "nftables",
        "ip" => "iproute2",
        "mount" | "umount" | "losetup" | "unshare" | "nsenter" | "setpriv" => {
            "mount and util-linux"
        }
        "tar" => "tar",
        "xz" => "xz-utils",
        "crun" => "crun",
        "runc" => "runc",
        "busybox" => "busybox-static",
        "mkfs.btrfs" | "btrfs" => "btrfs-progs",
        "mkfs.ext4" => "e2fsprogs",
        "mkfs.xfs" => "xfsprogs",
        _ => return "install it, or add its directory to the daemon's PATH".to_owned(),
    };
    format!("install the package {package}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_everything() {
        let failed = CommandError::Failed {
            command: "zfs create p/k".into(),
            ending: Ending::Status(1),
            stderr: "cannot mount '/p/k'\nfilesystem created, but not mounted".into(),
        };
        assert_eq!(
            failed.to_string(),
            "`zfs create p/k` failed with exit status 1: cannot mount '/p/k'; \
             filesystem created, but not mounted"
        );
        let timed_out = CommandError::TimedOut {
            command: "sleep 9".into(),
            limit: Duration::from_millis(1500),
        };
        assert_eq!(
            timed_out.to_string(),
            "`sleep 9` was killed because it took longer than 1.5 s"
        );
        assert!(remedy("zfs-fuse").contains("package zfs-fuse"));
        assert!(remedy("nonsense").contains("PATH"));
    }
}
