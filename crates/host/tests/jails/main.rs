//! The FreeBSD room over a simulated FreeBSD: which commands it runs, and what it leaves behind when
//! they fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod conformance;
mod deaths;
mod failures;
mod golden;
mod lives;
mod mounts;
mod world;
