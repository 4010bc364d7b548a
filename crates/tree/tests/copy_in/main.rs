//! Copying into a tree as `COPY` and `ADD` do.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod contents;
mod digests;
mod places;
mod world;
