//! What can be seen of containers from outside: usage, processes, files, events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a running container has used since it was started. What the host doesn't measure is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContainerStats {
    /// The container.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When this was measured (RFC 3339, UTC).
    pub read: String,
    /// Processor time.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Processes and threads.
    pub pids: Option<PidsUsage>,
    /// Input and output on block devices.
    pub io: Option<IoUsage>,
    /// Interfaces of its own network, without loopback; empty when it uses the host's.
    pub network: Vec<InterfaceUsage>,
}

/// Processor time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CpuUsage {
    /// In all.
    pub total_us: u64,
    /// In programs.
    pub user_us: u64,
    /// In the kernel.
    pub system_us: u64,
    /// Kept waiting by its limit.
    pub throttled_us: u64,
    /// Processors that it may use.
    pub online: u32,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryUsage {
    /// In use, without pages of files that could be thrown away.
    pub used: u64,
    /// Pages of files that could be thrown away.
    pub reclaimable: u64,
    /// The most so far, with files' pages; 0 when it isn't known.
    pub peak: u64,
    /// Its limit, or the machine's memory.
    pub limit: u64,
    /// Processes that were killed because it had no memory left.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PidsUsage {
    /// How many there are.
    pub current: u64,
    /// How many there may be.
    pub limit: Option<u64>,
}

/// Input and output on block devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IoUsage {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// Traffic over one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceUsage {
    /// Its name inside.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessInfo {
    /// Its id on the host.
    pub pid: u32,
    /// Its id inside, where that is another one.
    pub inside_pid: Option<u32>,
    /// Its parent's id on the host.
    pub parent: u32,
    /// Its user: a name of the container's user database, or a number.
    pub user: String,
    /// One letter, as ps(1) shows it.
    pub state: String,
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Resident memory in bytes.
    pub resident: u64,
    /// When it was started (RFC 3339, UTC).
    pub started: String,
    /// Its terminal, where it has one.
    pub terminal: Option<String>,
    /// Program and arguments.
    pub command: String,
}

/// What is at a path in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathStat {
    /// The path's last component; `/` for the root.
    pub name: String,
    /// `file`, `directory`, `symlink` or `special`.
    pub kind: String,
    /// Permissions, with set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    /// Size in bytes, of a regular file.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the contents (RFC 3339, UTC).
    pub modified: String,
    /// Where a symbolic link leads, as it is written there.
    pub target: Option<String>,
    /// Of a symbolic link: the kind of what it leads to beneath the container's root, if anything.
    pub leads_to: Option<String>,
}

/// One difference between a container and its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Where. Bytes that aren't UTF-8 are replaced.
    pub path: String,
    /// `added`, `changed` or `deleted`.
    pub kind: String,
}

/// How a container ended that was waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitResponse {
    /// The container.
    pub id: String,
    /// Its exit code; 128 + the signal's number when a signal ended it.
    pub exit_code: i32,
    /// Whether one of its processes was killed because its memory limit was reached.
    pub out_of_memory: bool,
}

/// Something that happened: one line of `/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up by one; begins anew when the daemon's records of events are lost.
    pub sequence: u64,
    /// When (RFC 3339, UTC).
    pub time: String,
    /// `container`, `exec`, `image`, `volume` or `daemon`.
    pub kind: String,
    /// What: `create`, `start`, `die`, `oom`, `stop`, `kill`, `pause`, `unpause`, `restart`, `rename`,
    /// `update`, `remove`, `health`, `populate`, …
    pub action: String,
    /// Id of the object; the name of a volume.
    pub id: String,
    /// Its name, where it has one.
    pub name: String,
    /// More, by action: `exit_code`, `signal`, `image`, `health`, …
    pub attributes: BTreeMap<String, String>,
}
