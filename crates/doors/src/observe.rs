//! What the host can tell about a running container.

use kleene_types::Timestamp;
use serde::{Deserialize, Serialize};

/// What a container has used since it was started. What the host doesn't measure is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
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

/// Processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuUsage {
    /// Microseconds in all.
    pub total_us: u64,
    /// Microseconds in programs.
    pub user_us: u64,
    /// Microseconds in the kernel.
    pub system_us: u64,
    /// Microseconds that it was kept waiting by its limit.
    pub throttled_us: u64,
    /// Processors that it may use.
    pub online: u32,
}

/// Memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Bytes in use, without pages of files that could be thrown away.
    pub used: u64,
    /// Bytes of files' pages that could be thrown away.
    pub reclaimable: u64,
    /// The largest number of bytes so far, with files' pages; 0 when it isn't known.
    pub peak: u64,
    /// What it may use: its limit, or the machine's memory.
    pub limit: u64,
    /// Processes that were killed because it had no memory left.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PidsUsage {
    /// How many there are.
    pub current: u64,
    /// How many there may be.
    pub limit: Option<u64>,
}

/// Input and output on block devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    pub state: char,
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Resident memory in bytes.
    pub resident: u64,
    /// When it was started.
    pub started: Timestamp,
    /// Its terminal, where it has one.
    pub terminal: Option<String>,
    /// Program and arguments; a kernel's or ended process's name stands in brackets.
    pub command: String,
}
