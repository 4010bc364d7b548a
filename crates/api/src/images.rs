//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ContainerConfig, EndPointConfig, HealthCheckConfig, lenient};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Twelve hexadecimal digits.
    pub id: String,
    /// Its name; empty when another image has taken it over.
    pub name: String,
    /// Its tag; likewise.
    pub tag: String,
    /// Default command of its containers.
    pub cmd: Vec<String>,
    /// Default environment of its containers.
    pub env: Vec<String>,
    /// Default user of its containers.
    pub user: String,
    /// The instructions that it was built by, each with its snapshot (`@…`) or an empty text.
    pub instructions: Vec<(String, String)>,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// Its dataset.
    pub dataset: String,
    /// The image that it was made of; empty: none.
    #[serde(default)]
    pub parent: String,
    /// What stands before the command of its containers.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Working directory of its containers; empty: `/`.
    #[serde(default)]
    pub working_dir: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Ports that its containers listen at, as `PORT/PROTOCOL`. They tell; nothing is published.
    #[serde(default)]
    pub exposed_ports: Vec<String>,
    /// Destinations at which its containers get anonymous volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// The signal that asks its containers to end; SIGTERM when absent.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How the health of its containers is checked.
    #[serde(default)]
    pub health_check: Option<HealthCheckConfig>,
    /// The shell of instructions in shell form.
    #[serde(default)]
    pub shell: Vec<String>,
    /// The operating system that it is for (`linux`, `freebsd`).
    #[serde(default)]
    pub os: String,
    /// The processor architecture that it is for, as the OCI names it (`amd64`, `arm64`).
    #[serde(default)]
    pub architecture: String,
    /// Digest of the manifest that it was pulled by; empty: it wasn't.
    #[serde(default)]
    pub digest: String,
    /// The reference that it was pulled by; empty: it wasn't.
    #[serde(default)]
    pub source: String,
    /// Bytes that it occupies itself: what would come free with it.
    #[serde(default)]
    pub size: u64,
    /// Bytes of the images that it was made of.
    #[serde(default)]
    pub shared_size: u64,
    /// Whether it only keeps steps of builds for the next one.
    #[serde(default)]
    pub build_cache: bool,
}

/// How a base image is made: the first frame over `/images/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageCreateConfig {
    /// `fetch`, `fetch-auto`, `zfs-copy`, `zfs-clone` or `host`.
    pub method: String,
    /// Name and tag of the image, `NAME[:TAG]`.
    #[serde(default)]
    pub tag: Option<String>,
    /// `fetch`: where the archive is (`file://`, `http://`, `https://`).
    #[serde(default)]
    pub url: Option<String>,
    /// `zfs-copy`, `zfs-clone`: the dataset.
    #[serde(default)]
    pub zfs_dataset: Option<String>,
    /// Copy the host's `/etc/resolv.conf` into the image.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub dns: bool,
    /// Copy the host's `/etc/localtime` into the image.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub localtime: bool,
    /// `fetch-auto`: bring the image up to date with the system's own tool.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub update: bool,
    /// `fetch-auto`: name the image after the release.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub autotag: bool,
    /// `host`: further programs, files or directories of the host.
    #[serde(default)]
    pub add: Vec<String>,
}

/// How an image is built: the first frame over `/images/build`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBuildConfig {
    /// Absolute path of the context on the daemon's host.
    pub context: String,
    /// Path of the Dockerfile, relative to the context.
    #[serde(default = "dockerfile")]
    pub dockerfile: String,
    /// Leave out the output of the instructions.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub quiet: bool,
    /// Remove what a failed build leaves.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub cleanup: bool,
    /// Name and tag of the image, `NAME[:TAG]`.
    #[serde(default)]
    pub tag: String,
    /// Values of the Dockerfile's ARG variables.
    #[serde(default)]
    pub buildargs: BTreeMap<String, String>,
    /// The container that instructions run in; its image takes the place of FROM's.
    pub container_config: ContainerConfig,
    /// Networks that the container is connected to; their container is left empty.
    #[serde(default)]
    pub networks: Vec<EndPointConfig>,
    /// The stage to build; empty: the last one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Labels of the image, beside those of the Dockerfile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Carry out every step, also those that are known from an earlier build.
    #[serde(
        default,
        deserialize_with = "lenient::boolean",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub no_cache: bool,
    /// Secrets for `RUN --mount=type=secret`, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The text of the Dockerfile, when it isn't in the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile_text: Option<String>,
    /// The context is sent after this frame: binary frames with a tar archive, and an empty one at
    /// its end. `context` isn't used then.
    #[serde(
        default,
        deserialize_with = "lenient::boolean",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub upload: bool,
    /// Where base images come from that aren't there: `missing` (the default: those that name a
    /// registry are pulled), `always` or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<String>,
    /// Who asks at registries, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, RegistryCredentials>,
}

/// What only the commands of a build may see.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(
    /// The value in base64 (RFC 4648, section 4).
    pub String,
);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Who asks at a registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryCredentials {
    /// The registry that they are for: no other one is shown them. Empty: the one that is asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registry: String,
    /// User.
    pub username: String,
    /// Password.
    #[schema(format = Password)]
    pub password: String,
    /// A token in their place, which the registry has given out.
    pub identity_token: String,
}

impl std::fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryCredentials({}, …)", self.username)
    }
}

/// An image to pull: the first frame over `/images/pull`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePullConfig {
    /// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
    pub reference: String,
    /// `OS[/ARCHITECTURE[/VARIANT]]`; absent: the host's.
    #[serde(default)]
    pub platform: Option<String>,
    /// Name and tag of the image; absent: those of the reference.
    #[serde(default)]
    pub tag: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub credentials: Option<RegistryCredentials>,
}

/// An image to push: the first frame over `/images/push`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePushConfig {
    /// The image: name, id or beginning of an id.
    pub image: String,
    /// Where to: `[REGISTRY/]REPOSITORY[:TAG]`; absent: what the image is called.
    #[serde(default)]
    pub reference: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub credentials: Option<RegistryCredentials>,
}

/// Credentials to check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// The registry; empty: the default one.
    pub registry: String,
    /// The credentials.
    pub credentials: RegistryCredentials,
}

/// Answer to a login.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryLoggedIn {
    /// The registry's name, under which clients keep the credentials.
    pub registry: String,
    /// A token to be kept in the place of the password, when the registry gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_token: Option<String>,
}

/// A repository that a registry has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchResult {
    /// What to pull it by.
    pub name: String,
    /// What it is.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Whether the registry's owner vouches for it.
    pub official: bool,
}

/// One step of an image's history, or of its base images'.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// The image with the step.
    pub image: String,
    /// The snapshot taken after it (`@…`), or an empty text.
    pub snapshot: String,
    /// When (RFC 3339, UTC); empty: nobody knows.
    pub created: String,
    /// The instruction or command.
    pub created_by: String,
    /// What was noted.
    pub comment: String,
}

/// An image that a container is made into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerCommitConfig {
    /// Name and tag of the image, `NAME[:TAG]`; absent: none.
    pub tag: Option<String>,
    /// What to note.
    pub comment: String,
    /// Whether the container is paused meanwhile, if it runs; true when absent.
    pub pause: Option<bool>,
    /// Instructions of a Dockerfile for the image's settings: CMD, ENTRYPOINT, ENV, EXPOSE,
    /// HEALTHCHECK, LABEL, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR.
    pub changes: Vec<String>,
}

/// An image that was read from an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadedImage {
    /// Its id.
    pub id: String,
    /// Name and tag, `NAME:TAG`; empty: none.
    pub name: String,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneReport {
    /// The images, children before parents.
    pub images: Vec<String>,
    /// Bytes that came free.
    pub bytes: u64,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}

fn yes() -> bool {
    true
}
