//! Images.

use std::collections::BTreeMap;

use kleene_doors::storage::DatasetKind;
use kleene_store::original::{Original, OriginalRecord};
use kleene_store::{ImageConfig, ImageRecord, ImageSnapshot};
use kleene_types::{ImageId, ImageName, ImageTag, SnapshotName};

use super::datasets::{Datasets, Found};
use super::plan::Plan;
use super::records;

/// Plans all images.
pub(super) fn plan(plan: &mut Plan, original: &Original, datasets: &Datasets<'_>) {
    // The datasets of the images that are taken over, by their names of now.
    let mut places = BTreeMap::new();
    let mut origins = Vec::new();
    for row in &original.images {
        match image(plan, row, datasets) {
            Ok(found) => {
                if let Some(image) = plan.images.last() {
                    places.insert(found.name.clone(), image.id.clone());
                }
                origins.push(found.origin);
            }
            Err(why) => plan.refuse(format!("image {}", row.key), why),
        }
    }
    for (image, origin) in plan.images.iter_mut().zip(origins) {
        image.parent = origin.and_then(|origin| snapshot_of(&places, &origin));
    }
    plan.places = places;
}

/// The image's snapshot of this name, where it is one of an image that is taken over.
pub(super) fn snapshot_of(
    places: &BTreeMap<String, ImageId>,
    origin: &str,
) -> Option<ImageSnapshot> {
    let (dataset, snapshot) = origin.split_once('@')?;
    Some(ImageSnapshot {
        image: places.get(dataset)?.clone(),
        snapshot: snapshot.parse().ok()?,
    })
}

/// Adds an image to the plan.
fn image(plan: &mut Plan, row: &OriginalRecord, datasets: &Datasets<'_>) -> Result<Found, String> {
    let id: ImageId = row.key.parse().map_err(|error| format!("{error}"))?;
    let record: records::Image = records::read(&row.record)?;
    let found = datasets.find(DatasetKind::Image, id.as_str(), record.dataset.as_deref())?;
    let snapshot = SnapshotName::image();
    if !found.snapshots.iter().any(|it| it == snapshot.as_str()) {
        return Err(format!(
            "its dataset {} has no snapshot @{snapshot}: no container can be made of it",
            found.name
        ));
    }
    let what = format!("image {id}");
    let reference = reference(plan, &record, &what);
    let instructions = instructions(&record, &found, &what, &mut plan.notes);
    plan.rename(&found);
    let notes = &mut plan.notes;
    plan.images.push(ImageRecord {
        config: ImageConfig {
            cmd: record.cmd,
            env: records::env(&record.env, &what, notes),
            user: record.user,
            ..ImageConfig::default()
        },
        reference,
        instructions,
        created: records::time(&record.created, &what, notes),
        parent: None,
        platform: None,
        origin: None,
        history: Vec::new(),
        size: None,
        build_cache: false,
        id,
    });
    Ok(found)
}

/// Its name and tag, where they are such and no other image has them.
fn reference(
    plan: &mut Plan,
    record: &records::Image,
    what: &str,
) -> Option<(ImageName, ImageTag)> {
    if record.name.is_empty() {
        return None;
    }
    let named = format!("{}:{}", record.name, record.tag);
    let (Ok(name), Ok(tag)) = (record.name.parse(), record.tag.parse()) else {
        plan.notes
            .push(format!("{what}: {named:?} is not a name: it has none"));
        return None;
    };
    let reference = Some((name, tag));
    if plan.images.iter().any(|it| it.reference == reference) {
        plan.notes.push(format!(
            "{what}: the name {named} is another image's: it has none"
        ));
        return None;
    }
    reference
}

/// Its instructions, with those of their snapshots that are there.
fn instructions(
    record: &records::Image,
    found: &Found,
    what: &str,
    notes: &mut Vec<String>,
) -> Vec<(String, Option<SnapshotName>)> {
    let mut instructions = Vec::new();
    for item in &record.instructions {
        let mut words = item.iter();
        let line = words.next().cloned().unwrap_or_default();
        let name = words.next().map_or("", |it| it.trim_start_matches('@'));
        let is_there = found.snapshots.iter().any(|it| it == name);
        let snapshot = is_there.then(|| name.parse().ok()).flatten();
        if snapshot.is_none() && !name.is_empty() {
            notes.push(format!(
                "{what}: its snapshot @{name} is not there: builds can't begin with it"
            ));
        }
        instructions.push((line, snapshot));
    }
    instructions
}
