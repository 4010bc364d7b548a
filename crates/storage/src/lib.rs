//! Storage rooms: where images, containers and volumes lie.
//!
//! Each room implements [`kleene_doors::storage::Storage`] and knows nothing of the others; one suite
//! of tests runs over all of them.

#[cfg(feature = "testkit")]
pub mod conformance;
pub mod dir;
pub mod memory;
pub mod select;
#[cfg(all(feature = "testkit", target_os = "linux"))]
pub mod testkit;
pub mod zfs;

/// The metadata database's file in the Kleene root.
const DATABASE: &str = "metadata.sqlite";

mod changes;
mod error;
mod lock;
mod mounts;

pub use dir::DirStorage;
pub use memory::MemoryStorage;
pub use select::{Driver, open};
pub use zfs::ZfsStorage;
