//! The suite over every room, and what is special about each of them. Needs root.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers may panic as well"
)]

mod changes;
mod dir;
mod dir_only;
mod dir_whole;
mod host_room;
mod memory;
mod zfs;
mod zfs_only;
