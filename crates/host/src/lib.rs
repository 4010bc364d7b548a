//! Rooms behind the host door: processes in containers and what they see.
//!
//! `linux` starts processes through monitors of its own (`kleene-monitor`); [`fake`] is the same
//! door in memory, for tests of code above it. A room for FreeBSD (jails) comes with its own
//! module.

pub mod allocator;
pub mod fake;
#[cfg(target_os = "linux")]
pub mod linux;
