//! What is to be taken over: the original's records as ours, after they were compared with what is
//! there.

use std::collections::{BTreeMap, BTreeSet};

use kleene_doors::storage::DatasetKind;
use kleene_store::original::{Original, OriginalRecord};
use kleene_store::{ContainerRecord, ImageRecord, VolumeRecord};
use kleene_types::{ImageId, VolumeName};

use super::datasets::{Datasets, Found};
use super::later::Later;
use super::{containers, images, records};

/// A dataset that gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rename {
    pub from: String,
    pub to: String,
}

/// Something that can't be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// What it is.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub images: Vec<ImageRecord>,
    pub containers: Vec<ContainerRecord>,
    pub volumes: Vec<VolumeRecord>,
    pub renames: Vec<Rename>,
    pub refused: Vec<Refused>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What has no place in our records yet.
    pub later: Later,
    /// Images by the names that their datasets have now.
    pub places: BTreeMap<String, ImageId>,
}

impl Plan {
    /// Makes the plan. Nothing is changed.
    pub(super) fn new(original: &Original, datasets: &Datasets<'_>) -> Self {
        let mut plan = Self::default();
        for damaged in &original.damaged {
            plan.refuse(damaged.clone(), "its record is no JSON");
        }
        images::plan(&mut plan, original, datasets);
        for volume in &original.volumes {
            if let Err(why) = plan.volume(volume, datasets) {
                plan.refuse(format!("volume {}", volume.key), why);
            }
        }
        containers::plan(&mut plan, original, datasets);
        plan.later.collect(original);
        let mut known: Vec<String> = Vec::new();
        let keys = |records: &[OriginalRecord], kind| -> Vec<String> {
            let names = records.iter().map(|it| datasets.wanted(kind, &it.key));
            names.collect()
        };
        known.extend(keys(&original.images, DatasetKind::Image));
        known.extend(keys(&original.containers, DatasetKind::Container));
        known.extend(keys(&original.volumes, DatasetKind::Volume));
        for name in datasets.others(&known) {
            plan.notes.push(format!(
                "the dataset {name} has no record: it stays as it is"
            ));
        }
        plan
    }

    fn volume(&mut self, row: &OriginalRecord, datasets: &Datasets<'_>) -> Result<(), String> {
        let name: VolumeName = row.key.parse().map_err(|error| format!("{error}"))?;
        let record: records::Volume = records::read(&row.record)?;
        let found = datasets.find(
            DatasetKind::Volume,
            name.as_str(),
            record.dataset.as_deref(),
        )?;
        let what = format!("volume {name}");
        let created = records::time(&record.created, &what, &mut self.notes);
        self.rename(&found);
        self.volumes.push(VolumeRecord {
            name,
            created,
            // Its data is the user's: no container's files are to be copied over it.
            populated: true,
        });
        Ok(())
    }

    /// Whether a volume is taken over.
    pub(super) fn has_volume(&self, name: &VolumeName) -> bool {
        self.volumes.iter().any(|volume| volume.name == *name)
    }

    /// Gives a dataset the name that it has to have.
    pub(super) fn rename(&mut self, found: &Found) {
        if let Some(to) = &found.rename {
            self.renames.push(Rename {
                from: found.name.clone(),
                to: to.clone(),
            });
        }
    }

    pub(super) fn refuse(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.refused.push(Refused {
            what: what.into(),
            why: why.into(),
        });
    }

    /// Names of containers that are taken already.
    pub(super) fn container_names(&self) -> BTreeSet<&str> {
        let names = self.containers.iter().map(|it| it.name.as_str());
        names.collect()
    }
}
