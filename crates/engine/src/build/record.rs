//! Records of what builds have made.

use kleene_store::{ImageRecord, ImageSnapshot, OperationId, Transaction};
use kleene_types::{ImageId, ImageName, ImageTag, SnapshotName, Timestamp};

use super::key::Key;
use super::stage::{Build, Stage, Tree};
use crate::events::NewEvent;
use crate::{Engine, EngineError};

/// A tag that images of failed builds have.
const FAILED: &str = "failed";

impl Engine {
    /// Records a finished build. What other stages have made is kept for the next build.
    pub(super) fn record_built(
        &self,
        build: &Build<'_>,
        stages: Vec<Stage>,
        operation: OperationId,
    ) -> Result<ImageId, EngineError> {
        let is_target = |stage: &Stage| stage.index == build.plan.target;
        let (target, others): (Vec<_>, Vec<_>) = stages.into_iter().partition(is_target);
        let mut target = target
            .into_iter()
            .next()
            .ok_or_else(|| EngineError::Conflict("the wanted stage was not built".to_owned()))?;
        let labels = build.new.labels.clone();
        target.settings.config.labels.extend(labels);
        let name = build.new.name.as_ref();
        let key = final_key(&target, name);
        let others = self.keep(others, true)?;
        if let Some(id) = self.built_before(build, &target, &key)? {
            self.record_kept(&others, operation)?;
            build.output.start(&id);
            return Ok(id);
        }
        target.open(build)?;
        let mut image = self.image_of(&target)?;
        image.reference.clone_from(&build.new.name);
        self.put_tagged_with(&image, |transaction| {
            put_kept(transaction, &others)?;
            put_snapshots(transaction, &target)?;
            let snapshot = ImageSnapshot {
                image: image.id.clone(),
                snapshot: SnapshotName::image(),
            };
            transaction.put_known_snapshot(key.as_str(), &snapshot)?;
            // Whoever gives no name wants any of them.
            let nameless = final_key(&target, None);
            transaction.put_known_snapshot(nameless.as_str(), &snapshot)?;
            transaction.finish(operation)
        })?;
        self.emit(NewEvent::image(
            "build",
            &image.id,
            image.reference.as_ref(),
        ));
        Ok(image.id)
    }

    /// The image of an earlier build that is the same in every respect. It gets the name, if it has
    /// none: an image has one name, and nobody's is taken away.
    fn built_before(
        &self,
        build: &Build<'_>,
        target: &Stage,
        key: &Key,
    ) -> Result<Option<ImageId>, EngineError> {
        if target.tree.is_some() || build.new.no_cache {
            return Ok(None);
        }
        let Some(known) = self.store.known_snapshot(key.as_str())? else {
            return Ok(None);
        };
        let named = self.recorded_image(&known.image).and_then(|image| {
            match (&build.new.name, image.reference) {
                (Some(wanted), Some(other)) if *wanted != other => Ok(None),
                (Some((name, tag)), None) => self
                    .image_tag(known.image.as_str(), name.clone(), tag.clone())
                    .map(Some),
                _ => Ok(Some(image.id)),
            }
        });
        match named {
            // Somebody has removed it in this moment.
            Err(EngineError::ImageNotFound(_)) => Ok(None),
            other => other,
        }
    }

    /// Records what a failed build has made: the failed stage as `NAME:failed`, what others have made
    /// for the next build.
    pub(super) fn record_failed(
        &self,
        build: &Build<'_>,
        stages: Vec<Stage>,
        failed: usize,
        cancelled: bool,
        operation: OperationId,
    ) -> Result<(), EngineError> {
        let is_failed = |stage: &Stage| stage.index == failed && !cancelled && stage.tree.is_some();
        let (failed, others): (Vec<_>, Vec<_>) = stages.into_iter().partition(is_failed);
        let others = self.keep(others, false)?;
        let Some(failed) = failed.into_iter().next() else {
            return self.record_kept(&others, operation);
        };
        let mut image = self.image_of(&failed)?;
        if let Some((name, _)) = &build.new.name {
            let tag = FAILED.parse();
            image.reference = tag.ok().map(|tag| (name.clone(), tag));
        }
        self.put_tagged_with(&image, |transaction| {
            put_kept(transaction, &others)?;
            put_snapshots(transaction, &failed)?;
            transaction.finish(operation)
        })
    }

    /// The images of stages that are kept for the next build: those that have snapshots of their own.
    /// The trees of others go.
    fn keep(
        &self,
        stages: Vec<Stage>,
        finished: bool,
    ) -> Result<Vec<(Stage, ImageRecord)>, EngineError> {
        let mut kept = Vec::new();
        for stage in stages {
            match &stage.tree {
                None => {}
                Some(tree) if tree.snapshots.is_empty() && !finished => {
                    self.discard(stage.dataset())?;
                }
                Some(_) => {
                    let image = ImageRecord {
                        build_cache: true,
                        ..self.image_of(&stage)?
                    };
                    kept.push((stage, image));
                }
            }
        }
        Ok(kept)
    }

    fn record_kept(
        &self,
        kept: &[(Stage, ImageRecord)],
        operation: OperationId,
    ) -> Result<(), EngineError> {
        Ok(self.store.write(|transaction| {
            transaction.defer_references()?;
            put_kept(transaction, kept)?;
            transaction.finish(operation)
        })?)
    }

    /// The image of a stage that has a tree; its last snapshot is taken.
    fn image_of(&self, stage: &Stage) -> Result<ImageRecord, EngineError> {
        let dataset = stage.dataset();
        self.take_snapshot(&dataset, &SnapshotName::image())?;
        let Tree { parent, .. } = stage.tree.clone().unwrap_or_default();
        Ok(ImageRecord {
            id: stage.id.clone(),
            reference: None,
            config: stage.settings.config.clone(),
            instructions: stage.instructions.clone(),
            created: Timestamp::now(),
            parent,
            platform: stage.platform.clone(),
            origin: None,
            history: Vec::new(),
            size: Some(self.storage.usage(&dataset)?),
            build_cache: false,
        })
    }
}

/// What an image is known by: its files, and everything that its record says of its containers.
/// What a whole image is known by. Each name has an image of its own.
fn final_key(stage: &Stage, name: Option<&(ImageName, ImageTag)>) -> Key {
    let config = serde_json::to_string(&stage.settings.config).unwrap_or_default();
    let name = name.map(|(name, tag)| format!("{name}:{tag}"));
    let key = stage.key.then("image").text(&config);
    key.texts(name.iter().map(String::as_str)).finish()
}

fn put_kept(
    transaction: &Transaction<'_>,
    kept: &[(Stage, ImageRecord)],
) -> Result<(), kleene_store::StoreError> {
    for (_, image) in kept {
        transaction.put_image(image)?;
    }
    kept.iter()
        .try_for_each(|(stage, _)| put_snapshots(transaction, stage))
}

fn put_snapshots(
    transaction: &Transaction<'_>,
    stage: &Stage,
) -> Result<(), kleene_store::StoreError> {
    let taken = stage.tree.iter().flat_map(|tree| &tree.snapshots);
    for (key, snapshot) in taken {
        let snapshot = ImageSnapshot {
            image: stage.id.clone(),
            snapshot: snapshot.clone(),
        };
        transaction.put_known_snapshot(key.as_str(), &snapshot)?;
    }
    Ok(())
}
