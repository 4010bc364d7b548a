//! Unpacking archives: honest ones completely, hostile ones not at all.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod archive;
mod honest;
mod hostile;
mod layers;
