//! What the tests share.

mod program;
mod sample;
mod server;

pub use self::program::{Registry, run};
pub use self::sample::{Sample, at, gzip, noise, sha256, tar_of};
pub use self::server::{Answer, Request, Server};

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kleene_doors::distribution::{
    BlobProgress, BlobStep, Credentials, Distribution, DistributionError, LayerDescriptor,
    RemoteImage,
};
use kleene_oci::{Config, OciDistribution};
use kleene_types::{Platform, RegistryRef};
use tempfile::TempDir;

/// A distribution room with a directory of its own.
pub struct Room {
    pub dir: TempDir,
    pub oci: OciDistribution,
}

impl Room {
    pub fn new() -> Self {
        Self::with(quick())
    }

    pub fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let oci = OciDistribution::new(dir.path().join("oci"), config);
        Self { dir, oci }
    }

    /// The same directory after the daemon has been started anew.
    pub fn again(self) -> Self {
        let oci = OciDistribution::new(self.dir.path().join("oci"), quick());
        Self { oci, ..self }
    }

    /// Resolves and downloads everything.
    pub fn pull(&self, reference: &RegistryRef) -> Result<RemoteImage, DistributionError> {
        self.pull_as(reference, None)
    }

    pub fn pull_as(
        &self,
        reference: &RegistryRef,
        who: Option<&Credentials>,
    ) -> Result<RemoteImage, DistributionError> {
        let image = self.oci.resolve(reference, &amd64(), who)?;
        let all: Vec<usize> = (0..image.layers.len()).collect();
        self.oci.fetch_layers(&image, &all, who, &mut go_on)?;
        Ok(image)
    }

    /// A layer's archive, verified.
    pub fn read(&self, layer: &LayerDescriptor) -> Vec<u8> {
        let mut reader = self.oci.open_layer(layer).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
        reader.finish().unwrap();
        content
    }

    /// All files in the room's directory, without their directories.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![self.dir.path().join("oci")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => directories.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        files
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The usual settings, without the usual patience.
pub fn quick() -> Config {
    Config {
        pauses: vec![Duration::from_millis(1); 3],
        ..Config::default()
    }
}

pub fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub fn go_on(_: BlobProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub fn password(password: &str) -> Credentials {
    Credentials::Password {
        username: "kim".to_owned(),
        password: password.to_owned(),
    }
}

/// Notes every step that isn't merely more of the one before.
pub fn noting(steps: &mut Vec<BlobStep>) -> impl FnMut(BlobProgress) -> ControlFlow<()> + '_ {
    |progress| {
        if steps.last() != Some(&progress.step) {
            steps.push(progress.step);
        }
        ControlFlow::Continue(())
    }
}
