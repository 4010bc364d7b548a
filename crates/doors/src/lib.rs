//! The doors: traits through which the engine reaches the machine, with the plain data that passes
//! through them.
//!
//! The consumer owns its doors: the engine is written against this crate alone, and the rooms
//! (`kleene-storage`, `kleene-host`, `kleene-userland`) implement it without knowing each other.

pub mod distribution;
pub mod files;
pub mod frames;
pub mod host;
pub mod layers;
pub mod log;
pub mod observe;
pub mod storage;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod userland;
