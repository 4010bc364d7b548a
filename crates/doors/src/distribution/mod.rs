//! The distribution door: images of registries and in archives.
//!
//! Images pass through here as manifests, configurations and layers, as the OCI image specification
//! has them. The room keeps blobs (layers, mostly) in a directory of its own while they are needed:
//! they come from a registry ([`Distribution::fetch_layers`]), an archive
//! ([`Distribution::read_archive`]) or this host ([`Distribution::add_layer`]), are read by
//! [`Distribution::open_layer`] and sent by [`Distribution::push`] and
//! [`Distribution::write_archive`]. That directory is a cache: whoever unpacks an image discards its
//! blobs, and nothing is lost when they are gone except the time to get them again.
//!
//! Everything here blocks.

mod config;
mod error;

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use kleene_types::{Digest, Platform, Registry, RegistryRef};

pub use self::config::{HealthTest, History, ImageConfig};
pub use self::error::DistributionError;

/// How a layer's tar archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, which everybody reads.
    Gzip,
    /// zstd: smaller and faster, but not known to old tools.
    Zstd,
}

/// One layer of an image: a tar archive of changes (image specification, layer.md).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerDescriptor {
    /// Digest of the blob, as it is stored and sent.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// How the blob is compressed, as its media type says.
    pub compression: Compression,
    /// Digest of the archive without compression, as the image's configuration says
    /// (config.md, `rootfs.diff_ids`). Not verified before [`LayerRead::finish`].
    pub diff_id: Digest,
}

/// An image in a registry, whose manifest and configuration have been read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteImage {
    /// What was asked for.
    pub reference: RegistryRef,
    /// Digest of what the reference names, which is an index when there are several platforms. It
    /// names the image for ever: `NAME@DIGEST`.
    pub digest: Digest,
    /// Digest of the platform's manifest; the same as `digest` when there is no index.
    pub manifest_digest: Digest,
    /// Digest of the configuration. Docker and Podman call it the image's id.
    pub config_digest: Digest,
    /// The configuration's own bytes: whoever pushes the image again unchanged sends these.
    pub config_json: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, the lowest first.
    pub layers: Vec<LayerDescriptor>,
}

impl RemoteImage {
    /// Bytes of all layers as they are sent.
    pub fn size(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.size);
        sizes.fold(0, u64::saturating_add)
    }
}

/// An image that an archive held, or is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// The names that it has in the archive.
    pub names: Vec<RegistryRef>,
    /// What the archive says in the place of a name, when that isn't one: `latest`, or `myimage`.
    pub label: Option<String>,
    /// Digest of the configuration.
    pub config_digest: Digest,
    /// The configuration's own bytes.
    pub config_json: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, the lowest first.
    pub layers: Vec<LayerDescriptor>,
}

/// An image to send, or to put into an archive. Its layers' blobs are in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingImage {
    /// The configuration, which has one diff id a layer: [`ImageConfig::to_json`], or the bytes that
    /// the image once came with.
    pub config_json: Vec<u8>,
    /// The layers, the lowest first.
    pub layers: Vec<LayerDescriptor>,
    /// Images whose repositories may have some of the layers, such as the one that this was built
    /// upon: a registry needn't get again what it has.
    pub related: Vec<RegistryRef>,
}

/// Who somebody is in a registry. Its `Debug` doesn't show secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// A user's name and password, or a token in the place of the password.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token that the registry's token service has given out (`identitytoken` in Docker's
    /// configuration).
    IdentityToken(String),
    /// A token that goes to the registry as it is (`registrytoken`).
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "Password({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// What is being done with one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobStep {
    /// It will be done later: too many others are being worked on.
    Waiting,
    /// It was there already.
    Exists,
    /// It is coming from the registry.
    Downloading,
    /// It is going to the registry.
    Uploading,
    /// Its files are being written.
    Unpacking,
    /// The registry has it in another repository, and took it from there.
    Mounted,
    /// The connection broke, for this reason; it goes on after a pause.
    Retrying(String),
    /// It is complete and verified.
    Done,
}

/// How far one blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobProgress {
    /// Which: the layer's or the configuration's digest.
    pub digest: Digest,
    /// What is being done.
    pub step: BlobStep,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 when unknown.
    pub total: u64,
}

/// Told on the caller's thread how far blobs are, several times a second also when nothing moves;
/// `Break` cancels. What has arrived is kept for the next attempt.
pub type ProgressSink<'a> = &'a mut dyn FnMut(BlobProgress) -> ControlFlow<()>;

/// A layer's tar archive, without compression.
pub trait LayerRead: Read + Send {
    /// How much of the blob has been read, for showing progress.
    fn position(&self) -> u64;

    /// Reads what is left, and compares what was read with the layer's diff id. Only then the data
    /// is what the image means.
    ///
    /// # Errors
    /// [`DistributionError::Invalid`] when the layer is damaged or isn't what the image says.
    fn finish(self: Box<Self>) -> Result<Digest, DistributionError>;
}

/// One image that a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchResult {
    /// Its name, which can be pulled.
    pub name: String,
    /// What it is, in its makers' words; often empty.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// Whether the registry's keepers vouch for it.
    pub official: bool,
}

/// What a registry answered to a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// A refresh token to be kept in the place of the password, when the registry gives one.
    pub identity_token: Option<String>,
}

/// What [`Distribution::collect`] has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The distribution door.
///
/// Every text that a registry or an archive has sent has been checked when it passes through here;
/// every byte of a blob has the digest that it is known by.
pub trait Distribution: Send + Sync {
    /// The registry that references without one mean.
    fn default_registry(&self) -> Registry;

    /// Reads manifest and configuration of the image that a reference names for a platform.
    ///
    /// # Errors
    /// [`DistributionError::NotFound`], [`DistributionError::Denied`],
    /// [`DistributionError::NoPlatform`] with the platforms that there are,
    /// [`DistributionError::Unreachable`]; [`DistributionError::Invalid`] for what isn't a container
    /// image, or not as it should be.
    fn resolve(
        &self,
        reference: &RegistryRef,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<RemoteImage, DistributionError>;

    /// Downloads layers, several at a time: those of the indices `wanted`. Layers that are there
    /// already aren't downloaded again, begun ones are continued.
    ///
    /// # Errors
    /// As for [`Distribution::resolve`]; [`DistributionError::NoSpace`],
    /// [`DistributionError::Cancelled`]. Layers that have arrived stay.
    fn fetch_layers(
        &self,
        image: &RemoteImage,
        wanted: &[usize],
        credentials: Option<&Credentials>,
        progress: ProgressSink<'_>,
    ) -> Result<(), DistributionError>;

    /// Whether the blob is here.
    fn has_blob(&self, digest: &Digest) -> bool;

    /// Opens a layer that is here, for being unpacked.
    ///
    /// # Errors
    /// [`DistributionError::NotFound`] when it isn't here.
    fn open_layer(&self, layer: &LayerDescriptor) -> Result<Box<dyn LayerRead>, DistributionError>;

    /// Makes a layer of the tar archive that `produce` writes. The same archive makes the same blob.
    ///
    /// # Errors
    /// [`DistributionError::NoSpace`]; what `produce` fails with, as the source of
    /// [`DistributionError::Failed`].
    fn add_layer(
        &self,
        compression: Compression,
        produce: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<LayerDescriptor, DistributionError>;

    /// Removes blobs that nobody needs any more; those that aren't here don't matter.
    ///
    /// # Errors
    /// When the system refuses.
    fn discard(&self, blobs: &[Digest]) -> Result<(), DistributionError>;

    /// Removes all blobs and unfinished downloads that haven't been touched for so long, except those
    /// named. What is being worked on stays.
    ///
    /// # Errors
    /// When the system refuses.
    fn collect(
        &self,
        keep: &[Digest],
        unused_for: Duration,
    ) -> Result<Collected, DistributionError>;

    /// Sends an image: blobs that the registry lacks, then the manifest. The answer is the
    /// manifest's digest. A reference's digest is of no importance here.
    ///
    /// # Errors
    /// As for [`Distribution::resolve`]; [`DistributionError::Cancelled`].
    fn push(
        &self,
        reference: &RegistryRef,
        image: &OutgoingImage,
        credentials: Option<&Credentials>,
        progress: ProgressSink<'_>,
    ) -> Result<Digest, DistributionError>;

    /// Reads all images out of an archive: an OCI image layout (image-layout.md) or what `docker
    /// save` writes, compressed or not. Without a platform each image is the host's, or the only one
    /// that is there under its name, whatever it is for. The archive is read once from its beginning
    /// to its end; `progress` is told how many of its bytes have been read, and cancels with `Break`.
    ///
    /// # Errors
    /// [`DistributionError::Invalid`] for what is damaged, hostile or no image archive; then nothing
    /// of it stays. [`DistributionError::NoPlatform`] when one of the images is there for other
    /// platforms only. [`DistributionError::NoSpace`], [`DistributionError::Cancelled`].
    fn read_archive(
        &self,
        from: &mut (dyn Read + Send),
        platform: Option<&Platform>,
        progress: &mut (dyn FnMut(u64) -> ControlFlow<()> + Send),
    ) -> Result<Vec<ArchivedImage>, DistributionError>;

    /// Writes images as one archive, which is an OCI image layout and can be read by `docker load`,
    /// too. The same images make the same archive.
    ///
    /// # Errors
    /// [`DistributionError::NotFound`] when a blob isn't here; what `to` fails with, as the source
    /// of [`DistributionError::Failed`].
    fn write_archive(
        &self,
        images: &[(Vec<RegistryRef>, OutgoingImage)],
        to: &mut dyn Write,
    ) -> Result<(), DistributionError>;

    /// The tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// As for [`Distribution::resolve`].
    fn tags(
        &self,
        reference: &RegistryRef,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<String>, DistributionError>;

    /// Looks for images by a word, at most `limit` of them.
    ///
    /// # Errors
    /// [`DistributionError::Unsupported`] when the registry can't search.
    fn search(
        &self,
        registry: &Registry,
        word: &str,
        limit: usize,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<SearchResult>, DistributionError>;

    /// Asks the registry whether it knows somebody.
    ///
    /// # Errors
    /// [`DistributionError::Denied`] when it doesn't.
    fn check_login(
        &self,
        registry: &Registry,
        credentials: &Credentials,
    ) -> Result<Login, DistributionError>;
}
