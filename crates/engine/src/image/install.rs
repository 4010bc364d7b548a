//! Images from elsewhere: pulled from a registry, or read from an archive. Their layers are unpacked
//! one after the other, with a snapshot after each, so that images share what they have in common.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;

use kleene_doors::distribution::{
    ArchivedImage, BlobProgress, BlobStep, Credentials, ImageConfig as RemoteConfig,
    LayerDescriptor, LayerRead, ProgressSink, RemoteImage,
};
use kleene_doors::layers::LayerOptions;
use kleene_doors::storage::{Dataset, Snapshot};
use kleene_store::{ImageRecord, ImageSnapshot, OperationId, Origin, Step};
use kleene_types::{
    ImageId, ImageName, ImageTag, Platform, Registry, RegistryRef, SnapshotName, Timestamp,
};

use super::config::{from_remote, history_from_remote};
use super::lineage::of_dataset;
use crate::events::NewEvent;
use crate::locks::{Key, Mode};
use crate::{Engine, EngineError};

/// An image to pull.
#[derive(Debug, Clone)]
pub struct NewPull {
    /// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
    pub reference: String,
    /// What it is for; `None`: the host.
    pub platform: Option<Platform>,
    /// Name and tag that it gets; `None`: those of the reference.
    pub name: Option<(ImageName, ImageTag)>,
    /// Who asks.
    pub identity: Option<Identity>,
}

/// Who asks at a registry.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The only registry that may be shown the credentials; `None`: the one that is asked.
    pub registry: Option<Registry>,
    /// The credentials.
    pub credentials: Credentials,
}

impl Identity {
    /// What a registry is shown.
    pub(super) fn at<'i>(
        identity: Option<&'i Self>,
        registry: &Registry,
    ) -> Option<&'i Credentials> {
        let it = identity?;
        let meant = it.registry.as_ref().is_none_or(|only| only == registry);
        meant.then_some(&it.credentials)
    }
}

/// An image that was read from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// What it is called here.
    pub names: Vec<(ImageName, ImageTag)>,
}

/// An image that is to be installed.
struct Foreign<'a> {
    config: &'a RemoteConfig,
    layers: &'a [LayerDescriptor],
    platform: Platform,
    origin: Option<Origin>,
    reference: Option<(ImageName, ImageTag)>,
}

/// The part of a foreign image that is here already.
struct Known {
    /// How many layers.
    count: usize,
    /// The last one's snapshot.
    snapshot: Option<ImageSnapshot>,
}

impl Engine {
    /// Pulls an image from a registry. One that is here already is only named.
    ///
    /// # Errors
    /// When there is no such image, the registry refuses or can't be reached, or what it sends is
    /// damaged; nothing is left of the image then, but layers that have arrived aren't downloaded
    /// again.
    pub fn image_pull(
        &self,
        pull: &NewPull,
        progress: ProgressSink<'_>,
    ) -> Result<ImageId, EngineError> {
        let default = self.distribution.default_registry();
        let reference = RegistryRef::parse(&pull.reference, &default)
            .map_err(|error| EngineError::Invalid(error.to_string()))?;
        let platform = pull.platform.clone().unwrap_or_else(Platform::host);
        let name = match &pull.name {
            Some(name) => Some(name.clone()),
            None => local_name(&reference)?,
        };
        let credentials = Identity::at(pull.identity.as_ref(), &reference.registry);
        let remote = self
            .distribution
            .resolve(&reference, &platform, credentials)?;
        if let Some(id) = self.pulled_before(&remote, name.as_ref())? {
            return Ok(id);
        }
        let foreign = Foreign {
            config: &remote.config,
            layers: &remote.layers,
            platform: remote.config.platform(),
            origin: Some(Origin {
                reference: reference.familiar(),
                digest: remote.manifest_digest.to_string(),
            }),
            reference: name,
        };
        let id = self.install(&foreign, progress, |wanted, progress| {
            let fetched = self
                .distribution
                .fetch_layers(&remote, wanted, credentials, progress);
            Ok(fetched?)
        })?;
        self.emit(NewEvent::image("pull", &id, foreign.reference.as_ref()));
        Ok(id)
    }

    /// An image that came from the same manifest. It gets the name.
    fn pulled_before(
        &self,
        remote: &RemoteImage,
        name: Option<&(ImageName, ImageTag)>,
    ) -> Result<Option<ImageId>, EngineError> {
        let digest = remote.manifest_digest.to_string();
        let same = |image: &ImageRecord| {
            let origin = image.origin.as_ref();
            origin.is_some_and(|origin| origin.digest == digest)
        };
        let Some(id) = self.store.images()?.into_iter().find(same).map(|it| it.id) else {
            return Ok(None);
        };
        match name {
            Some((name, tag)) => self
                .image_tag(id.as_str(), name.clone(), tag.clone())
                .map(Some),
            None => Ok(Some(id)),
        }
    }

    /// Reads images from an archive: an OCI image layout, or what `docker save` writes.
    ///
    /// # Errors
    /// When the archive is damaged or holds no image for the platform; images before a bad one are
    /// there then.
    pub fn image_load(
        &self,
        from: &mut (dyn Read + Send),
        platform: Option<&Platform>,
        progress: ProgressSink<'_>,
    ) -> Result<Vec<Loaded>, EngineError> {
        let go_on = &mut |_| ControlFlow::Continue(());
        let images = self.distribution.read_archive(from, platform, go_on)?;
        let blobs = images.iter().flat_map(|image| &image.layers);
        let blobs = blobs.map(|layer| layer.digest.clone());
        let mut needed = self.blobs.need(&*self.distribution, blobs);
        // Whether it works or not: the archive has them, too.
        needed.done();
        images
            .iter()
            .map(|image| self.load(image, progress))
            .collect()
    }

    fn load(
        &self,
        image: &ArchivedImage,
        progress: ProgressSink<'_>,
    ) -> Result<Loaded, EngineError> {
        let mut names = Vec::new();
        for name in &image.names {
            names.extend(local_name(name)?);
        }
        let foreign = Foreign {
            config: &image.config,
            layers: &image.layers,
            platform: image.config.platform(),
            origin: None,
            reference: names.first().cloned(),
        };
        // Only one name is kept by an image: the others are told, and can be given by hand.
        names.truncate(1);
        let id = self.install(&foreign, progress, |_, _| Ok(()))?;
        self.emit(NewEvent::image("load", &id, foreign.reference.as_ref()));
        Ok(Loaded { id, names })
    }

    /// Makes an image of layers that `fetch` provides, and of those that are known.
    fn install(
        &self,
        foreign: &Foreign<'_>,
        progress: ProgressSink<'_>,
        fetch: impl FnOnce(&[usize], ProgressSink<'_>) -> Result<(), EngineError>,
    ) -> Result<ImageId, EngineError> {
        let known = self.known_layers(foreign.layers)?;
        let wanted: Vec<usize> = (known.count..foreign.layers.len()).collect();
        for layer in foreign.layers.iter().take(known.count) {
            told(progress(BlobProgress {
                digest: layer.digest.clone(),
                step: BlobStep::Exists,
                done: layer.size,
                total: layer.size,
            }))?;
        }
        let blobs = foreign.layers.iter().skip(known.count);
        let blobs = blobs.map(|layer| layer.digest.clone());
        let mut needed = self.blobs.need(&*self.distribution, blobs);
        fetch(&wanted, progress)?;
        let id = ImageId::random();
        self.journalled(&[Step::DiscardImage(id.clone())], |operation| {
            self.unpack_layers(foreign, &known, &id, operation, progress)
        })?;
        needed.done();
        Ok(id)
    }

    /// The lowest layers that some image here has, too.
    fn known_layers(&self, layers: &[LayerDescriptor]) -> Result<Known, EngineError> {
        for count in (1..=layers.len()).rev() {
            let key = chain_key(layers.get(..count).unwrap_or_default());
            if let Some(snapshot) = self.store.known_snapshot(&key)? {
                return Ok(Known {
                    count,
                    snapshot: Some(snapshot),
                });
            }
        }
        Ok(Known {
            count: 0,
            snapshot: None,
        })
    }

    fn unpack_layers(
        &self,
        foreign: &Foreign<'_>,
        known: &Known,
        id: &ImageId,
        operation: OperationId,
        progress: ProgressSink<'_>,
    ) -> Result<(), EngineError> {
        let dataset = Dataset::Image(id.clone());
        self.begin_tree(known.snapshot.as_ref(), &dataset)?;
        let mut snapshots = Vec::new();
        for (index, layer) in foreign.layers.iter().enumerate().skip(known.count) {
            self.unpack_layer(layer, &dataset, progress)?;
            let name = SnapshotName::random();
            self.take_snapshot(&dataset, &name)?;
            let key = chain_key(foreign.layers.get(..=index).unwrap_or_default());
            snapshots.push((key, name));
        }
        self.take_snapshot(&dataset, &SnapshotName::image())?;
        let image = ImageRecord {
            id: id.clone(),
            reference: foreign.reference.clone(),
            config: from_remote(foreign.config),
            instructions: instructions(foreign.config, known.count, &snapshots),
            created: Timestamp::now(),
            parent: known.snapshot.clone(),
            platform: Some(foreign.platform.clone()),
            origin: foreign.origin.clone(),
            history: history_from_remote(foreign.config),
            size: Some(self.storage.usage(&dataset)?),
            build_cache: false,
        };
        self.put_tagged_with(&image, |transaction| {
            for (key, snapshot) in snapshots {
                let image = image.id.clone();
                transaction.put_known_snapshot(&key, &ImageSnapshot { image, snapshot })?;
            }
            transaction.finish(operation)
        })
    }

    /// Makes a dataset that begins with a snapshot's tree, or an empty one.
    pub(crate) fn begin_tree(
        &self,
        origin: Option<&ImageSnapshot>,
        dataset: &Dataset,
    ) -> Result<(), EngineError> {
        let Some(origin) = origin else {
            return Ok(self.storage.create(dataset)?);
        };
        // It isn't removed between the look at it and the clone, which keeps it from then on.
        let _lock = self
            .locks
            .hold([(Key::Image(origin.image.clone()), Mode::Shared)]);
        self.recorded_image(&origin.image)?;
        Ok(self.storage.clone_snapshot(&of_dataset(origin), dataset)?)
    }

    pub(crate) fn take_snapshot(
        &self,
        dataset: &Dataset,
        name: &SnapshotName,
    ) -> Result<(), EngineError> {
        Ok(self.storage.snapshot(&Snapshot {
            dataset: dataset.clone(),
            name: name.clone(),
        })?)
    }

    fn unpack_layer(
        &self,
        layer: &LayerDescriptor,
        dataset: &Dataset,
        progress: ProgressSink<'_>,
    ) -> Result<(), EngineError> {
        let mut reader = self.distribution.open_layer(layer)?;
        let position = Cell::new(0);
        let mut tell = |step: BlobStep, done: u64| {
            progress(BlobProgress {
                digest: layer.digest.clone(),
                step,
                done,
                total: layer.size,
            })
        };
        let root = self.storage.root(dataset)?;
        let mut watched = Watched {
            reader: &mut *reader,
            position: &position,
        };
        self.host
            .apply_layer(&root, &mut watched, &LayerOptions::default(), &mut |_| {
                tell(BlobStep::Unpacking, position.get())
            })?;
        // Only now it is known to be what the image means.
        reader.finish()?;
        told(tell(BlobStep::Done, layer.size))
    }
}

/// Tells how much of a layer's blob has been read.
struct Watched<'a> {
    reader: &'a mut dyn LayerRead,
    position: &'a Cell<u64>,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into);
        self.position.set(self.reader.position());
        read
    }
}

fn told(flow: ControlFlow<()>) -> Result<(), EngineError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(EngineError::Cancelled),
    }
}

/// What a stack of layers is known by.
fn chain_key(layers: &[LayerDescriptor]) -> String {
    let mut hasher = blake3::Hasher::new();
    for layer in layers {
        hasher.update(layer.diff_id.as_str().as_bytes());
        hasher.update(b"\n");
    }
    format!("layers:{}", hasher.finalize().to_hex())
}

/// What a foreign image is called here: nothing when it was named by its digest alone.
fn local_name(reference: &RegistryRef) -> Result<Option<(ImageName, ImageTag)>, EngineError> {
    if reference.tag.is_none() && reference.digest.is_some() {
        return Ok(None);
    }
    let plain = RegistryRef {
        tag: None,
        digest: None,
        ..reference.clone()
    };
    let name = plain.familiar().parse().map_err(|error| {
        EngineError::Invalid(format!(
            "'{reference}' can't be a name here: {error}; choose one with --tag"
        ))
    })?;
    Ok(Some((name, reference.tag_or_latest())))
}

/// The steps of a foreign image with the snapshots of those that were unpacked here.
fn instructions(
    config: &RemoteConfig,
    known: usize,
    snapshots: &[(String, SnapshotName)],
) -> Vec<(String, Option<SnapshotName>)> {
    let mut names = snapshots.iter().map(|(_, name)| name.clone());
    let mut layer = 0;
    let mut steps: Vec<_> = config
        .history
        .iter()
        .map(|step| {
            let text = step.created_by.clone().unwrap_or_default();
            if step.empty_layer {
                return (text, None);
            }
            layer += 1;
            (text, if layer > known { names.next() } else { None })
        })
        .collect();
    // Not every image tells of all its layers.
    steps.extend(names.map(|name| (String::new(), Some(name))));
    steps
}
