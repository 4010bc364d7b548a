//! Fills the trees of new base images: from archives, downloads, and the host's own programs.
//!
//! What comes out of an archive is a stranger's, and goes to the disk through `kleene-tree` only,
//! which never follows a link out of the image.

mod archive;
mod auto;
mod defaults;
mod error;
mod extras;
mod host;
mod progress;

use std::io::Read;
use std::path::{Path, PathBuf};

use kleene_doors::userland::{
    Defaults, Downloaded, Extras, ProgressSink, Release, Source, Userland, UserlandError,
};
use kleene_types::Checksum;

use self::progress::Reporter;

/// The userland room of this system.
#[derive(Debug, Clone)]
pub struct SystemUserland {
    cache_dir: PathBuf,
}

impl SystemUserland {
    /// Keeps unfinished downloads in `cache_dir`, which is made when it is needed.
    pub fn new(cache_dir: PathBuf) -> Self {
        Self { cache_dir }
    }
}

impl Userland for SystemUserland {
    fn fill(
        &self,
        source: &Source,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        let mut reporter = Reporter::new(progress);
        let defaults = match source {
            Source::Host { add } => {
                host::fill(add, into, &mut reporter)?;
                defaults::with_shell()
            }
            Source::Archive { url } => {
                archive::fill(&self.cache_dir, url, into, &mut reporter)?;
                defaults::of_tree(into)
            }
            Source::Auto | Source::Bootstrap => {
                let release = auto::this_host().map_err(UserlandError::Unsupported)?;
                archive::fill(&self.cache_dir, &release.url, into, &mut reporter)?;
                Defaults {
                    name: Some(release.name),
                    ..defaults::of_tree(into)
                }
            }
        };
        extras::apply(extras, into)?;
        Ok(defaults)
    }

    fn fill_from(
        &self,
        _from: &mut dyn Read,
        _extras: Extras,
        _into: &Path,
        _progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        Err(UserlandError::Unsupported(
            "filling an image from a stream isn't available yet".into(),
        ))
    }

    fn release(&self) -> Result<Release, UserlandError> {
        Err(UserlandError::Unsupported(
            "finding out the host's release isn't available yet".into(),
        ))
    }

    fn download(
        &self,
        _url: &str,
        _checksum: Option<&Checksum>,
        _into: &Path,
        _progress: ProgressSink<'_>,
    ) -> Result<Downloaded, UserlandError> {
        Err(UserlandError::Unsupported(
            "downloading files isn't available yet".into(),
        ))
    }
}
