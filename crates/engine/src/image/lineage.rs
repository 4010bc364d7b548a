//! The snapshots that an image's tree is made of, from the first one of its ancestors on.
//!
//! An image is a clone of a snapshot of its parent. Its instructions name snapshots; those that it
//! shares with its parent were taken of the parent's dataset, or of that one's parent's.

use std::collections::HashSet;

use kleene_doors::storage::{Dataset, Root, Snapshot};
use kleene_store::{ImageRecord, ImageSnapshot, Step};
use kleene_types::{ImageId, SnapshotName};

use crate::{Engine, EngineError};

/// One step of an image's making that has left a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The snapshot taken after it.
    pub(crate) snapshot: ImageSnapshot,
    /// The instruction.
    pub(crate) instruction: String,
}

/// The dataset's snapshot that a record means.
pub(crate) fn of_dataset(snapshot: &ImageSnapshot) -> Snapshot {
    Snapshot {
        dataset: Dataset::Image(snapshot.image.clone()),
        name: snapshot.snapshot.clone(),
    }
}

impl Engine {
    /// An image's ancestors, the nearest first.
    pub(super) fn ancestors(&self, image: &ImageRecord) -> Result<Vec<ImageRecord>, EngineError> {
        let mut ancestors = Vec::new();
        let mut parent = image.parent.clone();
        while let Some(ImageSnapshot { image, .. }) = parent {
            let record = self.store.image(&image)?;
            let record = record.ok_or_else(|| EngineError::ImageNotFound(image.to_string()))?;
            parent = record.parent.clone();
            ancestors.push(record);
        }
        Ok(ancestors)
    }

    /// Where a snapshot that an image's instructions name has been taken; `None`: they don't.
    pub(crate) fn locate_snapshot(
        &self,
        image: &ImageRecord,
        name: &SnapshotName,
    ) -> Result<Option<ImageSnapshot>, EngineError> {
        let of = |image: &ImageRecord| ImageSnapshot {
            image: image.id.clone(),
            snapshot: name.clone(),
        };
        if *name == SnapshotName::image() {
            return Ok(Some(of(image)));
        }
        let knows = |image: &ImageRecord| image.named_snapshots().any(|(_, known)| known == name);
        if !knows(image) {
            return Ok(None);
        }
        let mut owner = image.clone();
        for ancestor in self.ancestors(image)? {
            match knows(&ancestor) {
                true => owner = ancestor,
                false => break,
            }
        }
        Ok(Some(of(&owner)))
    }

    /// The layers of an image, the lowest first. The last one is its `@image`.
    pub(crate) fn layers_of(&self, image: &ImageRecord) -> Result<Vec<Layer>, EngineError> {
        let mut chain = self.ancestors(image)?;
        chain.reverse();
        chain.push(image.clone());
        let mut layers: Vec<Layer> = Vec::new();
        let mut seen: HashSet<SnapshotName> = HashSet::new();
        let mut next = chain.iter().skip(1);
        for record in &chain {
            // How much of this one's tree the next one begins with.
            let until = next.next().and_then(|child| child.parent.as_ref());
            let until = until.map(|parent| parent.snapshot.clone());
            let until = until.unwrap_or_else(SnapshotName::image);
            let own = record.named_snapshots();
            let own = own.filter(|(_, name)| !seen.contains(*name));
            let mut own: Vec<Layer> = own
                .map(|(line, name)| layer(&record.id, name, line))
                .collect();
            match own.iter().position(|it| it.snapshot.snapshot == until) {
                Some(index) => own.truncate(index + 1),
                None => own.push(layer(&record.id, &until, "")),
            }
            seen.extend(own.iter().map(|it| it.snapshot.snapshot.clone()));
            layers.extend(own);
        }
        Ok(layers)
    }

    /// Has `work` done with the tree of a snapshot, which it may change: nothing of it stays.
    pub(crate) fn with_snapshot<T>(
        &self,
        snapshot: &ImageSnapshot,
        work: impl FnOnce(&Root) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let dataset = ImageId::random();
        let operation = self
            .store
            .begin_soon(&[Step::DiscardImage(dataset.clone())], |_| Ok(()))?;
        let dataset = Dataset::Image(dataset);
        let done = self
            .storage
            .clone_snapshot(&of_dataset(snapshot), &dataset)
            .and_then(|()| self.storage.root(&dataset))
            .map_err(EngineError::from)
            .and_then(|root| work(&root));
        self.discard(dataset)?;
        self.end_operation(Some(operation));
        done
    }
}

fn layer(image: &ImageId, snapshot: &SnapshotName, instruction: &str) -> Layer {
    Layer {
        snapshot: ImageSnapshot {
            image: image.clone(),
            snapshot: snapshot.clone(),
        },
        instruction: instruction.to_owned(),
    }
}
