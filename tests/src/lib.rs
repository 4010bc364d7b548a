//! What the whole-system suites share: a private daemon on a scratch root, the command line to talk
//! to it, and a small image. The suites need root, and the programs built beforehand
//! (`cargo xtask test` sees to both).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::disallowed_types,
    reason = "this is test code: it may panic, and it starts the programs under test"
)]

mod context;
pub mod crash;
mod daemon;
mod image;
mod machine;
mod process;
mod programs;
pub mod transcript;

pub use context::Context;
pub use daemon::{Daemon, Outcome, Room, built};
pub use image::archive;
pub use machine::{Leaks, Traces};
pub use process::{Found, until};
pub use programs::{Buildah, Registry, run};
