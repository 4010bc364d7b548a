//! Processes in containers, seen from the host.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long what must come is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that was found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pid: u32,
    /// The id of its container, which its cgroups are named after.
    pub container: String,
}

impl Found {
    /// Waits until a process with this command line runs in a container.
    pub fn wait_for(command: &str) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = Self::look(command) {
                return found;
            }
            assert!(Instant::now() < deadline, "'{command}' never runs");
            std::thread::yield_now();
        }
    }

    fn look(command: &str) -> Option<Self> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find_map(|pid| {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            let group = groups.lines().find_map(|line| line.split_once("/kleene/"));
            let same = words.trim_end_matches('\0').replace('\0', " ") == command;
            let container = group?.1.to_owned();
            same.then_some(Self { pid, container })
        })
    }

    /// Whether it is still there.
    pub fn is_there(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never happens: {what}");
        std::thread::yield_now();
    }
}
