//! Building images from Dockerfiles.
//!
//! Each stage is a tree of its own: a clone of its base image, with a snapshot after each instruction
//! that has changed files. What a snapshot holds is told by its key (`key.rs`); as long as the next key
//! is known from an earlier build, the stage only moves on to that snapshot, and its tree isn't made
//! before something has to be done in it. Stages that don't need each other are built at once.

mod base;
mod files;
mod key;
mod mounts;
mod output;
mod plan;
mod process;
mod record;
mod run;
mod settings;
mod stage;
mod stages;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kleene_doors::distribution::Credentials;
use kleene_types::{
    EnvVar, ImageId, ImageName, ImageTag, Init, MountSpec, Resources, SnapshotName,
};

use crate::{Cancel, Engine, EngineError};
use kleene_store::NetworkDriver;

pub use output::BuildOutput;
pub use settings::Changes;
pub(crate) use work::Builds;
pub use work::ReceivedContext;

use output::Output;

/// An image to build.
#[derive(Debug)]
pub struct NewBuild {
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// The files that it may copy.
    pub context: BuildContext,
    /// Name and tag of the image.
    pub name: Option<(ImageName, ImageTag)>,
    /// Values of ARG variables.
    pub args: BTreeMap<String, String>,
    /// The stage to build, by name or number; `None`: the last one.
    pub target: Option<String>,
    /// Labels beside those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Whether every step is carried out, known or not.
    pub no_cache: bool,
    /// Whether nothing is left of a build that fails.
    pub cleanup: bool,
    /// Whether nothing is told but what goes wrong.
    pub quiet: bool,
    /// What `RUN --mount=type=secret` can ask for, by id.
    pub secrets: Secrets,
    /// Whether base images are pulled.
    pub pull: PullPolicy,
    /// Who asks at registries, by their names.
    pub credentials: BTreeMap<String, Credentials>,
    /// An image in the place of the first FROM's.
    pub from: Option<String>,
    /// What the containers of instructions are made with.
    pub container: BuildContainer,
}

/// Values that nobody should see.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// In the context, at this path relative to it.
    InContext(String),
    /// Here.
    Text(String),
}

/// Where a build's files are.
#[derive(Debug)]
pub enum BuildContext {
    /// In a directory of the host.
    Directory(PathBuf),
    /// They came from the client.
    Received(ReceivedContext),
}

/// When base images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Those that name a registry and aren't here.
    #[default]
    Missing,
    /// All.
    Always,
    /// None.
    Never,
}

/// What the containers of a build's instructions are made with.
#[derive(Debug, Clone)]
pub struct BuildContainer {
    /// The user until an instruction says otherwise; empty: the image's.
    pub user: String,
    /// Environment, which instructions overrule. It doesn't become the image's.
    pub env: Vec<EnvVar>,
    /// Mounts.
    pub mounts: Vec<MountSpec>,
    /// Jail parameters.
    pub jail_params: Vec<String>,
    /// The network driver.
    pub network_driver: NetworkDriver,
    /// What they may use.
    pub resources: Resources,
    /// Whose end is a container's end.
    pub init: Init,
}

/// A build that has failed.
#[derive(Debug)]
pub struct BuildFailed {
    /// Why.
    pub error: EngineError,
    /// The last snapshot that was taken, if it is still there.
    pub snapshot: Option<SnapshotName>,
}

impl From<EngineError> for BuildFailed {
    fn from(error: EngineError) -> Self {
        Self {
            error,
            snapshot: None,
        }
    }
}

impl Engine {
    /// Builds an image. [`BuildOutput::started`] is called before anything is told, unless the
    /// Dockerfile is wrong.
    ///
    /// # Errors
    /// When the Dockerfile is wrong, an instruction fails or `cancel` says so. Without
    /// [`NewBuild::cleanup`] the image stays as `NAME:failed` then, as far as it was made.
    pub fn image_build(
        &self,
        new: &NewBuild,
        to: &dyn BuildOutput,
        cancel: &Cancel,
    ) -> Result<ImageId, BuildFailed> {
        let output = Output::new(to, new.quiet);
        let plan = self.plan_build(new, &output, cancel)?;
        self.build_stages(new, &plan, &output, cancel)
    }
}
