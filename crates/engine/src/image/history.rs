//! How images were made.

use kleene_store::{HistoryRecord, ImageRecord};
use kleene_types::{ImageId, SnapshotName};

use crate::{Engine, EngineError};

/// One step of the making of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryView {
    /// The image that the step belongs to: the image itself, or one that it was made of.
    pub image: ImageId,
    /// The snapshot taken after it.
    pub snapshot: Option<SnapshotName>,
    /// When (RFC 3339); empty: unknown.
    pub created: String,
    /// The instruction or command.
    pub created_by: String,
    /// What was noted.
    pub comment: String,
}

impl Engine {
    /// The steps by which an image was made, the latest first, and those of the images that it was
    /// made of.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`].
    pub fn image_history(&self, reference: &str) -> Result<Vec<HistoryView>, EngineError> {
        let image = self.find_image_by_text(reference)?;
        let mut lineage = self.ancestors(&image)?;
        lineage.insert(0, image);
        let mut history = Vec::new();
        // How an image's list comes into its child's: not at all when the child repeats it.
        let mut part = Part::Whole;
        for image in &lineage {
            let told = steps(image, &part);
            history.extend(told.into_iter().rev());
            if tells_everything(image) {
                break;
            }
            part = match &image.parent {
                Some(parent) if names(image, &parent.snapshot) => Part::Nothing,
                Some(parent) => Part::Until(parent.snapshot.clone()),
                None => Part::Nothing,
            };
        }
        Ok(history)
    }
}

/// How much of an image's instructions an image that was made of it tells, too.
enum Part {
    Nothing,
    Until(SnapshotName),
    Whole,
}

fn names(image: &ImageRecord, snapshot: &SnapshotName) -> bool {
    image.named_snapshots().any(|(_, name)| name == snapshot)
}

/// Images from elsewhere bring the whole history, whatever their layers are clones of.
fn tells_everything(image: &ImageRecord) -> bool {
    !image.history.is_empty() && !image.instructions.is_empty()
}

fn steps(image: &ImageRecord, part: &Part) -> Vec<HistoryView> {
    if let Part::Nothing = part {
        return Vec::new();
    }
    if !image.history.is_empty() {
        let view = |step: &HistoryRecord| HistoryView {
            image: image.id.clone(),
            snapshot: None,
            created: step.created.clone(),
            created_by: step.created_by.clone(),
            comment: step.comment.clone(),
        };
        return image.history.iter().map(view).collect();
    }
    let mut steps: Vec<HistoryView> = Vec::new();
    for (line, snapshot) in &image.instructions {
        steps.push(HistoryView {
            image: image.id.clone(),
            snapshot: snapshot.clone(),
            created: image.created.to_string(),
            created_by: line.clone(),
            comment: String::new(),
        });
        if let (Part::Until(last), Some(snapshot)) = (part, snapshot)
            && last == snapshot
        {
            break;
        }
    }
    steps
}
