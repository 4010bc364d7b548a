//! Metadata: records of images, containers, volumes and execution instances, and the operation
//! journal, in one SQLite database.
//!
//! The in-memory twin that tests use is SQLite's own (`Store::in_memory`): the same statements run
//! in both, so there is nothing that could differ.

mod error;
mod journal;
mod migrations;
pub mod original;
mod records;
mod store;
mod transaction;

pub use error::StoreError;
pub use journal::{JournalEntry, OperationId, Run, Step};
pub use records::{
    ContainerRecord, ExecRecord, HistoryRecord, ImageConfig, ImageRecord, ImageSnapshot, LastRun,
    NetworkDriver, Origin, VolumeRecord,
};
pub use store::Store;
pub use transaction::Transaction;
