//! Fills the trees of new base images: from archives, downloads, packages, and the host's own
//! programs. Fetches files for builds.
//!
//! What comes out of an archive is a stranger's, and goes to the disk through `kleene-tree` only,
//! which never follows a link out of the image.

mod archive;
mod auto;
mod bootstrap;
mod defaults;
mod error;
mod extras;
mod host;
mod progress;
mod settings;

use std::io::Read;
use std::path::Path;

use kleene_doors::userland::{
    Defaults, Downloaded, Extras, ProgressSink, Release, Source, Userland, UserlandError,
};
use kleene_types::Checksum;

use self::progress::Reporter;
pub use self::settings::{Host, SystemUserland};

impl Userland for SystemUserland {
    fn fill(
        &self,
        source: &Source,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        self.check_update(extras, matches!(source, Source::Host { .. }))?;
        let mut reporter = Reporter::new(progress);
        let defaults = match source {
            Source::Host { add } => {
                host::fill(self, add, into, &mut reporter)?;
                defaults::with_shell()
            }
            Source::Archive { url } => {
                archive::fill(&self.cache_dir, url, into, &mut reporter)?;
                defaults::of_tree(into)
            }
            Source::Auto if self.host.is_freebsd() => {
                auto::freebsd::fill(self, into, &mut reporter)?
            }
            Source::Auto | Source::Bootstrap => bootstrap::fill(self, into, &mut reporter)?,
        };
        self.finish(extras, into, &mut reporter)?;
        Ok(defaults)
    }

    fn fill_from(
        &self,
        from: &mut dyn Read,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        self.check_update(extras, false)?;
        let mut reporter = Reporter::new(progress);
        archive::fill_from(from, into, &mut reporter)?;
        self.finish(extras, into, &mut reporter)?;
        Ok(defaults::of_tree(into))
    }

    fn release(&self) -> Result<Release, UserlandError> {
        auto::release(&self.host).map_err(UserlandError::Unsupported)
    }

    fn download(
        &self,
        url: &str,
        checksum: Option<&Checksum>,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Downloaded, UserlandError> {
        let mut reporter = Reporter::new(progress);
        archive::save(self, url, checksum, into, &mut reporter)
    }
}

impl SystemUserland {
    /// Refuses updates that can't be installed, before anything else is done.
    fn check_update(&self, extras: Extras, of_host: bool) -> Result<(), UserlandError> {
        if !extras.update {
            return Ok(());
        }
        if !self.host.is_freebsd() {
            return Err(UserlandError::Unsupported(format!(
                "a new image can't be updated on {}: leave 'update' out, and run the package \
                 manager in a build or a container",
                self.host.system
            )));
        }
        if of_host {
            return Err(UserlandError::Invalid(
                "'update' doesn't belong to the method 'host': update the host itself".into(),
            ));
        }
        Ok(())
    }

    fn finish(
        &self,
        extras: Extras,
        into: &Path,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), UserlandError> {
        extras::apply(extras, into)?;
        if extras.update {
            auto::freebsd::update(self, into, reporter)?;
        }
        Ok(())
    }
}
