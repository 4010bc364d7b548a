//! Rooms behind the host door: processes in containers and what they see.
//!
//! `linux` starts processes through monitors of its own (`kleene-monitor`); [`fake`] is the same
//! door in memory, for tests of code above it. What a room for FreeBSD is built of is in
//! [`freebsd`].

pub mod allocator;
pub mod fake;
pub mod freebsd;
#[cfg(target_os = "linux")]
pub mod linux;
mod shared;

pub use shared::find_monitor;
