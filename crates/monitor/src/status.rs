//! What a monitor writes down about its process, for daemons that come later.
//!
//! An execution instance's directory holds the files named here; they belong to root alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use kleene_doors::host::ExitStatus;
use kleene_types::ContainerId;
use serde::{Deserialize, Serialize};

/// The Unix socket on which a running monitor serves clients.
pub const SOCKET: &str = "attach.sock";
/// The recorded [`Status`].
pub const STATUS: &str = "status.json";
/// What went wrong in the monitor itself: empty, as a rule.
pub const MONITOR_LOG: &str = "monitor.log";
/// The process's output, in the format of [`kleene_doors::log`]; there when there has been any.
pub const OUTPUT_LOG: &str = "output.log";
/// The part of the output that is older than [`OUTPUT_LOG`].
pub const OUTPUT_LOG_OLD: &str = "output.log.1";

const STATUS_TEMPORARY: &str = ".status.json";

/// A started process, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The container it runs in.
    pub container: ContainerId,
    /// Its id on the host.
    pub pid: u32,
    /// When it started: see [`start_time`]. 0 on FreeBSD, where its monitor alone is asked for it.
    pub start_time: u64,
    /// The boot of the machine to which `pid` and `start_time` belong. Empty on FreeBSD.
    pub boot_id: String,
    /// How it ended, with all that its end was to wait for.
    pub exit: Option<ExitStatus>,
    /// Whether it has ended itself, while others of its container live on.
    #[serde(default)]
    pub left: bool,
}

impl Status {
    /// Records the status in an instance's directory, whole or not at all. It isn't synced: after a
    /// power failure the process is gone anyway, and the boot id tells so.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join(STATUS_TEMPORARY);
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(temporary, directory.join(STATUS))
    }

    /// What is recorded; `None` when nothing is.
    ///
    /// # Errors
    /// The file can't be read or isn't a status.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join(STATUS)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// When a living process started, in clock ticks since the machine did (field 22 of
/// `/proc/PID/stat`, `proc_pid_stat(5)`); `None` when there is no such process, or it has ended and
/// only waits for its parent.
///
/// # Errors
/// `/proc` can't be read.
pub fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    parse_stat(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is malformed")))
}

/// Whether reading a file of `/proc/PID` failed because the process is gone: not there, or `ESRCH`.
pub fn gone(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// `Some(None)` for the dead. The name in parentheses may itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<Option<u64>> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((!dead).then_some(started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_are_found_behind_odd_names() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            parse_stat(&format!("7 (a) (b)) {fields}")),
            Some(Some(4711))
        );
        let zombie = fields.replace('S', "Z");
        assert_eq!(parse_stat(&format!("7 (sh) {zombie}")), Some(None));
        assert_eq!(parse_stat("7 (sh) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_start_time_is_known_and_nobodys_is_not() {
        assert!(start_time(std::process::id()).unwrap().is_some());
        assert_eq!(start_time(u32::MAX).unwrap(), None);
    }
}
