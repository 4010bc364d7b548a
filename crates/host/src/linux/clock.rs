//! The machine's time and memory, in the units that `/proc` counts in.

use std::fs;

use kleene_types::Timestamp;

/// Ticks of this machine's accounting in microseconds.
pub fn microseconds(ticks: u64) -> u64 {
    // SAFETY: sysconf(3) takes a number and looks at nothing of ours.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // Every architecture has a hundred; -1 would mean that the C library doesn't know.
    let a_second = u64::try_from(a_second).unwrap_or(100).max(1);
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(a_second)).unwrap_or(u64::MAX)
}

/// The machine's memory in bytes.
pub fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// When the machine was started, by its present idea of the time. See `proc_uptime(5)`.
pub fn boot() -> Timestamp {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = uptime
        .split(' ')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0.0);
    let now = Timestamp::now();
    let boot = now.microseconds().saturating_sub((seconds * 1e6) as u64);
    Timestamp::from_microseconds(boot).unwrap_or(now)
}
