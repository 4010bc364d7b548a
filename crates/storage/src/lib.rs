//! Storage rooms: where images, containers and volumes lie.
//!
//! Each room implements [`kleene_doors::storage::Storage`] and knows nothing of the others; one suite
//! of tests runs over all of them.

pub mod dir;
pub mod memory;

mod error;

pub use dir::DirStorage;
pub use memory::MemoryStorage;
