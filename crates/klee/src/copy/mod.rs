//! Copying files between here and containers.

mod download;
mod place;
mod plan;
mod remote;
mod upload;

pub use download::{download, download_archive};
pub use place::Place;
pub use upload::{upload, upload_archive};

/// How files are copied.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Keep owners, set-id bits and extended attributes.
    pub archive: bool,
    /// Copy what a symbolic link leads to in its place.
    pub follow: bool,
}
