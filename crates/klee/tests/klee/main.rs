//! The real `klee` against a scripted daemon: output, errors and exit codes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic when something is wrong"
)]

mod archives;
mod attached;
mod builds;
mod common;
mod containers;
mod copying;
mod images;
mod lives;
mod logs;
mod networks;
mod reference;
mod registries;
mod settings;
mod signals;
mod tty;
mod volumes;
mod watching;
