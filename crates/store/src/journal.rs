//! The operation journal: what has to be done should an operation be cut short.
//!
//! Before an operation touches the machine it writes what would have to be undone (or finished). A
//! completed operation deletes its entries in the same transaction that writes its result. What is
//! still there when the daemon starts was cut short, and is carried out then, the latest entry first.
//! Every step is idempotent.

use kleene_types::{ContainerId, ExecId, ImageId, VolumeName};
use serde::{Deserialize, Serialize};

/// Names one running operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationId(pub(crate) i64);

/// One thing to do for an operation that was cut short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Destroy the dataset of a container that was being made.
    DiscardContainer(ContainerId),
    /// Destroy the dataset of an image that was being made.
    DiscardImage(ImageId),
    /// Destroy the dataset of a volume that was being made.
    DiscardVolume(VolumeName),
    /// Finish or undo the copying of a container's files into a volume.
    SettleVolume(VolumeName),
    /// Finish removing a container.
    RemoveContainer(ContainerId),
    /// End a run of a container whose start was never told to be done.
    EndRun(Run),
    /// End a process of a build, with the container that was made for it.
    EndBuild(Run),
    /// Finish stopping a run of a container.
    StopRun(Run),
    /// Finish stopping a run of a container, and start the container again.
    RestartRun(Run),
    /// Let a run of a container go on that was paused for a moment.
    ResumeRun(Run),
    /// Give a container the limits that its record has.
    SettleLimits(ContainerId),
    /// Finish removing an image.
    RemoveImage(ImageId),
    /// Finish removing a volume.
    RemoveVolume(VolumeName),
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// The container.
    pub container: ContainerId,
    /// The first execution instance of the run.
    pub init: ExecId,
}

/// A step with the operation that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The operation.
    pub operation: OperationId,
    /// What to do.
    pub step: Step,
}
